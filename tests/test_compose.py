"""docker-compose.yaml as it is written: what it publishes, demands and limits. `make compose-test` brings it up."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from reindex.importers import IMPORTERS
from reindex.milvus import capabilities_of
from reindex.settings import PROJECT
from reindex.stack.environment import airflow_environment
from reindex.stack.ports import choose_ports
from reindex.stack.state import BUCKETS, SECRETS, STATE_BUCKET, StackState

TEXT = (PROJECT / "docker-compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OVERRIDE = yaml.safe_load((PROJECT / "tests/compose/override.yaml").read_text(encoding="utf-8"))["services"]
EXAMPLE = dict(re.findall(r"^(\w+)=(.*)$", (PROJECT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))
SECRET_VARIABLES = {name for name, value in EXAMPLE.items() if not value}
USES = re.findall(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}", TEXT)
STAYING = {name: service for name, service in SERVICES.items() if service["restart"] != "no"}
# What is of the place: addresses, the database, paths in the image.
OF_THE_PLACE = {
    "AIRFLOW_HOME",
    "AIRFLOW__API__BASE_URL",
    "AIRFLOW__API__HOST",
    "AIRFLOW__CORE__DAGS_FOLDER",
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
    "AIRFLOW__CORE__PLUGINS_FOLDER",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    # The embedded one's executor rests for the scheduler, where Airflow's tables are in SQLite.
    "AIRFLOW__CORE__EXECUTOR",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME",
}


def drawn_secrets() -> str:
    """Return what the documentation's command writes to `.env`."""
    page = (PROJECT / "docs" / "compose.md").read_text(encoding="utf-8")
    command = next(line for line in page.splitlines() if ".env.example > .env" in line)
    printing = command.replace("> .env", "")
    return subprocess.run(["sh", "-c", printing], cwd=PROJECT, capture_output=True, text=True, check=True).stdout


def test_nothing_but_airflow_is_published_and_by_default_on_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"airflow-api": ["${AIRFLOW_BIND:-127.0.0.1}:${AIRFLOW_PORT:-8080}:8080"]}
    assert not any(service.get("network_mode") == "host" for service in SERVICES.values())


def test_every_network_but_that_of_the_published_port_has_no_way_out() -> None:
    assert {name for name, network in COMPOSE["networks"].items() if not network.get("internal")} == {"published"}
    assert [name for name, service in SERVICES.items() if "published" in service.get("networks", [])] == ["airflow-api"]
    assert {name for name, service in SERVICES.items() if "networks" not in service} == {"volumes"}
    assert SERVICES["volumes"]["network_mode"] == "none"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_not_root_and_is_limited(name: str) -> None:
    service = SERVICES[name]
    assert int(service["user"].split(":")[0]) > 0
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit"} <= service.keys()
    assert not service.keys() & {"privileged", "cap_add", "devices", "container_name", "pid", "ipc"}


@pytest.mark.parametrize("name", STAYING)
def test_a_service_that_stays_is_started_again_and_asked_after_its_health(name: str) -> None:
    assert STAYING[name]["restart"] == "unless-stopped"
    assert {"test", "interval", "timeout", "retries", "start_period"} == STAYING[name]["healthcheck"].keys()


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned_by_its_version(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.[\w.-]+", SERVICES[name]["image"])


def test_our_image_is_built_once_from_a_base_that_can_be_named() -> None:
    assert [name for name, service in SERVICES.items() if "build" in service] == ["volumes"]
    assert SERVICES["volumes"]["build"]["args"]["BASE"] == "${BASE_IMAGE:-python:3.11-slim-bookworm}"
    sources = re.findall(r"^COPY (.+) \S+$", (PROJECT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    allowed = (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for source in " ".join(sources).split():
        assert (PROJECT / source).exists()
        assert f"!{source}" in allowed


def test_no_secret_has_a_default_and_each_that_is_missing_is_named() -> None:
    for secret in SECRET_VARIABLES:
        uses = {(kind, said) for name, kind, said in USES if name == secret}
        assert ("?", f"set {secret} in .env") in uses
        assert uses <= {("?", f"set {secret} in .env"), ("", "")}
    assert len(SECRET_VARIABLES) == len(SECRETS) + 1  # those of the embedded stack, and the database's
    assert not re.search(
        r"password|secret|token", "".join(said for _, kind, said in USES if kind == "-"), re.IGNORECASE
    )


def test_every_variable_is_in_the_example_with_its_default() -> None:
    assert {name for name, _, _ in USES} == EXAMPLE.keys()
    defaults = {name: said for name, kind, said in USES if kind == "-"}
    assert defaults.keys() | SECRET_VARIABLES == EXAMPLE.keys()
    differing = {name for name, value in defaults.items() if EXAMPLE[name] != value}
    assert differing == {"PIP_EXTRA_INDEX_URL"}


def test_the_command_of_the_documentation_draws_every_secret() -> None:
    drawn = dict(re.findall(r"^(\w+)=(.*)$", drawn_secrets(), re.MULTILINE))
    secrets = [drawn[name] for name in SECRET_VARIABLES]
    assert {name: drawn[name] for name in drawn if name not in SECRET_VARIABLES} == {
        name: value for name, value in EXAMPLE.items() if value
    }
    assert len(set(secrets)) == len(secrets)
    assert all(re.fullmatch(r"[\w=-]{40,}", secret) for secret in secrets)
    assert len(base64.urlsafe_b64decode(drawn["AIRFLOW_FERNET_KEY"])) == 32


def test_airflow_is_set_up_as_in_the_embedded_stack(tmp_path: Path) -> None:
    embedded = airflow_environment(embedded_state(tmp_path))
    ours = SERVICES["airflow-scheduler"]["environment"]
    assert embedded.keys() - ours.keys() == {
        "AIRFLOW_HOME", "AIRFLOW__CORE__DAGS_FOLDER", "AIRFLOW__CORE__PLUGINS_FOLDER",
    }  # fmt: skip
    for name, value in embedded.items():
        if name in OF_THE_PLACE or name.startswith("AIRFLOW_CONN_") or value == "a secret":
            continue
        assert ours[name] == value, name
    for name in ("S3", "MILVUS", "RAY"):
        theirs, here = (json.loads(each[f"AIRFLOW_CONN_REINDEX_{name}"]) for each in (embedded, ours))
        assert here.keys() == theirs.keys()
        assert here["extra"] == theirs["extra"] if "extra" in theirs else "extra" not in here
    assert all(
        SERVICES[name]["environment"].items() >= ours.items() for name in SERVICES if name.startswith("airflow-")
    )


def test_everything_agrees_on_the_state_bucket() -> None:
    assert SERVICES["milvus"]["environment"]["MINIO_BUCKETNAME"] == STATE_BUCKET
    assert SERVICES["ray-worker"]["environment"]["REINDEX_STATE_BUCKET"] == STATE_BUCKET
    assert STATE_BUCKET in BUCKETS


def test_the_tests_servers_change_images_and_what_comes_with_them() -> None:
    assert {name for name in OVERRIDE if "build" not in SERVICES[name]} == {"postgres", "seaweedfs", "etcd", "milvus"}
    assert {key for service in OVERRIDE.values() for key in service} == {
        "image",
        "command",
        "environment",
        "stop_signal",
    }
    assert OVERRIDE["milvus"]["environment"].keys() - SERVICES["milvus"]["environment"].keys() == {"LD_LIBRARY_PATH"}


def embedded_state(home: Path) -> StackState:
    secrets = dict.fromkeys(SECRETS, "a secret")
    return StackState(home=home, run=home, corpora=home, ports=choose_ports({}), secrets=secrets)


def test_the_milvus_that_it_names_is_one_that_a_run_takes() -> None:
    """And so is that of the values for Kubernetes."""
    chart = yaml.safe_load((PROJECT / "docs/kubernetes/milvus-values.yaml").read_text(encoding="utf-8"))
    for version in (SERVICES["milvus"]["image"].partition(":")[2], chart["image"]["all"]["tag"]):
        assert capabilities_of(version).importer in IMPORTERS

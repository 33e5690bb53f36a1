"""docker-compose.yaml as a whole, on a daemon of the tests' own: `make compose-test`, which calls `tests/compose/run`.

Not among the other tests, which need no root, by its name. The servers are those of `override.yaml`; the tests follow
upon each other.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.test_compose import drawn_secrets
from tests.test_live import write_documents

from reindex.settings import PROJECT

pytestmark = pytest.mark.timeout(900)

WORK = Path(os.environ["COMPOSE_TEST_FOLDER"])
DOCKER = "/usr/bin/docker"  # Debian's, whatever else is on the path
SOCKET = f"unix://{WORK}/docker.sock"
FILES = ["--file", "docker-compose.yaml", "--file", "tests/compose/override.yaml"]
PORT = "18080"
ONCE = {"airflow-migrate", "provision", "volumes"}
SERVERS = ["postgres", "etcd", "seaweedfs", "milvus", "ray-head", "ray-worker"]
AIRFLOW = ["airflow-api", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"]
HEALTHY_SECONDS = 300.0


class Compose:
    """docker-compose as a person would call it, with the secrets of a file that the documentation's command wrote."""

    def __init__(self, folder: Path) -> None:
        self.secrets = folder / ".env"
        self.secrets.write_text(drawn_secrets(), encoding="utf-8")
        self.corpora = folder / "corpora"
        self.corpora.mkdir()
        (self.corpora / "docs.yaml").write_text(
            "name: docs\nsource: {bucket: sources, prefix: docs/}\nretention: {grace_minutes: 0}\n", encoding="utf-8"
        )
        self.environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder),
            "DOCKER_HOST": SOCKET,
            "COMPOSE_PROJECT_NAME": "reindex-test",
            # The builder that needs nothing beside the daemon.
            "COMPOSE_DOCKER_CLI_BUILD": "0",
            "COMPOSE_HTTP_TIMEOUT": "600",
            "DOCKER_BUILDKIT": "0",
            "AIRFLOW_PORT": PORT,
            "BASE_IMAGE": "reindex-test-base:bookworm",
            "PIP_EXTRA_INDEX_URL": "",
            "REINDEX_CORPORA": str(self.corpora),
        }

    def __call__(self, *words: str, **changes: str) -> str:
        """Return what docker-compose prints; it must succeed."""
        done = self.attempt(*words, **changes)
        assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-2000:]
        return done.stdout

    def attempt(self, *words: str, secrets: Path | None = None, **changes: str) -> subprocess.CompletedProcess[str]:
        command = ["docker-compose", "--env-file", str(secrets or self.secrets), *FILES, *words]
        return run(command, self.environment | changes)

    def docker(self, *words: str) -> str:
        done = run([DOCKER, *words], self.environment)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    def containers(self) -> list[dict[str, Any]]:
        """Return what the daemon says of every container of the stack that runs."""
        names = self.docker("ps", "--quiet", "--filter", "label=com.docker.compose.project=reindex-test").split()
        return list(json.loads(self.docker("inspect", *names))) if names else []

    def staying(self) -> list[dict[str, Any]]:
        return [found for found in self.containers() if service_of(found) not in ONCE]

    def worker_seconds(self) -> dict[str, float]:
        """Return the seconds of a processor that each Ray worker has taken since it was started."""
        workers = [found["Id"] for found in self.staying() if service_of(found) == "ray-worker"]
        with httpx.Client(transport=httpx.HTTPTransport(uds=SOCKET.removeprefix("unix://"))) as daemon:
            asked = {"stream": "false", "one-shot": "true"}
            said = {name: daemon.get(f"http://docker/containers/{name}/stats", params=asked).json() for name in workers}
        return {name: stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9 for name, stats in said.items()}

    def wait_until_healthy(self, *, workers: int = 1) -> None:
        """Wait until each service has all its containers, and every one of them says that it is healthy."""
        expected = sorted([*SERVERS, *AIRFLOW, *["ray-worker"] * (workers - 1)])

        def states() -> list[tuple[str, str]]:
            return sorted((service_of(found), found["State"]["Health"]["Status"]) for found in self.staying())

        def say() -> str:
            return f"{states()}\n{self.attempt('logs', '--tail', '20').stdout}"

        wait_until(lambda: states() == [(name, "healthy") for name in expected], HEALTHY_SECONDS, say)

    def reindex(self, *words: str, volume: str = "") -> Any:
        """Return the JSON that the command line prints in a container of its own."""
        mounts = ["--volume", volume] if volume else []
        return json.loads(self("run", "--rm", "-T", *mounts, "cli", *words, "--json"))

    def answers(self, question: str) -> list[str]:
        """Return the documents that a search finds; none while Milvus is not back yet."""
        done = self.attempt("run", "--rm", "-T", "cli", "search", "docs", question, "-k", "3", "--json")
        return [hit["document"] for hit in json.loads(done.stdout)] if done.returncode == 0 else []


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def service_of(container: dict[str, Any]) -> str:
    return str(container["Config"]["Labels"]["com.docker.compose.service"])


def wait_until(holds: Callable[[], Any], seconds: float, say: Callable[[], Any] = lambda: "") -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it never came about: {say()}"
        time.sleep(1)


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """Start a daemon and give it the images; end it, and whatever it runs, by its id."""
    made = Compose(tmp_path_factory.mktemp("compose"))
    folders = ["--data-root", WORK / "data", "--exec-root", WORK / "exec", "--pidfile", WORK / "docker.pid"]
    folders += ["--cgroup-parent", "/reindex-compose-test"]
    with (
        (WORK / "dockerd.log").open("wb") as log,
        subprocess.Popen(["/usr/sbin/dockerd", "--host", SOCKET, *folders], stdout=log, stderr=log) as daemon,
    ):
        try:
            wait_until(lambda: run([DOCKER, "info"], made.environment).returncode == 0, 60)
            import_root("base", made)
            import_root("packages", made)
            made.docker("build", "--tag", "reindex-test-servers:bookworm", "tests/compose/servers")
            yield made
            made("down", "--volumes", "--timeout", "30")
            assert made.docker("ps", "--all", "--quiet") == ""
        finally:
            daemon.terminate()
            daemon.wait(60)


def import_root(name: str, compose: Compose) -> None:
    """Make an image of a root that debootstrap has made."""
    with subprocess.Popen(["tar", "-C", WORK / name, "-c", "."], stdout=subprocess.PIPE) as archive:
        image = f"reindex-test-{name}:bookworm"
        subprocess.run(
            [DOCKER, "import", "-", image],
            env=compose.environment,
            stdin=archive.stdout,
            check=True,
            capture_output=True,
        )
    shutil.rmtree(WORK / name)


def test_compose_refuses_to_start_without_a_secret_and_names_it(compose: Compose, tmp_path: Path) -> None:
    secrets = compose.secrets.read_text(encoding="utf-8")
    for name in re.findall(r"^(\w+)=\S{40,}$", secrets, re.MULTILINE):
        lacking = tmp_path / "lacking.env"
        lacking.write_text(re.sub(rf"^{name}=.*$", f"{name}=", secrets, flags=re.MULTILINE), encoding="utf-8")
        refused = compose.attempt("up", "--detach", secrets=lacking)
        assert refused.returncode != 0
        assert f"set {name} in .env" in refused.stderr
    assert compose.containers() == []


def test_the_stack_comes_up_from_nothing(compose: Compose) -> None:
    compose("build")
    compose("up", "--detach")
    compose.wait_until_healthy()
    ended = compose.docker(
        "ps", "--all", "--filter", "status=exited", "--format", '{{.Label "com.docker.compose.service"}} {{.Status}}'
    )
    assert {line.split()[0] for line in ended.splitlines()} == ONCE
    assert all("Exited (0)" in line for line in ended.splitlines())


def test_nothing_runs_as_root_or_could_become_it(compose: Compose) -> None:
    for container in compose.staying():
        status = Path(f"/proc/{container['State']['Pid']}/status").read_text(encoding="utf-8")
        said = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert set(said["Uid"].split()) == {container["Config"]["User"].split(":")[0]} != {"0"}
        assert (int(said["CapBnd"], 16), int(said["CapEff"], 16), said["NoNewPrivs"]) == (0, 0, "1")
        assert container["HostConfig"]["Memory"] > 0


def test_only_airflow_is_published_and_on_the_loopback(compose: Compose) -> None:
    published = {
        service_of(container): bindings
        for container in compose.containers()
        if (bindings := [each for each in container["NetworkSettings"]["Ports"].values() if each])
    }
    assert published == {"airflow-api": [[{"HostIp": "127.0.0.1", "HostPort": PORT}]]}
    assert httpx.get(f"http://127.0.0.1:{PORT}/api/v2/monitor/health").json()["metadatabase"]["status"] == "healthy"


def test_a_worker_that_parses_documents_reaches_neither_the_database_nor_the_internet(compose: Compose) -> None:
    reach = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"
    worker = next(found["Id"] for found in compose.containers() if service_of(found) == "ray-worker")
    database = next(found for found in compose.containers() if service_of(found) == "postgres")
    addresses = [network["IPAddress"] for network in database["NetworkSettings"]["Networks"].values()]
    for host, port in [
        ("seaweedfs", "8333"),
        ("postgres", "5432"),
        (addresses[0], "5432"),
        ("etcd", "2379"),
        ("192.0.2.1", "80"),
    ]:
        done = run([DOCKER, "exec", worker, "python", "-c", reach, host, port], compose.environment)
        assert (done.returncode == 0) == (host == "seaweedfs"), f"{host}: {done.stderr}"


def test_a_release_is_built_verified_promoted_and_searched(compose: Compose, tmp_path: Path) -> None:
    write_documents(tmp_path / "documents", 30)
    put = compose.reindex("put", "docs", "/documents", volume=f"{tmp_path}/documents:/documents:ro")
    assert put["copied"] == 30
    report = compose.reindex("run", "docs")
    assert report["listed"] == report["indexed"] == 30
    assert report["promoted"]
    assert compose.answers("Report 7 says of the comets of station 259")
    assert compose.reindex("run", "docs")["outcome"] == "unchanged"


def test_people_log_in_from_outside_as_who_they_are(compose: Compose) -> None:
    secrets = dict(
        line.split("=", 1) for line in compose.secrets.read_text(encoding="utf-8").splitlines() if "=" in line
    )
    for user, password in [
        ("admin", secrets["AIRFLOW_ADMIN_PASSWORD"]),
        ("viewer", secrets["AIRFLOW_VIEWER_PASSWORD"]),
    ]:
        login = {"username": user, "password": password}
        assert httpx.post(f"http://127.0.0.1:{PORT}/auth/token", json=login).status_code == httpx.codes.CREATED
        login["password"] = password[::-1]
        assert httpx.post(f"http://127.0.0.1:{PORT}/auth/token", json=login).status_code == httpx.codes.UNAUTHORIZED


def test_a_second_worker_joins_and_both_do_a_release(compose: Compose, tmp_path: Path) -> None:
    compose("up", "--detach", "--scale", "ray-worker=2")
    compose.wait_until_healthy(workers=2)
    write_documents(tmp_path / "documents", 150)  # more than a job embeds in its own process
    compose.reindex("put", "docs", "/documents", volume=f"{tmp_path}/documents:/documents:ro")
    before = compose.worker_seconds()
    report = compose.reindex("run", "docs")
    assert (report["indexed"], report["promoted"]) == (150, True)
    worked = [seconds - before[worker] for worker, seconds in compose.worker_seconds().items()]
    assert min(worked) > 0.25 * sum(worked), worked


@pytest.mark.parametrize("service", SERVERS + AIRFLOW)
def test_any_service_may_be_started_again(compose: Compose, service: str) -> None:
    compose("restart", "--timeout", "30", service)
    compose.wait_until_healthy(workers=2)
    wait_until(lambda: compose.answers("Report 7 says of the comets of station 259"), 120)


def test_a_release_goes_through_after_all_of_that(compose: Compose) -> None:
    report = compose.reindex("run", "docs", "--rebuild")
    assert (report["indexed"], report["promoted"]) == (150, True)


def test_state_outlives_the_containers(compose: Compose) -> None:
    releases = compose.reindex("releases", "docs")
    compose("down", "--timeout", "30")
    assert compose.containers() == []
    compose("up", "--detach")
    compose.wait_until_healthy()
    wait_until(lambda: compose.answers("Report 7 says of the comets of station 259"), 120)
    assert compose.reindex("releases", "docs") == releases
    assert compose.reindex("run", "docs")["outcome"] == "unchanged"

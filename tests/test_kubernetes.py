"""What docs/kubernetes says is what Kubernetes takes, what Reindex reads, and what the page tells of it.

No cluster, and no chart: what the charts make of their values is put together here as their templates do.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from reindex.milvus import capabilities_of
from reindex.settings import PROJECT, milvus_connection, s3_connection, state_bucket
from reindex.stack.environment import airflow_environment, milvus_environment, ray_environment
from reindex.stack.state import SECRETS, StackState, client_environment

_SPEC = importlib.util.spec_from_file_location("cost_model", PROJECT / "benchmarks" / "cost_model.py")
assert _SPEC
assert _SPEC.loader
cost_model = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(cost_model)
FOLDER = PROJECT / "docs" / "kubernetes"
PAGE = (PROJECT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
VALUES = {name: yaml.safe_load((FOLDER / f"{name}-values.yaml").read_text("utf-8")) for name in ("airflow", "milvus")}
MANIFESTS = [
    manifest
    for file in sorted(FOLDER.glob("*.yaml"))
    if not file.name.endswith("-values.yaml")
    for manifest in yaml.safe_load_all(file.read_text(encoding="utf-8"))
]
# What the charts and KubeRay name their pods by, and where these listen.
AIRFLOW_PODS = {
    "scheduler": ("scheduler", {8793}),
    "triggerer": ("triggerer", {8794}),
    "apiServer": ("api-server", {8080}),
    "dagProcessor": ("dag-processor", set()),
    "migrateDatabaseJob": ("run-airflow-migrations", set()),
}
MILVUS_LABELS = {"app.kubernetes.io/name": "milvus", "app.kubernetes.io/instance": "milvus", "component": "standalone"}
MILVUS_PORTS = {19530, 9091}
# Placeholders of documentation's own addresses, and what they stand for.
ELSEWHERE = {"192.0.2.0/29": "object store", "192.0.2.10/32": "PostgreSQL", "kube-system": "name server"}
STACK = StackState(
    home=Path("/home"),
    run=Path("/run"),
    corpora=Path("/corpora"),
    ports=dict.fromkeys(("airflow", "milvus", "milvus_metrics", "ray", "ray_dashboard_metrics", "s3"), 1),
    secrets=dict.fromkeys(SECRETS, "secret"),
    milvus_memory_bytes=1,
)

Pod = dict[str, Any]
Flow = tuple[str, str, str]


def of_kind(kind: str) -> dict[str, Any]:
    return {manifest["metadata"]["name"]: manifest for manifest in MANIFESTS if manifest["kind"] == kind}


def airflow_pod(component: str) -> Pod:
    values, settings = VALUES["airflow"], VALUES["airflow"][component]
    label, ports = AIRFLOW_PODS[component]
    image = values["images"]["airflow"]
    container = {
        "name": label,
        "image": f"{image['repository']}:{image['tag']}",
        "args": settings.get("args", []),
        "env": values["env"] + settings.get("env", []),
        "ports": [{"containerPort": port} for port in ports],
        "resources": settings["resources"],
        "securityContext": values["securityContexts"]["containers"],
        "volumeMounts": values["volumeMounts"] + settings.get("extraVolumeMounts", []),
    }
    if "livenessProbe" in settings:
        container["livenessProbe"] = {"exec": settings["livenessProbe"]}
    spec = {
        "serviceAccountName": settings["serviceAccount"]["name"],
        "securityContext": values["securityContexts"]["pod"],
        "containers": [container],
        "volumes": values["volumes"] + settings.get("extraVolumes", []),
    }
    return {"metadata": {"labels": {"tier": "airflow", "release": "airflow", "component": label}}, "spec": spec}


def milvus_pod() -> Pod:
    values = VALUES["milvus"]
    container = {
        "name": "standalone",
        "image": f"milvusdb/milvus:{values['image']['all']['tag']}",
        "env": values["standalone"]["extraEnv"],
        "ports": [{"containerPort": port} for port in MILVUS_PORTS],
        "resources": values["standalone"]["resources"],
        "securityContext": values["containerSecurityContext"],
        "volumeMounts": values["volumeMounts"],
    }
    spec = {
        "serviceAccountName": values["serviceAccount"]["name"],
        "securityContext": values["securityContext"],
        "containers": [container],
        "volumes": values["volumes"],
    }
    return {"metadata": {"labels": MILVUS_LABELS}, "spec": spec}


def ray_groups() -> dict[str, dict[str, Any]]:
    cluster = of_kind("RayCluster")["reindex"]["spec"]
    (workers,) = cluster["workerGroupSpecs"]
    return {"ray-head": cluster["headGroupSpec"], "ray-worker": workers}


def ray_pod(name: str) -> Pod:
    labels = {"ray.io/cluster": "reindex", "ray.io/node-type": name.removeprefix("ray-")}
    return {"metadata": {"labels": labels}, "spec": ray_groups()[name]["template"]["spec"]}


PODS: dict[str, Pod] = {
    **{label: airflow_pod(component) for component, (label, _) in AIRFLOW_PODS.items()},
    **{name: ray_pod(name) for name in ray_groups()},
    "milvus": milvus_pod(),
    "milvus-password": of_kind("Job")["milvus-password"]["spec"]["template"],
}


def container_of(pod: Pod) -> dict[str, Any]:
    (container,) = pod["spec"]["containers"]
    return dict(container)


def value_of(entry: dict[str, Any], known: dict[str, str]) -> str:
    """Return what Kubernetes makes of one variable: a secret is called after its key, $() is what came before it."""
    if "value" in entry:
        return re.sub(r"\$\((\w+)\)", lambda match: known[match[1]], entry["value"])
    source = entry["valueFrom"]
    if "secretKeyRef" in source:
        return f"{source['secretKeyRef']['name']}-{source['secretKeyRef']['key']}"
    reference = source["configMapKeyRef"]
    return str(of_kind("ConfigMap")[reference["name"]]["data"][reference["key"]])


def environment_of(pod: Pod) -> dict[str, str]:
    container = container_of(pod)
    known: dict[str, str] = {}
    for entry in container.get("env", []):
        known[entry["name"]] = value_of(entry, known)
    for source in container.get("envFrom", []):
        known |= of_kind("ConfigMap")[source["configMapRef"]["name"]]["data"]
    return known


def references(kind: str) -> set[tuple[str, str]]:
    entries = [entry.get("valueFrom", {}) for pod in PODS.values() for entry in container_of(pod).get("env", [])]
    return {(source[kind]["name"], source[kind]["key"]) for source in entries if kind in source}


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
@pytest.mark.parametrize(
    "manifest", MANIFESTS, ids=lambda manifest: f"{manifest['kind']}-{manifest['metadata']['name']}"
)
def test_a_manifest_is_what_its_schema_says(manifest: dict[str, Any], version: str) -> None:
    if manifest["kind"] == "RayCluster":
        assert manifest["apiVersion"] == "ray.io/v1"  # whose schema no package brings: see its pods below
    else:
        kubernetes_validate.validate(manifest, version, strict=True)
    assert manifest["metadata"].get("namespace", "reindex") == "reindex"


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_what_the_schema_of_pods_says(name: str, version: str) -> None:
    pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": PODS[name]}
    kubernetes_validate.validate(pod, version, strict=True)
    mounted = {mount["name"] for mount in container_of(PODS[name]).get("volumeMounts", [])}
    assert mounted == {volume["name"] for volume in PODS[name]["spec"].get("volumes", [])}


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_no_more_rights_than_it_needs(name: str) -> None:
    spec, container = PODS[name]["spec"], container_of(PODS[name])
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert of_kind("ServiceAccount")[spec["serviceAccountName"]]["automountServiceAccountToken"] is False
    assert spec.get("automountServiceAccountToken", False) is False
    for sort in ("requests", "limits"):
        assert {"cpu", "memory"} <= set(container["resources"][sort])


def test_nobody_has_a_role() -> None:
    assert {manifest["kind"] for manifest in MANIFESTS if "Role" in manifest["kind"]} == set()
    assert VALUES["airflow"]["rbac"]["create"] is False
    accounts = [VALUES["airflow"][component]["serviceAccount"] for component in AIRFLOW_PODS]
    accounts.append(VALUES["milvus"]["serviceAccount"])
    assert [account["create"] for account in accounts] == [False] * len(accounts)


def test_every_secret_and_setting_that_a_pod_refers_to_exists() -> None:
    secrets = {(name, key) for name, secret in of_kind("Secret").items() for key in secret["data"]}
    settings = {(name, key) for name, settings in of_kind("ConfigMap").items() for key in settings["data"]}
    by_chart = {"connection", "fernet-key", "api-secret-key", "jwt-secret", "passwords.json"}
    airflow = VALUES["airflow"]
    names = ("fernetKeySecretName", "apiSecretKeySecretName", "jwtSecretName")
    assert {airflow["data"]["metadataSecretName"], *(airflow[name] for name in names)} == {"reindex-airflow"}
    assert references("secretKeyRef") | {("reindex-airflow", key) for key in by_chart} == secrets
    assert references("configMapKeyRef") <= settings


def test_the_example_secrets_hold_nothing_that_works() -> None:
    for secret in of_kind("Secret").values():
        for value in secret["data"].values():
            with pytest.raises(binascii.Error):
                base64.b64decode(value, validate=True)


def test_the_commands_of_the_page_make_the_secrets_of_the_example() -> None:
    made: dict[str, set[str]] = {}
    for command in re.findall(r"kubectl create secret generic (?:.+\\\n)*.+", PAGE):
        name = command.split()[4]
        made[name] = set(re.findall(r"--from-(?:literal|file)=([\w.-]+)=", command))
    assert made == {name: set(secret["data"]) for name, secret in of_kind("Secret").items()}


def test_every_variable_is_one_that_reindex_knows() -> None:
    sources = ("settings.py", "stack/state.py", "stack/environment.py")
    code = "".join((PROJECT / "include" / "reindex" / source).read_text(encoding="utf-8") for source in sources)
    known = set(re.findall(r"REINDEX_[A-Z0-9_]+", code))
    used = {name for pod in PODS.values() for name in environment_of(pod) if name.startswith("REINDEX_")}
    assert used <= known
    assert set(of_kind("ConfigMap")["reindex"]["data"]) <= known


@pytest.mark.parametrize("name", ["ray-head", "ray-worker"])
def test_ray_has_what_a_job_reads_and_what_the_embedded_ray_has(name: str) -> None:
    environment = environment_of(PODS[name])
    assert s3_connection(environment).secret_key == "reindex-s3-secret-key"
    assert milvus_connection(environment).token == "root:reindex-milvus-password"
    assert state_bucket(environment) == VALUES["milvus"]["externalS3"]["bucketName"]
    here_only = {"REINDEX_HOME", "REINDEX_CORPORA", "REINDEX_RAY_URL", "REINDEX_RAY_TOKEN"}
    here_only |= {variable for variable in client_environment(STACK) if variable.startswith("REINDEX_AIRFLOW")}
    assert set(client_environment(STACK)) - here_only <= set(environment)
    one_machine_only = {
        "DASHBOARD_METRIC_PORT",
        "METRICS_RECORD_INTERVAL_S",
        "NODE_STATS_UPDATE_INTERVAL_SECONDS",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S",
        "REPORTER_UPDATE_INTERVAL_MS",
    }
    assert set(ray_environment(STACK)) - one_machine_only <= set(environment)


@pytest.mark.parametrize("name", ["scheduler", "triggerer", "api-server"])
def test_airflow_has_the_connections_that_the_embedded_airflow_has(name: str) -> None:
    environment = environment_of(PODS[name])
    theirs = {key: value for key, value in airflow_environment(STACK).items() if key.startswith("AIRFLOW_CONN_")}
    assert {key for key in environment if key.startswith("AIRFLOW_CONN_")} == set(theirs)
    for key, value in theirs.items():
        ours, expected = json.loads(environment[key]), json.loads(value)
        assert set(ours) == set(expected)
        assert set(ours.get("extra", {})) == set(expected.get("extra", {}))
        assert "$" not in environment[key]


@pytest.mark.parametrize("name", ["dag-processor", "run-airflow-migrations"])
def test_who_only_reads_dags_knows_no_secret(name: str) -> None:
    assert [entry["name"] for entry in container_of(PODS[name])["env"] if "valueFrom" in entry] == []
    assert set(client_environment(STACK)) & set(environment_of(PODS[name])) <= {"REINDEX_CORPORA"}


def test_milvus_is_set_as_the_embedded_one_is() -> None:
    ours, theirs = environment_of(PODS["milvus"]), milvus_environment(STACK)
    assert set(theirs) - set(ours) == {name for name in theirs if name.endswith("_IP")} | {"LD_LIBRARY_PATH"}
    assert set(ours) - set(theirs) == {"ETCD_DATA_DIR", "ETCD_USE_EMBED", "MINIO_USESSL"}
    elsewhere = {"ETCD_CONFIG_PATH", "METRICS_PORT"} | {name for name in theirs if name.startswith("MINIO_")}
    alike = set(ours) & set(theirs) - elsewhere
    assert {name: ours[name] for name in alike} == {name: theirs[name] for name in alike}


def test_milvus_finds_the_store_that_reindex_uses() -> None:
    ours, store = environment_of(PODS["milvus"]), VALUES["milvus"]["externalS3"]
    settings = of_kind("ConfigMap")["reindex"]["data"]
    assert f"https://{ours['MINIO_ADDRESS']}" == settings["REINDEX_S3_ENDPOINT"]
    assert ours["MINIO_BUCKETNAME"] == settings["REINDEX_STATE_BUCKET"]
    assert [ours["MINIO_ADDRESS"], ours["MINIO_PORT"], ours["MINIO_BUCKETNAME"], ours["MINIO_ROOTPATH"]] == [
        store[key] for key in ("host", "port", "bucketName", "rootPath")
    ]
    limit = VALUES["milvus"]["standalone"]["resources"]["limits"]["memory"]
    assert int(settings["REINDEX_MILVUS_MEMORY_BYTES"]) == gibibytes(limit)


def test_milvus_has_room_for_as_many_chunks_as_the_page_says() -> None:
    (millions,) = re.findall(r"for ([\d.]+) million chunks", PAGE)
    usable = cost_model.USABLE_SHARE * gibibytes(VALUES["milvus"]["standalone"]["resources"]["limits"]["memory"])
    assert 2 * hnsw_bytes(float(millions)) <= usable < 2 * hnsw_bytes(float(millions) + 0.5)


def hnsw_bytes(million_chunks: float) -> int:
    return int(cost_model.forecast(round(million_chunks * 1e6), cost_model.INDEXES["HNSW"]).green_bytes)


def gibibytes(quantity: str) -> int:
    return int(quantity.removesuffix("Gi")) * 2**30


def test_etcd_reads_the_file_that_is_mounted_for_it() -> None:
    (mount,) = [mount for mount in VALUES["milvus"]["volumeMounts"] if mount["name"] == "etcd-config"]
    (key,) = of_kind("ConfigMap")["milvus-etcd"]["data"]
    assert environment_of(PODS["milvus"])["ETCD_CONFIG_PATH"] == f"{mount['mountPath']}/{key}"
    etcd = yaml.safe_load(of_kind("ConfigMap")["milvus-etcd"]["data"][key])
    assert [etcd[name] for name in ("listen-client-urls", "listen-peer-urls")] == [
        "http://127.0.0.1:2379",
        "http://127.0.0.1:2380",
    ]


def test_versions_are_those_that_are_installed() -> None:
    pins = dict(
        re.findall(r"^([\w-]+)(?:\[.*\])?==(.+)$", (PROJECT / "requirements.txt").read_text("utf-8"), re.MULTILINE)
    )
    assert VALUES["airflow"]["airflowVersion"] == pins["apache-airflow"]
    assert of_kind("RayCluster")["reindex"]["spec"]["rayVersion"] == pins["ray"]
    tag = VALUES["milvus"]["image"]["all"]["tag"]
    assert tag == f"v{pins['milvus']}"
    assert capabilities_of(tag).importer == "grpc"
    assert len({container_of(pod)["image"] for name, pod in PODS.items() if name != "milvus"}) == 1


def test_ray_listens_where_its_pods_say() -> None:
    head, worker = (ray_groups()[name] for name in ("ray-head", "ray-worker"))
    ports = {name for name in head["rayStartParams"] if name.endswith("-port")} - {"port"}
    assert {name: head["rayStartParams"][name] for name in ports} == {
        name: worker["rayStartParams"][name] for name in ports
    }
    inside_the_pod = {"runtime-env-agent-port", "min-worker-port", "max-worker-port"}
    for name, group in ray_groups().items():
        started = {int(group["rayStartParams"][port]) for port in ports - inside_the_pod}
        extra = {6379, 8265} if name == "ray-head" else set()
        assert {port["containerPort"] for port in container_of(PODS[name])["ports"]} == started | extra
        assert container_of(PODS[name])["readinessProbe"]["httpGet"]["port"] in started | extra


def test_tasks_of_ray_may_reserve_what_its_workers_have() -> None:
    parameters, resources = ray_groups()["ray-worker"]["rayStartParams"], container_of(PODS["ray-worker"])["resources"]
    assert int(parameters["memory"]) == gibibytes(resources["limits"]["memory"]) - 4 * 2**30
    assert int(parameters["object-store-memory"]) < 4 * 2**30
    assert ray_groups()["ray-head"]["rayStartParams"]["num-cpus"] == "0"


def listens(name: str) -> set[int]:
    ports = {port["containerPort"] for port in container_of(PODS[name]).get("ports", [])}
    if name in ray_groups():
        parameters = ray_groups()[name]["rayStartParams"]
        ports |= set(range(int(parameters["min-worker-port"]), int(parameters["max-worker-port"]) + 1))
    return ports


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    assert {rule["operator"] for rule in selector.get("matchExpressions", [])} <= {"In"}
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(rule["key"]) in rule["values"] for rule in selector.get("matchExpressions", [])
    )


def selected(selector: dict[str, Any]) -> set[str]:
    return {name for name, pod in PODS.items() if selects(selector, pod["metadata"]["labels"])}


def peers(peer: dict[str, Any]) -> set[str]:
    """Return the pods of this namespace that a peer of a rule means, or the name of what is elsewhere."""
    if "ipBlock" in peer:
        return {ELSEWHERE[peer["ipBlock"]["cidr"]]}
    if "namespaceSelector" in peer:
        ((_, name),) = peer["namespaceSelector"]["matchLabels"].items()
        return {ELSEWHERE.get(name, "other namespaces")}
    return selected(peer["podSelector"])


def ports_of(rule: dict[str, Any]) -> set[str]:
    return {f"{port['port']}-{port['endPort']}" if "endPort" in port else str(port["port"]) for port in rule["ports"]}


def flows(direction: str) -> set[Flow]:
    """Return what the rules of one direction let through, as who speaks to whom at which ports."""
    side = {"ingress": "from", "egress": "to"}[direction]
    found = set()
    for policy in of_kind("NetworkPolicy").values():
        for rule in policy["spec"].get(direction, []):
            others = set().union(*(peers(peer) for peer in rule[side]))
            for pod in selected(policy["spec"]["podSelector"]):
                ends = [(pod, other) if direction == "egress" else (other, pod) for other in others]
                found |= {(*pair, ports) for pair in ends for ports in ports_of(rule)}
    return found


def test_everything_is_shut_first() -> None:
    spec = of_kind("NetworkPolicy")["default-deny"]["spec"]
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, policy in of_kind("NetworkPolicy").items():
        assert selected(policy["spec"]["podSelector"]), f"{name} is about no pod"
        for direction in ("ingress", "egress"):
            assert (direction in policy["spec"]) <= (direction.capitalize() in policy["spec"]["policyTypes"])


def test_whoever_is_let_out_is_let_in_and_the_other_way_round() -> None:
    inside = {(name, other) for name in PODS for other in PODS}
    outgoing = {flow for flow in flows("egress") if flow[:2] in inside}
    incoming = {flow for flow in flows("ingress") if flow[:2] in inside}
    assert outgoing == incoming
    assert {name for flow in outgoing for name in flow[:2]} == set(PODS) - {"dag-processor", "run-airflow-migrations"}


def test_a_policy_opens_no_port_at_which_nobody_listens() -> None:
    for _, name, ports in flows("ingress"):
        first, _, last = ports.partition("-")
        assert set(range(int(first), int(last or first) + 1)) <= listens(name)


def test_the_page_says_who_may_talk_to_whom() -> None:
    told = set()
    for who, whom, ports in re.findall(r"^\| (.+) \| (.+) \| ([\d, -]+) \|$", PAGE, re.MULTILINE):
        names = set(PODS) if who == "all" else set(who.split(", "))
        told |= {(name, other, port) for name in names for other in whom.split(", ") for port in re.split(", ", ports)}
    assert told == flows("egress") | flows("ingress")


def test_the_page_names_every_file() -> None:
    for file in FOLDER.iterdir():
        assert f"kubernetes/{file.name}" in PAGE


# In a process of its own: Airflow reads its settings when it is imported.
ASK_AIRFLOW = """
import json, sys
from airflow.configuration import conf
from reindex_airflow import hooks

config = json.loads(sys.argv[1])
unknown = [
    f"{section}.{key}"
    for section, keys in config.items()
    for key in keys
    if key not in conf.configuration_description[section]["options"]
]
services = hooks.services()
print("\\n" + json.dumps({"unknown": unknown, "s3": services.s3.endpoint, "region": services.s3.region,
    "bucket": services.state_bucket, "token": services.milvus.token, "bytes": services.milvus.memory_bytes,
    "ray": services.ray.url, "manager": conf.get("core", "auth_manager")}))
"""


@pytest.mark.airflow
@pytest.mark.timeout(300)
def test_airflow_itself_understands_its_settings_and_connections(tmp_path: Path) -> None:
    config = VALUES["airflow"]["config"]
    settings = {
        f"AIRFLOW__{section.upper()}__{key.upper()}": value
        for section, keys in config.items()
        for key, value in keys.items()
    }
    path = f"{PROJECT / 'include'}:{PROJECT / 'plugins'}"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "AIRFLOW_HOME": str(tmp_path), "HOME": str(tmp_path)}
    answer = subprocess.run(
        [sys.executable, "-c", ASK_AIRFLOW, json.dumps(config)],
        env={**environment_of(PODS["scheduler"]), **settings, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    known = of_kind("ConfigMap")["reindex"]["data"]
    assert json.loads(answer.stdout.splitlines()[-1]) == {
        "unknown": [],
        "s3": known["REINDEX_S3_ENDPOINT"],
        "region": known["REINDEX_S3_REGION"],
        "bucket": known["REINDEX_STATE_BUCKET"],
        "token": "root:reindex-milvus-password",
        "bytes": int(known["REINDEX_MILVUS_MEMORY_BYTES"]),
        "ray": known["REINDEX_RAY_URL"],
        "manager": config["core"]["auth_manager"],
    }

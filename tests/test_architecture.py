"""The direction of imports: foundations, tables, stages, jobs and command line, Airflow's edge, DAGs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from reindex.settings import PROJECT

LIBRARY = PROJECT / "include" / "reindex"
LAYERS = [
    {"errors"},
    {"naming", "openvino_engine", "priority", "index_types", "rates", "groups", "charts", "judgements"},
    {"settings", "records", "ledger", "report"},
    {"permissions", "versions", "version_pages", "slices", "corpus_reference"},
    {"storage", "exact", "recall", "relevance", "forecast", "questions"},
    {"store", "scan"},
    {"releases", "tables", "tombstones", "latency", "ranking"},
    {"parts", "copies", "erasures", "traces", "tuning", "golden", "brake"},
    {"parsers", "overlap", "recount", "live_search"},
    {"parse", "importers", "milvus", "switch", "sweep"},
    {"chunk", "nursery"},
    {"fidelity"},
    {"gates"},
    {"bench"},
    {"beside"},
    {"judged"},
    {"reading", "sandbox"},
    {"embedders"},
    {"prepare", "live_index"},
    {"embed_worker"},
    {
        "snapshot",
        "plan",
        "embed",
        "assemble",
        "bulk_load",
        "index",
        "verify",
        "check",
        "promote",
        "rollback",
        "retire",
        "erase",
        "explain",
        "evaluate",
    },
    {"noise", "cluster", "standing"},
    {"jobs", "runs", "stack", "probe", "sample_corpus", "display", "overview", "upload", "site", "signals"},
    {"cli"},
]
LAYER_OF = {module: number for number, layer in enumerate(LAYERS) for module in layer}
ONE_HOME = {
    "pymilvus": "include/reindex/milvus.py",
    "ray": "include/reindex/cluster.py",
    "duckdb": "include/reindex/tables.py",
    "openvino": "include/reindex/openvino_engine.py",
}
# The stack waits for its own servers with their own clients: it is not the library that runs the stages.
STACK = "include/reindex/stack"


def imports(file: Path) -> set[str]:
    """Return the dotted names that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def sources() -> list[Path]:
    return [file for folder in ("include", "plugins", "dags") for file in sorted((PROJECT / folder).rglob("*.py"))]


def test_every_module_has_its_layer() -> None:
    modules = {path.stem for path in LIBRARY.iterdir() if path.suffix == ".py" or path.name in {"parsers", "stack"}}
    assert modules - {"__init__"} == set(LAYER_OF)


@pytest.mark.parametrize("file", sorted(LIBRARY.glob("*.py")), ids=lambda file: file.stem)
def test_a_module_imports_only_from_layers_below_it(file: Path) -> None:
    inner = {name.split(".")[1] for name in imports(file) if name.startswith("reindex.")}
    own = LAYER_OF.get(file.stem, -1)
    assert {name for name in inner if LAYER_OF[name] >= own} == set()


@pytest.mark.parametrize("file", sorted((LIBRARY / "parsers").glob("*.py")), ids=lambda file: file.stem)
def test_a_parser_imports_from_no_layer_above_the_parsers(file: Path) -> None:
    inner = {name.split(".")[1] for name in imports(file) if name.startswith("reindex.")}
    assert {name for name in inner if LAYER_OF[name] > LAYER_OF["parsers"]} == set()


@pytest.mark.parametrize("package", ONE_HOME)
def test_each_outside_thing_has_one_home(package: str) -> None:
    users = {
        str(file.relative_to(PROJECT)) for file in sources() if any(n.split(".")[0] == package for n in imports(file))
    }
    assert {user for user in users if not user.startswith(STACK)} == {ONE_HOME[package]}


def test_airflow_is_imported_under_dags_and_plugins_alone() -> None:
    users = {file for file in sources() if any(name.split(".")[0] == "airflow" for name in imports(file))}
    assert {file.relative_to(PROJECT).parts[0] for file in users} == {"dags", "plugins"}

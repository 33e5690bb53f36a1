"""The pages in Airflow, asked for through Airflow's own application and log-in; only the bucket is in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.test_airflow import look

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]

ASK = """
import json
import jwt
from types import SimpleNamespace
from airflow.utils.db import initdb
initdb()
from airflow.api_fastapi.app import create_app, get_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi.testclient import TestClient
from reindex.errors import ServiceUnavailable
from reindex_airflow import hooks
from airflow.configuration import conf
from fastapi.routing import APIRoute
from reindex.records import REJECT_SCHEMA
from reindex_airflow.links import ReportLink
from reindex_airflow.pages import app as plugin_app
from tests.fakes import release_files

app = create_app("core")
files = release_files()
files.write_text("report.html", "<!DOCTYPE html><title>Passed</title>")
files.of("20260102T020000Z_abcd1234").write_json("verify.json", {})
hooks.ObjectStore = lambda connection: files.store
link = ReportLink().get_link(SimpleNamespace(corpus="docs", release=files.release), ti_key=None)
path = link.removeprefix("http://airflow.example")
client = TestClient(app)
answers = {}

def ask(name, path=path, role="viewer", headers=None, cookie=False):
    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="somebody", role=role))
    sent = {"Cookie": f"_token={token}"} if cookie else {"Authorization": f"Bearer {token}"}
    answer = client.get(path, headers=sent if headers is None else headers)
    answers[name] = [answer.status_code, answer.text, dict(answer.headers)]

ask("viewer")
ask("admin", role="admin")
ask("browser", cookie=True)
ask("anonymous", headers={})
ask("wrong token", headers={"Authorization": "Bearer wrong"})
ask("wrong cookie", headers={"Cookie": "_token=wrong"})
ask("no role", role=None)
ask("anonymous, unknown corpus", path.replace("docs", "other"), headers={})
ask("no role, unknown corpus", path.replace("docs", "other"), role=None)
ask("unknown corpus", path.replace("docs", "other"))
ask("unknown release", path.replace("abcd1234", "00000000"))
ask("not verified", path.replace("20260101", "20260102"))
for name, corpus, release in [
    ("up", "docs", "%2e%2e"), ("far up", "docs", "..%2f..%2fdocs"), ("two lines", "docs", "a%0ab"),
    ("markup", "<script>", "<script>"), ("reserved", "roll-back", files.release),
]:
    ask(name, f"/sub/reindex/releases/{corpus}/{release}/report")
for page in ("docs", "redoc", "openapi.json"):
    ask(f"page {page}", f"/sub/reindex/{page}", headers={})

files.write_table("rejects.parquet", REJECT_SCHEMA, [])
for number in (1, 2):
    files.of(f"2026010{number}T020000Z_abcd1234").write_report("snapshot", 0, {"documents": 1})
expired = jwt.encode({**jwt.decode(get_auth_manager().generate_jwt(
    SimpleAuthManagerUser(username="somebody", role="admin")), options={"verify_signature": False}), "exp": 1},
    conf.get("api_auth", "jwt_secret"), algorithm="HS512")
routes = [route.path for route in plugin_app.routes if isinstance(route, APIRoute)]
for route in routes:
    address = "/sub/reindex" + route.format(corpus="docs", release=files.release)
    ask(f"admin {route}", address, role="admin")
    ask(f"viewer {route}", address)
    ask(f"anonymous {route}", address, headers={})
    ask(f"no role {route}", address, role=None)
    ask(f"expired {route}", address, headers={"Authorization": f"Bearer {expired}"})
    answers[f"post {route}"] = [client.post(address, headers={"Authorization": "Bearer x"}).status_code, "", {}]

get_auth_manager().is_authorized_dag = lambda *, details, **_: details.id == "reindex_docs"
ask("reader of this DAG alone")
ask("reader of another DAG alone", path.replace("docs", "my-docs"))

def fail(connection):
    raise ServiceUnavailable("the object store", connection.endpoint, "it sleeps")

hooks.ObjectStore = fail
ask("no bucket")
print("\\n" + json.dumps({"link": link, "answers": answers, "routes": routes}))
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "docs.yaml").write_text("name: docs\nsource: {bucket: sources, prefix: docs/}\n")
    connections = {
        f"AIRFLOW_CONN_REINDEX_{name}": json.dumps({"conn_type": "generic", "host": f"http://{name.lower()}.example"})
        for name in ("S3", "MILVUS", "RAY")
    }
    settings = {"AIRFLOW__API__BASE_URL": "http://airflow.example/sub/", **connections}
    return look(ASK, corpora=folder, home=folder, **settings)


@pytest.mark.parametrize(
    ("who", "status"),
    [
        ("viewer", 200),
        ("admin", 200),
        ("browser", 200),
        ("anonymous", 401),
        ("wrong token", 403),
        ("wrong cookie", 403),
        ("no role", 403),
        ("reader of this DAG alone", 200),
        ("reader of another DAG alone", 403),
        ("anonymous, unknown corpus", 401),
        ("no role, unknown corpus", 403),
    ],
)
def test_a_report_is_for_those_who_may_read_the_corpus_s_dag(asked: Any, who: str, status: int) -> None:
    """As in all of Airflow's own API, 401 is for who does not say who they are, 403 for a token that is no good."""
    answered, text, _ = asked["answers"][who]
    assert answered == status
    assert ("<title>Passed</title>" in text) == (status == 200)


def test_a_report_may_run_nothing_and_fetch_nothing(asked: Any) -> None:
    _, _, headers = asked["answers"]["viewer"]
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("asked_for", ["unknown corpus", "unknown release", "not verified"])
def test_what_has_no_report_is_one_clear_line(asked: Any, asked_for: str) -> None:
    status, text, headers = asked["answers"][asked_for]
    assert (status, headers["content-type"]) == (404, "text/plain; charset=utf-8")
    assert text.count("\n") == 1
    assert text.startswith("no report of release '2026010")


@pytest.mark.parametrize("name", ["up", "far up", "two lines", "markup", "reserved"])
def test_a_name_that_nobody_gave_becomes_no_path(asked: Any, name: str) -> None:
    status, text, headers = asked["answers"][name]
    assert status == 404
    assert "html" not in headers["content-type"]
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("page", ["docs", "redoc", "openapi.json"])
def test_nothing_else_is_served_to_who_is_not_logged_in(asked: Any, page: str) -> None:
    assert asked["answers"][f"page {page}"][0] in {401, 404}


def test_a_bucket_that_does_not_answer_is_said_to_be_the_trouble(asked: Any) -> None:
    status, text, _ = asked["answers"]["no bucket"]
    assert (status, text.split(" (")[0]) == (503, "the object store does not answer at http://s3.example")


def test_the_link_of_the_task_leads_to_the_page_under_airflow_s_own_address(asked: Any) -> None:
    assert asked["link"] == "http://airflow.example/sub/reindex/releases/docs/20260101T020000Z_abcd1234/report"


ROUTES = [
    "/",
    "/acts.js",
    "/corpora/{corpus}",
    "/corpora/{corpus}/releases/{release}",
    "/corpora/{corpus}/releases/{release}/rejects",
    "/releases/{corpus}/{release}/report",
]


def test_every_route_is_in_the_table_below(asked: Any) -> None:
    assert sorted(asked["routes"]) == ROUTES


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("who", "statuses"),
    [
        ("admin", {200}),
        ("viewer", {200}),
        ("anonymous", {401}),
        ("no role", {403}),
        ("expired", {401, 403}),
        ("post", {405}),
    ],
)
def test_a_route_answers_those_who_may_read(asked: Any, route: str, who: str, statuses: set[int]) -> None:
    # To all who are logged in, the list shows what each may read: nothing, without a role; the script says nothing.
    wanted = {200} if who == "no role" and route in {"/", "/acts.js"} else statuses
    assert asked["answers"][f"{who} {route}"][0] in wanted


def test_the_list_shows_nothing_to_who_may_read_nothing(asked: Any) -> None:
    assert "There is no corpus that you may read" in asked["answers"]["no role /"][1]
    assert 'href="/sub/reindex/corpora/docs"' in asked["answers"]["viewer /"][1]


@pytest.mark.parametrize(("who", "may_act"), [("admin", True), ("viewer", False)])
def test_a_viewer_finds_nothing_to_act_with(asked: Any, who: str, may_act: bool) -> None:
    _, page, headers = asked["answers"][f"{who} /corpora/{{corpus}}"]
    assert ("Roll back" in page) == may_act
    assert "script-src 'self'; connect-src 'self'" in headers["content-security-policy"]

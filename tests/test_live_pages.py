"""The pages in Airflow, driven in a real browser as an operator and a viewer would, against a running stack."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_core_python.selenium import Axe
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from reindex.settings import PROJECT
from tests.conftest import LiveStack
from tests.test_live import api, put_documents, wait_until

pytestmark = [pytest.mark.live, pytest.mark.timeout(1800)]

CORPUS = "approved"
DAG = "reindex_approved"
# Looked at by people after a run of the tests.
SCREENSHOTS = PROJECT / "build" / "screenshots"
_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1360,1000",
]  # fmt: skip
_ASK = """
const [method, path, body, done] = arguments;
fetch(path, {method, headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)})
    .then((answer) => done(answer.status));
"""


class Browser:
    """A browser that is logged in to the stack's Airflow as somebody."""

    def __init__(self, driver: Chrome, address: str) -> None:
        self._driver, self._address = driver, address

    def log_in(self, user: str, password: str) -> None:
        self._driver.get(f"{self._address}/")
        self.find("input[name=username]").send_keys(user)
        self.find("input[name=password]").send_keys(password)
        self.find("button[type=submit]").click()
        self.find("a[href$='/plugin/reindex']")

    def open(self, path: str) -> None:
        self._driver.get(f"{self._address}{path}")

    def open_in_airflow(self) -> None:
        """Go where Airflow's own navigation leads: it shows the page in a frame."""
        self.find("a[href$='/plugin/reindex']").click()
        self._driver.switch_to.frame(self.find("iframe"))

    def find(self, selector: str) -> WebElement:
        return self.wait(lambda: self._driver.find_element(By.CSS_SELECTOR, selector))

    def press(self, text: str, within: str = "") -> None:
        """Press the button, or follow the link, with this text."""
        place = f"{within}//*[self::button or self::a][normalize-space()='{text}']"
        self.wait(lambda: self._driver.find_element(By.XPATH, place)).click()

    def shows(self, text: str) -> bool:
        return text in self._driver.find_element(By.TAG_NAME, "body").text

    def has(self, selector: str) -> bool:
        return bool(self._driver.find_elements(By.CSS_SELECTOR, selector))

    def wait(self, found: Callable[[], Any], seconds: float = 60) -> Any:
        ignored = [NoSuchElementException, StaleElementReferenceException]
        return WebDriverWait(self._driver, seconds, ignored_exceptions=ignored).until(lambda _: found())

    def wait_for(self, text: str, seconds: float = 180) -> None:
        """Load the page again until it shows a text."""

        def look() -> bool:
            self._driver.refresh()
            return self.shows(text)

        WebDriverWait(self._driver, seconds, poll_frequency=2).until(lambda _: look())

    def said(self) -> str:
        """Return what the page says to what was done."""
        return str(self.wait(lambda: self._driver.find_element(By.TAG_NAME, "output").text))

    def ask(self, method: str, path: str, body: dict[str, Any]) -> int:
        """Return how Airflow's API answers to a script of the page."""
        return int(self._driver.execute_async_script(_ASK, method, path, body))

    def open_form(self, kind: str) -> None:
        """Open Airflow's form for a run of the DAG: `Single Run` or `Backfill`."""
        self.open(f"/dags/{DAG}")
        self.find("[data-testid=trigger-dag-button]").click()
        label = f"//*[@role='dialog']//label[starts-with(normalize-space(), '{kind}')]"
        self.wait(lambda: self._driver.find_element(By.XPATH, label)).click()

    def set_moment(self, place: int, day: str) -> None:
        """Fill in a moment of Airflow's form, or take it away."""
        field = self.wait(
            lambda: self._driver.find_elements(By.CSS_SELECTOR, "[role=dialog] [data-testid=datetime-input]")[place]
        )
        field.click()
        shown = "[data-scope=popover][data-state=open]"
        if day:
            for placeholder, text in (("YYYY/MM/DD", day), ("HH:mm", "00:00")):
                self.find(f"{shown} input[placeholder='{placeholder}']").send_keys(text, Keys.ENTER)
        else:
            self.find(f"{shown} [aria-label='Clear start date']").click()
        self._driver.find_element(By.XPATH, "//*[@role='dialog']//h2 | //*[@role='dialog']//h1").click()
        self.wait(lambda: not self.has(shown))
        assert field.text.startswith("Select" if not day else "Jan"), field.text

    def keep(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        height = self._driver.execute_script("return document.documentElement.scrollHeight")
        self._driver.set_window_size(1360, max(1000, min(height, 6000)))
        self._driver.save_screenshot(str(SCREENSHOTS / f"{name}.png"))
        self._driver.set_window_size(1360, 1000)

    def faults(self, scheme: str) -> list[str]:
        """Return what axe finds serious on the page, in light or in dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        found = Axe().run(self._driver)
        assert found["passes"], "axe has looked at nothing"
        return [
            f"{fault['id']}: {fault['nodes'][0]['html']}"
            for fault in found["violations"]
            if fault["impact"] in {"serious", "critical"}
        ]


@contextmanager
def browser(stack: LiveStack, user: str, profile: Path) -> Iterator[Browser]:
    options = ChromeOptions()
    for flag in [*_FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    driver = Chrome(options, ChromeService("/usr/bin/chromedriver"))
    try:
        seen = Browser(driver, stack.servers()["REINDEX_AIRFLOW_URL"])
        secrets = json.loads((stack.home / "stack.json").read_text())["secrets"]
        seen.log_in(user, secrets[f"airflow_{user}_password"])
        yield seen
    finally:
        driver.quit()


def live_release(stack: LiveStack) -> str | None:
    rows = stack.answer("releases", CORPUS)
    return next((row["release"] for row in rows if row["state"] == "live"), None)


def approve(admin: Browser, stack: LiveStack, before: str | None) -> str:
    """Approve what waits, on the page; return the release that is live then."""
    admin.open(f"/reindex/corpora/{CORPUS}")
    admin.wait_for("Approve")
    admin.keep("corpus-waits")
    admin.press("Approve")
    assert admin.said() == "Approve: recorded as the answer of admin."
    admin.wait(lambda: live_release(stack) not in {None, before}, 120)
    live = live_release(stack)
    assert live is not None
    return live


def wait_for_run(stack: LiveStack, run_type: str) -> dict[str, Any]:
    """Return the newest run of a type, once it is over."""
    with api(stack) as client:

        def over() -> dict[str, Any] | None:
            runs = client.get(f"/api/v2/dags/{DAG}/dagRuns", params={"order_by": "-run_after"}).json()["dag_runs"]
            of_type = [run for run in runs if run["run_type"] == run_type]
            return of_type[0] if of_type and of_type[0]["state"] in {"success", "failed"} else None

        found: dict[str, Any] = wait_until(over, 180, pause=1)
        return found


@pytest.fixture(scope="module")
def admin(stack: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(stack, "admin", tmp_path_factory.mktemp("admin")) as seen:
        yield seen


@pytest.fixture(scope="module")
def first(stack: LiveStack, admin: Browser, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the first release, run from the page with its form and approved there."""
    put_documents(stack, tmp_path_factory.mktemp("documents"), CORPUS)
    admin.open_in_airflow()
    admin.press(CORPUS)
    admin.find("form[data-act=run] [name=promote] option[value=auto]").click()
    admin.press("Run now")
    assert admin.said().startswith("Run manual__")
    return approve(admin, stack, None)


def test_a_run_from_airflow_s_form_is_approved_and_rolled_back(
    stack: LiveStack, admin: Browser, first: str, tmp_path: Path
) -> None:
    (tmp_path / "new.md").write_text("The harbour has a new crane, and a heron sits on it.")
    stack.answer("put", CORPUS, str(tmp_path / "new.md"))
    admin.open_form("Single Run")
    admin.set_moment(0, "")
    admin.keep("trigger-form")
    admin.press("Trigger", "//*[@role='dialog']")
    second = approve(admin, stack, first)
    assert second != first
    assert wait_for_run(stack, "manual")["logical_date"] is None

    admin.open("/reindex/")
    assert admin.shows(second)
    admin.keep("corpora")
    admin.press(second)
    assert admin.shows("Promoted")
    admin.keep("release")
    admin.press("the report")
    assert admin.shows("Every gate that could be asked is passed")

    admin.open(f"/reindex/corpora/{CORPUS}")
    confirm = admin.find("form[data-act=roll-back] [name=confirm]")
    confirm.send_keys("another")
    admin.press("Roll back")
    assert admin.said() == f"Nothing was done: type {CORPUS} to confirm."
    confirm.clear()
    confirm.send_keys(CORPUS)
    admin.press("Roll back")
    admin.wait(lambda: admin.said().startswith("Going back: run manual__"))
    admin.wait(lambda: live_release(stack) == first, 120)
    admin.open(f"/reindex/corpora/{CORPUS}")
    admin.keep("corpus")


def test_what_is_refused_stays_green(stack: LiveStack, admin: Browser, first: str) -> None:
    live = live_release(stack)
    admin.open(f"/reindex/corpora/{CORPUS}")
    admin.find("form[data-act=run] [name=rebuild]").click()
    admin.press("Run now")
    assert admin.said().startswith("Run manual__")
    admin.wait_for("Refuse")
    admin.press("Refuse")
    assert admin.said() == "Reject: recorded as the answer of admin."
    assert wait_for_run(stack, "manual")["state"] == "success"
    refused = stack.answer("releases", CORPUS)[0]
    assert (refused["state"], refused["documents"]) == ("green", 25)
    assert live_release(stack) == live


@pytest.mark.parametrize(
    ("event", "dag"),
    [("trigger_dag_run", DAG), ("update_hitl_detail", DAG), ("trigger_dag_run", "reindex_roll_back")],
)
def test_airflow_keeps_a_record_of_who_did_what(stack: LiveStack, first: str, event: str, dag: str) -> None:
    with api(stack) as client:
        # All at once would be more than Airflow answers with.
        found = client.get("/api/v2/eventLogs", params={"event": event, "dag_id": dag, "owner": "admin"}).json()
    assert found["total_entries"] > 0


def test_a_backfill_goes_through_airflow_s_form_and_its_reason_is_three_clicks_away(
    stack: LiveStack, admin: Browser, first: str
) -> None:
    """The bucket held nothing a year ago: the page of what failed says so, from the navigation on."""
    admin.open_form("Backfill")
    admin.set_moment(0, "2026/01/01")
    admin.set_moment(1, "2026/01/02")
    admin.keep("backfill-form")
    admin.press("Run Backfill", "//*[@role='dialog']")
    run = wait_for_run(stack, "backfill")
    assert run["state"] == "failed"

    admin.open("/")
    admin.open_in_airflow()
    admin.press(CORPUS)
    admin.press(
        next(row["release"] for row in stack.answer("releases", CORPUS) if row["release"].startswith("2026010"))
    )
    assert admin.shows("Failed in snapshot:")
    assert admin.shows("no object that the corpus includes")
    admin.keep("release-failed")
    assert live_release(stack) == first


def test_a_viewer_finds_no_button_and_is_refused(stack: LiveStack, first: str, tmp_path: Path) -> None:
    with browser(stack, "viewer", tmp_path) as viewer:
        viewer.open(f"/reindex/corpora/{CORPUS}")
        assert viewer.shows(first)
        assert not viewer.has("button, form, script")
        run = wait_for_run(stack, "manual")["dag_run_id"]
        asked = {"logical_date": None, "conf": {}}
        assert viewer.ask("POST", f"/api/v2/dags/{DAG}/dagRuns", asked) == 403
        assert viewer.ask("POST", "/api/v2/dags/reindex_roll_back/dagRuns", asked) == 403
        answer = f"/api/v2/dags/{DAG}/dagRuns/{run}/taskInstances/approve/-1/hitlDetails"
        assert viewer.ask("PATCH", answer, {"chosen_options": ["Approve"], "params_input": {}}) == 403


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(admin: Browser, first: str, scheme: str) -> None:
    release = f"/reindex/corpora/{CORPUS}/releases/{first}"
    report = f"/reindex/releases/{CORPUS}/{first}/report"
    for path in ("/reindex/", f"/reindex/corpora/{CORPUS}", release, f"{release}/rejects", report):
        admin.open(path)
        assert admin.faults(scheme) == [], path
    admin.open(release)
    admin.keep(f"release-{scheme}")

"""Jobs and models while their readers come, go, and are elsewhere for a while."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from page_models import STUDENT
from pictures import write_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page, Route

    from chromium import Trouble
    from page_system import System

TRAINED_MS = 90_000
PAGE_SIZE = 50
_KEEP_SOURCES = """
window.sources = [];
window.EventSource = class extends EventSource {
  constructor(address) { super(address); window.sources.push(this); }
};
"""
_OPEN = "() => window.sources.filter((each) => each.readyState !== EventSource.CLOSED).length"
_SEEN = """
(seen) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => !seen });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""


@pytest.fixture(scope="module")
def dataset(system: System, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Reference of a pushed dataset."""
    folder = write_dataset(tmp_path_factory.mktemp("going"), train=2, val=1)
    return system.client.datasets.push(folder, name="going").reference


@pytest.fixture
def running(system: System, dataset: str) -> Iterator[str]:
    """A job that trains for as long as a test lasts."""
    inner = {
        "dataset": dataset,
        "output_model": "never",
        "network": {"architecture": "unet", "width": 4, "depth": 3},
        "training": {"steps": 100_000, "batch_size": 2, "crop_size": 32},
    }
    job = system.client.jobs.submit({"supervised": inner})
    yield job.name
    system.client.jobs.cancel(job.name)
    system.client.jobs.wait(job.name)


def wait_for_points(page: Page, more_than: int) -> int:
    """How many points the curves have, once they are more than that."""
    page.wait_for_function(
        "(least) => Number(document.documentElement.dataset.points ?? 0) > least",
        arg=more_than,
        timeout=TRAINED_MS,
    )
    return int(page.evaluate("document.documentElement.dataset.points"))


def test_a_job_that_nobody_looks_at_holds_no_connection(
    page: Page, system: System, running: str
) -> None:
    """In the background its stream is closed: six such tabs would block all others."""
    page.add_init_script(_KEEP_SOURCES)
    page.goto(f"{system.url}/{running}")
    before = wait_for_points(page, 0)
    page.evaluate(_SEEN, False)
    page.wait_for_function(f"() => ({_OPEN})() === 0")
    page.evaluate(_SEEN, True)
    wait_for_points(page, before)
    assert page.evaluate(_OPEN) == 1
    lines = [each for each in page.locator("#job-log").inner_text().splitlines() if each]
    assert len(lines) == len(set(lines)), "no event is told twice"
    page.locator("nav a[href='/models']").click()
    assert page.evaluate(_OPEN) == 0, "out of sight, nothing is followed"


def test_whoever_comes_back_to_the_list_finds_their_place(
    page: Page, system: System, running: str
) -> None:
    """The link that led to a job has the focus again, and the list is there at once."""
    page.goto(f"{system.url}/jobs")
    page.locator(f"[data-job='{running}'] a").first.press("Enter")
    page.wait_for_url(f"**/{running}")
    page.go_back()
    page.wait_for_url("**/jobs")
    expect(page.locator(f"[data-job='{running}'] a").first).to_be_focused()
    expect(page.locator("#jobs-table")).to_have_attribute("aria-busy", "false")
    expect(page.locator(f"[data-job='{running}'] a").first).to_be_focused()


def test_a_job_whose_address_is_garbled_is_told(
    page: Page, system: System, trouble: Trouble
) -> None:
    """An address that cannot be decoded is answered in words like any other wrong one."""
    trouble.expect("status of 400")
    page.goto(f"{system.url}/jobs/%ff")
    expect(page.locator("#job-problem")).to_contain_text("not a job name")


class Jobs:
    """Answers for the service with as many jobs as are said to be there, newest first."""

    def __init__(self, like: dict[str, Any]) -> None:
        self.newest = 70
        self._like = like

    def __call__(self, route: Route) -> None:
        token = re.search(r"page_token=(\d+)", route.request.url)
        first = int(token[1]) if token else self.newest
        rest = first - PAGE_SIZE
        numbers = range(first, max(rest, 0), -1)
        answer = {
            "jobs": [self._job(each) for each in numbers],
            "next_page_token": str(rest) if rest > 0 else "",
        }
        route.fulfill(body=json.dumps(answer), content_type="application/json")

    def _job(self, number: int) -> dict[str, Any]:
        made = f"2026-01-01T{number // 60:02}:{number % 60:02}:00Z"
        state = "JOB_STATE_CANCELLED"
        return self._like | {"name": f"jobs/{number}", "create_time": made, "state": state}


@pytest.fixture
def many(page: Page, system: System, running: str) -> Jobs:
    """Many jobs, which the page believes to be there."""
    jobs = Jobs(page.request.get(f"{system.url}/api/{running}").json()["job"])
    page.route("**/api/jobs?*", jobs)
    return jobs


def test_older_jobs_come_without_losing_the_focus(page: Page, system: System, many: Jobs) -> None:
    """The keyboard's place stays at the button, and goes to the first older job after the last."""
    many.newest = 120
    page.goto(f"{system.url}/jobs")
    expect(page.locator("#jobs-more")).to_be_visible()
    page.locator("#jobs-more").press("Enter")
    expect(page.locator("#jobs tr")).to_have_count(2 * PAGE_SIZE)
    expect(page.locator("#jobs-more")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#jobs tr")).to_have_count(120)
    expect(page.locator("[data-job='jobs/20'] a").first).to_be_focused()


def test_no_job_is_missing_after_many_came_at_once(page: Page, system: System, many: Jobs) -> None:
    """More new jobs than one answer tells leave no gap above those that were known."""
    page.goto(f"{system.url}/jobs")
    expect(page.locator("#jobs tr")).to_have_count(PAGE_SIZE)
    page.evaluate(_SEEN, False)
    many.newest = 200
    page.evaluate(_SEEN, True)
    expect(page.locator("[data-job='jobs/200']")).to_be_visible()
    while page.locator("#jobs-more").is_visible():
        shown = page.locator("#jobs tr").count()
        page.locator("#jobs-more").click()
        expect(page.locator("#jobs tr")).not_to_have_count(shown)
    names = page.locator("#jobs tr").evaluate_all("(rows) => rows.map((each) => each.dataset.job)")
    assert names == [f"jobs/{each}" for each in range(200, 0, -1)]


def test_what_was_written_is_there_after_coming_back(
    page: Page, system: System, running: str
) -> None:
    """Edits of a job like another survive a look elsewhere; a new one begins anew."""
    page.goto(f"{system.url}/{running}")
    page.locator("#job-again").click()
    expect(page.locator("#new-steps")).to_have_value("100000")
    page.locator("#new-steps").fill("77")
    page.locator("nav a[href='/models']").click()
    expect(page.locator(f"[data-reference='{STUDENT}@1']")).to_be_visible()
    with page.expect_response("**/api/datasets*"):
        page.go_back()
    expect(page.locator("#new-yaml")).to_contain_text("steps: 77")
    page.go_back()
    page.locator("#job-again").click()
    expect(page.locator("#new-yaml")).to_contain_text("steps: 100000")


def test_a_card_is_found_while_inference_is_away(page: Page, system: System) -> None:
    """A link to a model leads to its card at once, and takes the focus once only."""
    with system.frozen("inference"):
        page.goto(f"{system.url}/models#{STUDENT}@1")
        card = page.locator(f"[data-reference='{STUDENT}@1']")
        expect(card.locator("h2")).to_be_focused()
        page.locator("#models-search").focus()
    expect(card).to_contain_text("Served")
    expect(card).to_have_class(re.compile(r"\blit\b"))
    expect(page.locator("#models-search")).to_be_focused()


def test_an_alias_is_not_taken_from_where_others_pointed_it(page: Page, system: System) -> None:
    """To remove an alias from a version leaves alone what has been moved meanwhile."""
    system.client.models.alias(f"{STUDENT}@1", "staging")
    page.goto(f"{system.url}/models")
    page.locator(f"[data-reference='{STUDENT}@1'] .menu summary").click()
    system.client.models.alias(f"{STUDENT}@2", "staging")
    page.get_by_role("button", name="Remove staging").click()
    expect(page.locator("#models-said")).to_contain_text(f"points at {STUDENT}@2 by now")
    assert system.client.models.get(f"{STUDENT}@staging").reference == f"{STUDENT}@2"
    expect(page.locator(f"[data-reference='{STUDENT}@2']")).to_contain_text("staging")
    page.locator(f"[data-reference='{STUDENT}@2'] .menu summary").click()
    page.get_by_role("button", name="Remove staging").click()
    expect(page.locator("#models-said")).to_contain_text("staging: 2 → none")
    page.locator("#models-undo").press("Enter")
    expect(page.locator("#models-said")).to_contain_text("staging: none → 2")
    expect(page.locator("#models-undo")).to_be_focused()
    page.locator("#models-undo").click()
    expect(page.locator("#models-said")).to_contain_text("staging: 2 → none")

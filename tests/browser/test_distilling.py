"""A job from the form to a promoted model, and jobs that end otherwise."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from google.protobuf.json_format import MessageToDict
from PIL import Image
from playwright.sync_api import expect

from histill.api.distillation.v1 import job_pb2
from histill.core.messages import job_from_yaml
from page_models import STUDENT
from pictures import write_dataset

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from chromium import Trouble
    from page_system import System

STEPS = 150
TRAINED_MS = 90_000
NETWORK = {"architecture": "unet", "width": 4, "depth": 3}


@pytest.fixture(scope="module")
def dataset(system: System, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Reference of a pushed dataset of discs."""
    folder = write_dataset(tmp_path_factory.mktemp("discs"))
    return system.client.datasets.push(folder, name="discs").reference


def fill_form(page: Page, dataset: str, output: str, *, steps: int) -> None:
    page.locator("#kind-supervised").check()
    page.locator(f"#new-dataset option[value='{dataset}']").wait_for(state="attached")
    page.locator("#new-dataset").select_option(dataset)
    page.locator("#new-display-name").fill("from the page: 1")
    page.locator("#new-output").fill(output)
    page.locator("#new-architecture").select_option("unet")
    numbers = {"width": 4, "depth": 3, "steps": steps, "batch": 8, "crop": 32, "rate": 0.01}
    for name, value in numbers.items():
        page.locator(f"#new-{name}").fill(str(value))


def spec(dataset: str, output: str, **training: Any) -> dict[str, Any]:
    sizes = {"steps": STEPS, "batch_size": 8, "crop_size": 32}
    inner = {"dataset": dataset, "output_model": output, "network": NETWORK}
    return {"supervised": inner | {"training": sizes | training}}


def says(job: job_pb2.Job, text: str) -> bool:
    """Whether a job says all that a YAML says."""
    said = MessageToDict(job_from_yaml(yaml.safe_load(text)), preserving_proto_field_name=True)
    return _within(said, MessageToDict(job, preserving_proto_field_name=True))


def _within(part: dict[str, Any], whole: dict[str, Any]) -> bool:
    return all(
        _within(value, whole.get(name, {})) if isinstance(value, dict) else whole.get(name) == value
        for name, value in part.items()
    )


# How many points are drawn, once they are more than before, and the state at that moment.
_MORE_POINTS = """
(before) => {
  const points = Number(document.documentElement.dataset.points ?? 0);
  return points > before && [points, document.getElementById("job-state").textContent];
}
"""


def more_points(page: Page, before: int) -> tuple[int, str]:
    found = page.wait_for_function(_MORE_POINTS, arg=before, timeout=TRAINED_MS).json_value()
    return found[0], found[1]


def test_a_job_of_the_form_is_watched_to_its_end_and_promoted(
    page: Page, system: System, trouble: Trouble, dataset: str
) -> None:
    """The YAML shown is the job; curves grow while it trains; then a report, a model, an alias."""
    trouble.expect("Blocked script")
    page.goto(f"{system.url}/jobs/new")
    fill_form(page, dataset, "from-page", steps=STEPS)
    text = page.locator("#new-yaml").inner_text()
    page.locator("#new-submit").click()
    page.wait_for_url(re.compile(r"/jobs/(?!new)[0-9a-z-]+$"))
    name = "jobs/" + page.url.rsplit("/", 1)[1]
    job = system.client.jobs.get(name)
    assert says(job, text)
    assert job.display_name == "from the page: 1"
    assert job.supervised.training.steps == STEPS

    first, state = more_points(page, 0)
    assert state == "running", "the curves grow while it trains"
    more_points(page, first)
    expect(page.locator("#job-state")).to_contain_text("succeeded", timeout=TRAINED_MS)
    assert page.locator(".chart[data-chart='loss'] canvas").first.is_visible()
    assert system.client.jobs.get(name).state == job_pb2.JOB_STATE_SUCCEEDED
    assert says(job, page.locator("#job-spec").text_content() or "")
    report_is_shown_without_scripts(page)

    page.locator("#job-result").click()
    page.wait_for_url("**/models*")
    expect(page.locator("[data-reference='from-page@1']")).to_be_visible()
    page.locator("[data-reference='from-page@1'] .promote").click()
    expect(page.locator("#models-said")).to_contain_text("from-page")
    assert system.client.models.get("from-page@production").reference == "from-page@1"


def report_is_shown_without_scripts(page: Page) -> None:
    # As a report would be that holds a script: it may not run, whoever wrote it.
    def with_a_script(route: Any) -> None:
        answer = route.fetch()
        text = answer.text().replace("</body>", "<script>document.title = 'ran'</script></body>")
        route.fulfill(response=answer, body=text)

    page.context.route("**/report", with_a_script)
    with page.context.expect_page() as opened:
        page.locator("#job-report").click()
    report = opened.value
    report.wait_for_load_state()
    assert report.locator("body").inner_text()
    assert report.title() != "ran"
    report.close()
    page.context.unroute("**/report")


def test_promotion_can_be_undone(page: Page, system: System) -> None:
    """One click points production at another version; Undo points it back."""
    page.goto(f"{system.url}/models")
    page.locator(f"[data-reference='{STUDENT}@2'] .promote").click()
    expect(page.locator("#models-said")).to_contain_text("2")
    assert system.client.models.get(f"{STUDENT}@production").reference == f"{STUDENT}@2"
    page.locator("#models-undo").click()
    expect(page.locator(f"[data-reference='{STUDENT}@1']")).to_contain_text("production")
    assert system.client.models.get(f"{STUDENT}@production").reference == f"{STUDENT}@1"


def test_a_running_job_is_cancelled_on_its_page(page: Page, system: System, dataset: str) -> None:
    """Cancel asks first; the page says that it is on its way, and then that it is done."""
    job = system.client.jobs.submit(spec(dataset, "never", steps=100_000))
    page.goto(f"{system.url}/{job.name}")
    expect(page.locator("#job-state")).to_contain_text("running", timeout=TRAINED_MS)
    page.locator("#job-cancel").click()
    page.locator("dialog[open] button").filter(
        has_text=re.compile("cancel", re.IGNORECASE)
    ).first.click()
    expect(page.locator("#job-state")).to_contain_text("cancelled", timeout=30_000)
    assert system.client.jobs.get(job.name).state == job_pb2.JOB_STATE_CANCELLED
    expect(page.locator("#job-cancel")).to_be_hidden()
    page.goto(f"{system.url}/jobs?state=cancelled")
    expect(page.locator(f"#jobs [data-job='{job.name}']")).to_have_attribute(
        "data-state", "cancelled"
    )
    expect(page.locator("#jobs-state")).to_have_value("cancelled")


def test_a_failed_job_says_why_and_what_helps(
    page: Page, system: System, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its page shows the error and the hint, and its row in the list the state."""
    folder = write_dataset(tmp_path_factory.mktemp("numbered"))
    Image.fromarray(np.full((48, 48), 9, np.uint8)).save(folder / "train" / "labels" / "0.png")
    classes = ("background", "one", "two", "three")
    pushed = system.client.datasets.push(
        folder, name="numbered", classes=classes, labels="instance"
    )
    job = system.client.jobs.submit(spec(pushed.reference, "never"))
    page.goto(f"{system.url}/jobs")
    row = page.locator(f"#jobs [data-job='{job.name}']")
    expect(row).to_have_attribute("data-state", "failed", timeout=TRAINED_MS)
    row.locator("a").first.click()
    expect(page.locator("#job-error")).to_contain_text(
        system.client.jobs.get(job.name).error.message
    )
    assert page.locator("#job-hint").inner_text().strip()


def test_wrong_fields_are_named_beside_their_controls(
    page: Page, system: System, trouble: Trouble, dataset: str
) -> None:
    """What the service refuses stands beside its control and in a summary; nothing was made."""
    trouble.expect("status of 400")
    before = [job.name for job in system.client.jobs.list()]
    page.goto(f"{system.url}/jobs/new")
    fill_form(page, dataset, "from-page", steps=STEPS)
    page.locator("#new-output").fill("No Such Name!")
    page.locator("#new-submit").click()
    expect(page.locator("#new-problems")).to_contain_text("No Such Name!")
    expect(page.locator("#new-problems a[href='#new-output']")).to_be_visible()
    expect(page.locator("#new-output")).to_have_attribute("aria-invalid", "true")
    assert page.url.endswith("/jobs/new")
    assert [job.name for job in system.client.jobs.list()] == before

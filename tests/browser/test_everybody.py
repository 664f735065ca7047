"""The page on small and large screens, by day and by night, and for those who read otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

import page_images
from page_actions import choose_model, segment
from page_models import STUDENT, TEACHER
from page_stage import see, wait_for_overlay
from pictures import write_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

    from chromium import Trouble
    from page_system import System

AXE = Path(__file__).parents[2] / "scripts/vendored/node_modules/axe-core/axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
SCREENS: dict[str, dict[str, Any]] = {
    "small": {"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
    "large": {"viewport": {"width": 3840, "height": 2160}},
}
_RUN_AXE = """
async (tags) => {
  const found = await axe.run(document, { runOnly: { type: "tag", values: tags } });
  return found.violations.map((each) =>
    `${each.id}: ${each.nodes.map((node) => `${node.target} ${node.failureSummary}`).join("; ")}`);
}
"""
_OVERFLOW = """
() => {
  const wide = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= wide) return [];
  return [...document.querySelectorAll("main *")]
    .filter((each) => each.getBoundingClientRect().right > wide + 1)
    .map((each) => each.tagName + "#" + each.id + "." + each.className).slice(0, 8);
}
"""


@pytest.fixture(scope="module")
def ended(system: System, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A job that has trained a little, so that there is something to see of it."""
    folder = write_dataset(tmp_path_factory.mktemp("seen"), train=2, val=1)
    dataset = system.client.datasets.push(folder, name="seen").reference
    job = system.client.jobs.submit(
        {
            "supervised": {
                "dataset": dataset,
                "output_model": "seen",
                "network": {"architecture": "unet", "width": 4, "depth": 3},
                "training": {"steps": 20, "batch_size": 2, "crop_size": 32},
            }
        }
    )
    return system.client.jobs.wait(job.name).name


def visit(page: Page, system: System, address: str) -> None:
    """Goes to a view, and waits until it shows what there is."""
    page.goto(f"{system.url}{address}")
    waits = {
        "/": f"#model option[value='{STUDENT}@1']",
        "/jobs": "#jobs [data-job]",
        "/jobs/new": "#new-dataset option >> nth=0",
        "/models": f"[data-reference='{STUDENT}@1']",
        "/sign-in": "#token",
    }
    page.locator(waits.get(address, "#job-state")).first.wait_for(state="attached")
    if address.startswith("/jobs/") and address != "/jobs/new":
        expect(page.locator("#job-state")).to_contain_text("succeeded")


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    """By day and by night."""
    return str(request.param)


@pytest.fixture
def reader(signed_in: BrowserContext, scheme: str) -> Page:
    """A page in one of the two schemes."""
    page = signed_in.new_page()
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    return page


def violations(page: Page) -> list[str]:
    page.evaluate(AXE.read_text())
    found: list[str] = page.evaluate(_RUN_AXE, RULES)
    return found


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: make test brings it")
def test_nothing_keeps_anybody_out(
    reader: Page, system: System, trouble: Trouble, ended: str
) -> None:
    """Nothing is found against WCAG 2.2 AA in any view, light or dark, empty or with a result."""
    trouble.expect("status of 404")
    found = {}
    for address in ("/", "/jobs", "/jobs/new", f"/{ended}", "/models", "/sign-in", "/nowhere"):
        if address == "/nowhere":
            reader.goto(f"{system.url}{address}")
        else:
            visit(reader, system, address)
        found[address] = violations(reader)
    visit(reader, system, "/")
    choose_model(reader, f"{TEACHER}@1", select="#model-b")
    segment(reader, "tile.png", page_images.png(page_images.tissue(200, 300)), model=f"{STUDENT}@1")
    found["with a result"] = violations(reader)
    assert {where: what for where, what in found.items() if what} == {}


@pytest.fixture(params=list(SCREENS))
def screen(
    request: pytest.FixtureRequest, browser: Browser, system: System, trouble: Trouble
) -> Iterator[Page]:
    """A page on a screen of another size, signed in."""
    context = browser.new_context(**SCREENS[request.param])
    answer = context.request.post(f"{system.url}/api/session", data={"token": system.key})
    assert answer.ok
    page = context.new_page()
    trouble.watch(page)
    yield page
    context.close()


def test_every_screen_shows_all_of_it(screen: Page, system: System, ended: str) -> None:
    """No view is wider than the screen, and an image is segmented on each."""
    found = {}
    for address in ("/jobs", "/jobs/new", f"/{ended}", "/models", "/sign-in", "/"):
        visit(screen, system, address)
        found[address] = screen.evaluate(_OVERFLOW)
    choose_model(screen, f"{TEACHER}@1", select="#model-b")
    choose_model(screen, f"{STUDENT}@1")
    screen.locator("#sample").click()
    wait_for_overlay(screen)
    assert see(screen).pixels[..., 3].any()
    found["with a result"] = screen.evaluate(_OVERFLOW)
    assert {where: what for where, what in found.items() if what} == {}
    stage = screen.locator("#stage").bounding_box()
    size = screen.viewport_size
    assert stage
    assert size
    assert stage["width"] > 0.3 * size["width"]


def test_two_fingers_zoom(browser: Browser, system: System, trouble: Trouble) -> None:
    """On a touch screen two fingers that part enlarge the image, and the page stays as it is."""
    context = browser.new_context(**SCREENS["phone"])
    answer = context.request.post(f"{system.url}/api/session", data={"token": system.key})
    assert answer.ok
    page = context.new_page()
    trouble.watch(page)
    visit(page, system, "/")
    choose_model(page, f"{STUDENT}@1")
    page.locator("#sample").click()
    wait_for_overlay(page)
    page.locator("#stage").scroll_into_view_if_needed()
    before = see(page).scale
    box = page.locator("#stage").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = context.new_cdp_session(page)

    def fingers(kind: str, apart: int) -> None:
        points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        touch.send(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [] if kind == "touchEnd" else points},
        )

    fingers("touchStart", 20)
    for apart in range(25, 90, 5):
        fingers("touchMove", apart)
    fingers("touchEnd", 0)
    assert see(page).scale > 1.5 * before
    assert page.evaluate("visualViewport.scale") == pytest.approx(1, abs=0.01)
    context.close()

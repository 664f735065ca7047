"""The page without a mouse."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

import page_images
from page_actions import choose_model
from page_models import STUDENT
from page_stage import see, wait_for_overlay
from pictures import write_dataset

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from page_system import System

MOST_TABS = 80
# What shows where the focus is: an outline, a shadow, or another border.
_FOCUSED = """
() => {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const style = getComputedStyle(element);
  const shown = element.matches("input[type=file]") ? element.closest("label, div") : element;
  const box = (shown ?? element).getBoundingClientRect();
  return {
    id: element.id || element.closest("[id]")?.id || "",
    own: element.id,
    size: [box.width, box.height],
    visible: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0
      || style.boxShadow !== "none" || element.closest(":focus-within") !== null
      && [...document.querySelectorAll(":focus-within")].some((each) => {
        const around = getComputedStyle(each);
        return around.outlineStyle !== "none" && parseFloat(around.outlineWidth) > 0;
      }),
  };
}
"""


def tab_to(page: Page, wanted: str) -> None:
    """Presses Tab until an element has the focus; each on the way shows that it has it."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        found = page.evaluate(_FOCUSED)
        if found is None:
            continue
        assert found["visible"], f"nothing shows that #{found['id']} has the focus"
        if found["own"] == wanted:
            return
    pytest.fail(f"#{wanted} is not reached by Tab")


def test_from_the_address_bar_to_a_mask_on_disk(page: Page, system: System) -> None:
    """Tab, Enter, Space and arrows choose a file, zoom, switch a class off, and save the mask."""
    choose_model(page, f"{STUDENT}@1")
    data = page_images.png(page_images.tissue(200, 300))
    page.evaluate("document.activeElement.blur()")
    # Expected before the focus is looked at: a busy page takes keys sooner than it hears that a
    # dialog is awaited, and the dialog would be gone.
    with page.expect_file_chooser() as chooser:
        tab_to(page, "file")
        page.keyboard.press("Enter")
    chooser.value.set_files({"name": "tile.png", "mimeType": "image/png", "buffer": data})
    wait_for_overlay(page)
    before = see(page).scale
    tab_to(page, "zoom-in")
    page.keyboard.press("Enter")
    assert see(page).scale > before
    tab_to(page, "opacity")
    page.keyboard.press("Home")
    assert page.locator("#opacity").input_value() == "0"
    tab_to(page, "save-png")
    with page.expect_download() as expected:
        page.keyboard.press("Space")
    saved = expected.value.path().read_bytes()
    assert saved == system.client.segment(data, model=f"{STUDENT}@1").mask


def test_a_job_is_submitted_with_the_keyboard(
    page: Page, system: System, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The form is filled by typing and arrows, and sent with Enter."""
    folder = write_dataset(tmp_path_factory.mktemp("keys"), train=2, val=1)
    reference = system.client.datasets.push(folder, name="keys").reference
    page.goto(f"{system.url}/jobs/new")
    page.locator(f"#new-dataset option[value='{reference}']").wait_for(state="attached")
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate(
            "document.activeElement.name === document.querySelector('#kind-supervised').name"
        ):
            break
    for _ in range(3):
        if page.locator("#kind-supervised").is_checked():
            break
        page.keyboard.press("ArrowDown")
    assert page.locator("#kind-supervised").is_checked()
    tab_to(page, "new-dataset")
    page.keyboard.type("keys")
    assert page.locator("#new-dataset").input_value() == reference
    tab_to(page, "new-output")
    page.keyboard.type("typed")
    tab_to(page, "new-submit")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/jobs/(?!new)[0-9a-z-]+$"))
    name = "jobs/" + page.url.rsplit("/", 1)[1]
    assert system.client.jobs.get(name).supervised.output_model == "typed"
    page.wait_for_function("() => document.activeElement?.closest('#view-job') !== null")
    system.client.jobs.cancel(name)
    expect(page.locator("#job-state")).to_contain_text("cancelled", timeout=30_000)


def test_the_way_past_the_header_is_short(page: Page) -> None:
    """The first Tab offers to skip the header."""
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert page.locator("a.skip").evaluate("(e) => e === document.activeElement")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")

"""Files that no model can use: clear words, and the next good one works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

import page_images
from page_actions import choose, choose_model
from page_models import STUDENT
from page_stage import wait_for_overlay

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

    from chromium import Trouble
    from page_system import System

MODEL = f"{STUDENT}@1"


def refused(page: Page, name: str, data: bytes) -> str:
    """What the page says about a file."""
    choose(page, name, data)
    expect(page.locator("#problem")).to_be_visible()
    return page.locator("#problem").inner_text().lower()


def test_wrong_files_are_told_apart_and_the_next_works(page: Page, trouble: Trouble) -> None:
    """Text, an empty file and half a PNG each get words; none is left when a good one follows."""
    trouble.expect("status of 400")
    choose_model(page, MODEL)
    good = page_images.png(page_images.tissue(200, 300))
    assert "image" in refused(page, "notes.png", b"this is no picture")
    assert "empty" in refused(page, "nothing.png", b"")
    assert refused(page, "half.png", good[: len(good) // 2])
    expect(page.locator("#milliseconds")).to_have_text("\N{EN DASH}")  # nothing is to come
    choose(page, "good.png", good, media_type="image/png")
    wait_for_overlay(page)
    expect(page.locator("#problem")).to_be_hidden()


def test_an_empty_file_leaves_the_image_that_is_there(page: Page) -> None:
    """What cannot be an image is told, and one goes on working with the one before."""
    choose_model(page, MODEL)
    choose(page, "good.png", page_images.png(page_images.tissue(200, 300)))
    wait_for_overlay(page)
    assert "empty" in refused(page, "nothing.png", b"")
    expect(page.locator("#subject")).to_have_text("good.png")
    choose_model(page, f"{STUDENT}@2")
    expect(page.locator("#message")).to_contain_text(f"Segmented by {STUDENT}@2")
    expect(page.locator("#save-png")).to_be_enabled()


def test_a_frame_that_is_not_there_is_corrected_where_it_was_set(
    page: Page, trouble: Trouble
) -> None:
    """The field is named and opened; the next image starts at its own first frame."""
    trouble.expect("status of 400")
    choose_model(page, MODEL)
    page.locator("#options summary").click()
    page.locator("#frame").fill("7")
    page.locator("#options summary").click()
    choose(page, "tile.dcm", page_images.dicom(page_images.tissue(200, 300)))
    expect(page.locator("#problem")).to_contain_text("frame")
    expect(page.locator("#frame")).to_be_visible()
    choose(page, "other.dcm", page_images.dicom(page_images.tissue(200, 300)))
    wait_for_overlay(page)
    expect(page.locator("#problem")).to_be_hidden()


def test_files_that_miss_the_view_leave_the_page_alone(page: Page, system: System) -> None:
    """A file dropped on another view is not opened in the page's place."""
    page.goto(f"{system.url}/jobs")
    expect(page.locator("#view-jobs")).to_be_visible()
    opened = page.evaluate(
        """() => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File(["x"], "x.png"));
          return ["dragover", "drop"].map((kind) => document.body.dispatchEvent(
            new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true })));
        }"""
    )
    assert opened == [False, False]
    page.goto(system.url)
    expect(page.locator("#work")).to_be_hidden()


def test_of_several_files_one_is_taken(page: Page, trouble: Trouble) -> None:
    """And it is said which."""
    trouble.expect("status of 400")  # it is no image either
    choose_model(page, MODEL)
    page.evaluate(
        """() => {
          const dataTransfer = new DataTransfer();
          for (const name of ["a.png", "b.png"]) dataTransfer.items.add(new File(["x"], name));
          document.body.dispatchEvent(
            new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        }"""
    )
    expect(page.locator("#problem")).to_contain_text("Only a.png was taken")


def test_a_file_that_is_too_large_is_refused_with_the_limit(
    stranger: BrowserContext, system: System, trouble: Trouble
) -> None:
    """A file above the server's limit is told as such, and a smaller one works."""
    trouble.expect("status of 413", "ERR_CONNECTION", "Failed to load resource")
    with system.another_page(max_upload_bytes=str(1 << 20), guest_key=system.key) as url:
        page = stranger.new_page()
        page.goto(url)
        choose_model(page, MODEL)
        large = page_images.png(page_images.tissue(1000, 1500)) + bytes(2 << 20)
        assert "mib" in refused(page, "large.png", large)
        choose(page, "small.png", page_images.png(page_images.tissue(200, 300)))
        wait_for_overlay(page)
        page.close()

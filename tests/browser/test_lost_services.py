"""Services that go away under the page, and come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

import page_images
from page_actions import choose, choose_model, segment
from page_models import STUDENT
from page_stage import see, wait_for_overlay

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from chromium import Trouble
    from page_system import System

MODEL = f"{STUDENT}@1"
BACK_MS = 30_000


@pytest.fixture(scope="module")
def first() -> bytes:
    """An image."""
    return page_images.png(page_images.tissue(300, 400))


@pytest.fixture(scope="module")
def second() -> bytes:
    """Another one."""
    return page_images.png(page_images.tissue(320, 420, seed=1))


def test_a_lost_inference_service_is_told_and_waited_for(
    page: Page, system: System, trouble: Trouble, first: bytes, second: bytes
) -> None:
    """Without the service the image stays and the page says so; it goes on by itself."""
    trouble.expect(r"status of 50[234]")
    segment(page, "first.png", first, model=MODEL)
    with system.without("inference"):
        choose(page, "second.png", second, media_type="image/png")
        expect(page.locator("#view-segment")).to_contain_text("again", timeout=BACK_MS)
        assert page.locator("#lost").is_visible() or page.locator("#problem").is_visible()
        assert page.evaluate("document.documentElement.dataset.overlay") != "done"
        assert see(page).pixels[..., 3].any(), "the image is to be seen"
    page.wait_for_function(
        "() => document.documentElement.dataset.overlay === 'done'", timeout=BACK_MS
    )
    expect(page.locator("#lost")).to_be_hidden(timeout=BACK_MS)
    expect(page.locator("#problem")).to_be_hidden()


def test_a_lost_page_server_is_told_and_waited_for(
    page: Page, system: System, trouble: Trouble, first: bytes, second: bytes
) -> None:
    """Without its server the page keeps what it shows, says what is wrong, and goes on later."""
    trouble.expect("Failed to load resource", "ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE")
    segment(page, "first.png", first, model=MODEL)
    shown = see(page).pixels
    with system.without("web"):
        page.locator("nav a[href='/models']").click()
        expect(page.locator("#lost")).to_be_visible(timeout=BACK_MS)
        assert "server" in page.locator("#lost").inner_text()
        page.locator("nav a[href='/']").click()
        assert see(page).pixels.shape == shown.shape
    expect(page.locator("#lost")).to_be_hidden(timeout=BACK_MS)
    choose_model(page, MODEL)
    choose(page, "second.png", second, media_type="image/png")
    wait_for_overlay(page)


def test_a_lost_jobs_service_leaves_the_rest(
    page: Page, system: System, trouble: Trouble, first: bytes
) -> None:
    """Images are segmented while the jobs service is away, and its list comes back by itself."""
    trouble.expect(r"status of 50[234]")
    page.goto(f"{system.url}/jobs")
    with system.without("jobs"):
        expect(page.locator("#lost")).to_be_visible(timeout=BACK_MS)
        page.locator("nav a[href='/']").click()
        segment(page, "first.png", first, model=MODEL)
        page.locator("nav a[href='/jobs']").click()
    expect(page.locator("#lost")).to_be_hidden(timeout=BACK_MS)

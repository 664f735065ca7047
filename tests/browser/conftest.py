"""A browser, the page in it, and the whole system behind, as ``histill up`` starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import chromium
from page_models import STUDENT, publish_models
from page_system import System, page_system

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

WIDTH, HEIGHT = 1280, 900
# Of one wait for the page; a machine that is busy with other tests is slow.
WAIT_MS = 20_000


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The system with a student of two versions, the first in production, and a teacher."""
    if reason := chromium.missing():
        pytest.skip(reason)
    with page_system(tmp_path_factory.mktemp("home")) as running:
        publish_models(running.store)
        running.client.models.alias(f"{STUDENT}@1", "production")
        yield running


# Of a module: while it runs no coroutine test may, and those of other modules would.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser without windows."""
    if reason := chromium.missing():
        pytest.skip(reason)
    from playwright.sync_api import expect

    expect.set_options(timeout=WAIT_MS)
    with chromium.chromium() as running:
        yield running


@pytest.fixture
def trouble() -> Iterator[chromium.Trouble]:
    """What the page did wrong; anything that a test does not expect fails it."""
    seen = chromium.Trouble()
    yield seen
    assert seen.found == []


@pytest.fixture
def stranger(browser: Browser, trouble: chromium.Trouble) -> Iterator[BrowserContext]:
    """A browser's memory in which nobody has signed in."""
    context = browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=1
    )
    context.set_default_timeout(WAIT_MS)
    context.on("page", trouble.watch)
    yield context
    context.close()


@pytest.fixture
def signed_in(stranger: BrowserContext, system: System) -> BrowserContext:
    """A browser's memory in which an admin has signed in."""
    answer = stranger.request.post(f"{system.url}/api/session", data={"token": system.key})
    assert answer.ok, answer.text()
    return stranger


@pytest.fixture
def page(signed_in: BrowserContext, system: System) -> Page:
    """The page as an admin sees it, at the view of segmentation."""
    page = signed_in.new_page()
    page.goto(system.url)
    return page

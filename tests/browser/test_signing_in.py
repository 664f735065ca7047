"""Who may see the page, and what of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

import page_images
from new_keys import wait_until_known
from page_actions import segment
from page_models import STUDENT
from pictures import write_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext

    from chromium import Trouble
    from page_system import System


@pytest.fixture(scope="module")
def url(system: System) -> Iterator[str]:
    """A page that lets no guests in."""
    with system.another_page() as address:
        yield address


@pytest.fixture(scope="module")
def viewer(system: System) -> str:
    """The key of somebody who may look at things only."""
    _, secret = system.client.keys.create(role="viewer", description="looks at things")
    wait_until_known(system.stack.client, secret)
    return secret


@pytest.fixture(autouse=True)
def refusals(trouble: Trouble) -> None:
    """A browser writes each refused request to the console."""
    trouble.expect("status of 401")


def test_a_stranger_signs_in_and_is_back(
    stranger: BrowserContext, url: str, system: System
) -> None:
    """A stranger is sent to sign in; a wrong key is told; the right one leads back; out again."""
    page = stranger.new_page()
    page.goto(f"{url}/models")
    page.wait_for_url("**/sign-in*")
    page.locator("#token").fill("hst_wrong")
    page.locator("#sign-in").click()
    expect(page.locator("#sign-in-problem")).not_to_be_empty()
    page.locator("#token").fill(system.key)
    page.keyboard.press("Enter")
    page.wait_for_url("**/models")
    expect(page.locator(f"[data-reference='{STUDENT}@1']")).to_be_visible()
    expect(page.locator("#caller-name")).to_contain_text("admin")
    cookies = stranger.cookies()
    assert [(each["httpOnly"], each["sameSite"]) for each in cookies] == [(True, "Strict")]
    page.locator("#sign-out").click()
    page.wait_for_url("**/sign-in*")
    assert stranger.cookies() == []
    expect(page.locator(f"[data-reference='{STUDENT}@1']")).to_have_count(0)


def test_a_viewer_sees_no_buttons_for_operators(
    stranger: BrowserContext, url: str, viewer: str
) -> None:
    """A viewer may look, but is offered neither promotion nor a new job, and is told why."""
    page = stranger.new_page()
    page.goto(f"{url}/models#key={viewer}")
    expect(page.locator(f"[data-reference='{STUDENT}@1']")).to_be_visible()
    expect(page.locator(".promote:visible")).to_have_count(0)
    expect(page.locator("#view-models")).to_contain_text("operator")
    page.goto(f"{url}/jobs/new")
    expect(page.locator("#new-submit")).to_be_disabled()
    expect(page.locator("#view-new-job")).to_contain_text("operator")


def test_a_key_in_the_fragment_leaves_the_address(
    stranger: BrowserContext, url: str, system: System
) -> None:
    """A link with a key signs in; the key is in no address, no history and no storage."""
    page = stranger.new_page()
    page.goto(f"{url}/#key={system.key}")
    expect(page.locator("#caller-name")).to_contain_text("admin")
    data = page_images.png(page_images.tissue(120, 160))
    segment(page, "tile.png", data, model=f"{STUDENT}@1")
    assert system.key not in page.url
    page.locator("nav a[href='/jobs']").click()
    page.go_back()
    assert system.key not in page.url
    kept = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert system.key not in kept
    assert "tile" not in kept


def test_an_image_survives_signing_in(stranger: BrowserContext, url: str, system: System) -> None:
    """Whose session ends in the middle signs in again and finds the image segmented."""
    page = stranger.new_page()
    page.goto(f"{url}/#key={system.key}")
    first = page_images.png(page_images.tissue(120, 160))
    segment(page, "first.png", first, model=f"{STUDENT}@1")
    stranger.clear_cookies()
    data = page_images.png(page_images.tissue(200, 240, seed=3))
    page.locator("#file").set_input_files(
        {"name": "second.png", "mimeType": "image/png", "buffer": data}
    )
    page.wait_for_url("**/sign-in*")
    page.locator("#token").fill(system.key)
    page.locator("#sign-in").click()
    page.wait_for_url(lambda address: "sign-in" not in address)
    page.wait_for_function("() => document.documentElement.dataset.overlay === 'done'")
    assert (
        page.evaluate("OpenSeadragon.getViewer('stage').world.getItemAt(0).getContentSize().x")
        == 240
    )


def test_a_session_that_ends_under_a_dialog_is_begun_anew(
    stranger: BrowserContext,
    url: str,
    system: System,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The dialog goes with its view: left open, it would keep the key from being typed."""
    folder = write_dataset(tmp_path_factory.mktemp("asked"), train=2, val=1)
    dataset = system.client.datasets.push(folder, name="asked").reference
    sizes = {"steps": 100_000, "batch_size": 2, "crop_size": 32}
    spec = {"dataset": dataset, "output_model": "never", "training": sizes}
    job = system.client.jobs.submit({"supervised": spec})
    page = stranger.new_page()
    page.goto(f"{url}/{job.name}#key={system.key}")
    page.locator("#job-cancel").click()
    stranger.clear_cookies()
    page.locator("#job-cancel-yes").click()
    page.wait_for_url("**/sign-in*")
    expect(page.locator("#token")).to_be_focused()
    page.keyboard.type(system.key)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{job.name}")
    page.locator("#job-cancel").click()
    page.locator("#job-cancel-yes").press("Enter")
    expect(page.locator("#job-state")).to_contain_text("cancelled", timeout=30_000)
    expect(page.locator("#job-title")).to_be_focused()

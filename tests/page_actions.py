"""What people do on the page."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from page_stage import wait_for_overlay

if TYPE_CHECKING:
    from playwright.sync_api import Page

# A real drop: the browser's own DataTransfer with a File in it.
_DROP = """
([selector, name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type }));
  const zone = document.querySelector(selector);
  const common = { dataTransfer: carried, bubbles: true, cancelable: true };
  for (const kind of ["dragenter", "dragover", "drop"])
    zone.dispatchEvent(new DragEvent(kind, common));
}
"""


def drop(page: Page, name: str, data: bytes, *, media_type: str = "") -> None:
    """Drops a file on the zone for it."""
    page.evaluate(_DROP, ["#drop", name, media_type, base64.b64encode(data).decode()])


def choose(page: Page, name: str, data: bytes, *, media_type: str = "") -> None:
    """Takes a file in the browser's dialog."""
    page.locator("#file").set_input_files(
        {"name": name, "mimeType": media_type or "application/octet-stream", "buffer": data}
    )


def choose_model(page: Page, reference: str, *, select: str = "#model") -> None:
    """Chooses a model, once it is offered."""
    page.locator(f"{select} option[value='{reference}']").wait_for(state="attached")
    page.locator(select).select_option(reference)


def segment(page: Page, name: str, data: bytes, *, model: str, media_type: str = "") -> None:
    """Chooses a model and a file, and waits for the whole overlay."""
    choose_model(page, model)
    choose(page, name, data, media_type=media_type)
    wait_for_overlay(page)


def download(page: Page, button: str) -> tuple[str, bytes]:
    """Presses a button that brings a file; the file's name and bytes."""
    with page.expect_download() as expected:
        page.locator(button).click()
    found = expected.value
    return found.suggested_filename, found.path().read_bytes()

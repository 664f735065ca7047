"""Where the picture below a mask comes from, and when: it is what the model saw."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

import page_images
from histill.ml.images import stretched
from page_actions import choose, choose_model, segment
from page_models import STUDENT, TEACHER
from page_stage import class_map, off, painted, see, settle, show_exactly, wait_for_overlay

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

    from page_images import Pixels
    from page_system import System

HEIGHT, WIDTH = 300, 400
MODEL = f"{STUDENT}@1"
OTHER_SIZE = '{"size":{"height":301,"width":400}}'
# Many tiles look at few decoded regions at a time.
_LOOK = """
async () => {
  const { Regions } = await import("/static/js/segment/regions.js");
  const decode = async () => {
    await new Promise((done) => setTimeout(done, 10));
    return createImageBitmap(new ImageData(4, 4));
  };
  const open = new Set();
  const kept = async () => { const made = await decode(); open.add(made); return made; };
  const regions = new Regions(kept, 40, (bitmap) => { bitmap.close(); open.delete(bitmap); });
  const columns = Array.from({ length: 12 }, (_, i) => 4 * i);
  const places = columns.map((column) => ({ row: 0, column, height: 4, width: 4 }));
  places.forEach((place, i) => regions.add(place, new Blob([String(i)])));
  let drawn = 0;
  const context = document.createElement("canvas").getContext("2d");
  await Promise.all(places.map(async ({ column }) => {
    const grid = { left: column, top: 0, step: 1, columns: 4, rows: 4 };
    for await (const { value } of regions.within(grid)) {
      context.drawImage(value, 0, 0);
      drawn++;
    }
  }));
  await new Promise((done) => setTimeout(done, 50));
  const held = open.size;
  regions.close();
  await new Promise((done) => setTimeout(done, 50));
  return [drawn, held, open.size];
}
"""


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    """What the files of these tests show."""
    return page_images.tissue(HEIGHT, WIDTH)


def saved(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("kind", ["transparent", "one transparent colour", "deep"])
def test_pixels_that_browsers_show_otherwise_are_shown_as_the_model_saw_them(
    page: Page, system: System, pixels: Pixels, kind: str
) -> None:
    """Models see below transparency, and 16-bit greys stretched: the picture shows that."""
    grey = pixels[..., 0].astype(np.uint16) * 16
    if kind == "deep":
        data, seen = saved(Image.fromarray(grey)), stretched(grey)[..., None].repeat(3, axis=2)
    elif kind == "transparent":
        alpha = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
        data, seen = saved(Image.fromarray(np.concatenate([pixels, alpha], axis=2))), pixels
    else:
        flat, out = np.full_like(pixels, 230), io.BytesIO()
        Image.fromarray(flat).save(out, "PNG", transparency=(230, 230, 230))
        data, seen = out.getvalue(), flat
    segment(page, "some.png", data, model=MODEL)
    mask = class_map(system.client.segment(data, model=MODEL).mask)
    show_exactly(page)
    shown, rows, columns = see(page).part(HEIGHT, WIDTH)
    apart = off(shown, painted(mask[rows, columns], seen[rows, columns]))
    assert apart.max() <= 24


def test_a_picture_of_another_size_is_asked_of_the_service(page: Page, pixels: Pixels) -> None:
    """Where the service reads another image than the browser, its one is shown, asked for once."""
    asked = []

    def another(route: Route) -> None:
        asked.append(route.request.url)
        answer = route.fetch()
        _, *others = answer.text().split("\n")
        if "picture=1" in route.request.url or len(asked) > 2:
            route.fulfill(response=answer)
        else:
            route.fulfill(response=answer, body="\n".join([OTHER_SIZE, *others]))

    page.route("**/api/segment?*", another)
    segment(page, "tile.png", page_images.png(pixels), model=MODEL)
    assert ["picture=1" in each for each in asked] == [False, True]


def test_a_choice_before_the_picture_is_read_waits_for_it(page: Page) -> None:
    """Models that are listed or chosen while the browser still decodes a file do no harm."""
    choose_model(page, MODEL)
    choose(page, "wide.png", page_images.png(page_images.tissue(2500, 4000)))
    # At once, from within: what a click does comes too late.
    page.evaluate(
        """(model) => {
          document.getElementById("model").value = model;
          document.getElementById("model").dispatchEvent(new Event("change"));
        }""",
        f"{STUDENT}@2",
    )
    wait_for_overlay(page)
    expect(page.locator("#message")).to_contain_text(f"{STUDENT}@2")
    expect(page.locator("#problem")).to_be_hidden()


def test_an_answer_that_broke_off_leaves_the_reader_at_their_place(
    page: Page, pixels: Pixels
) -> None:
    """What came of a picture that the service sends stays, as it was zoomed, until more comes."""
    held: list[Route] = []

    def break_off(route: Route) -> None:
        if held:
            held.append(route)
            return
        answer = route.fetch()
        lines = answer.text().split("\n")
        until = next(i for i, line in enumerate(lines) if '"region"' in line)
        held.append(route)
        route.fulfill(response=answer, body="\n".join(lines[: until + 1]) + "\n")

    page.route("**/api/segment?*", break_off)
    choose_model(page, MODEL)
    choose(page, "tile.tiff", page_images.tiff(pixels))
    expect(page.locator("#problem")).to_contain_text("broke off")
    page.locator("#try-now").click()
    page.locator("#zoom-in").click()
    zoomed = see(page)
    held[1].continue_()
    wait_for_overlay(page)
    assert see(page).scale == pytest.approx(zoomed.scale)
    show_exactly(page)
    see(page).part(HEIGHT, WIDTH)


def test_both_stages_show_a_picture_that_the_service_sends(page: Page, pixels: Pixels) -> None:
    """The second model's stage shows the image before its turn has come."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        if TEACHER in route.request.url:
            held.append(route)
        else:
            route.continue_()

    page.route("**/api/segment?*", hold)
    choose_model(page, f"{TEACHER}@1", select="#model-b")
    choose_model(page, MODEL)
    choose(page, "tile.tiff", page_images.tiff(pixels))
    expect(page.locator("#milliseconds")).to_contain_text("ms")
    settle(page, "stage-b")
    shown = see(page, "stage-b").pixels
    assert shown[shown.shape[0] // 2, shown.shape[1] // 2, 3] == 255
    expect(page.locator("#milliseconds-b")).to_have_text("…")
    held[0].continue_()
    wait_for_overlay(page)


def test_regions_stay_decoded_while_they_are_drawn(page: Page) -> None:
    """Tiles that need more than is held draw all the same; then it is let go, and at last all."""
    drawn, held, after = page.evaluate(_LOOK)
    assert drawn == 12
    assert held == 2
    assert after == 0


def test_the_keyboard_stays_at_a_class_while_numbers_come(page: Page, pixels: Pixels) -> None:
    """A class that is switched before the answer keeps the focus, and its choice."""
    held: list[Route] = []
    page.route("**/api/segment?*", lambda route: held.append(route))  # noqa: PLW0108 - playwright marks it
    choose_model(page, MODEL)
    with page.expect_request("**/api/segment?*"):
        choose(page, "tile.png", page_images.png(pixels))
    box = page.locator("#classes input[data-class='1']")
    box.focus()
    page.keyboard.press("Space")
    held[0].continue_()
    wait_for_overlay(page)
    expect(box).to_be_focused()
    expect(box).not_to_be_checked()

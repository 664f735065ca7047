"""From a file to its overlay: what the stage shows is what the service found, pixel by pixel."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from PIL import Image

import page_images
from page_actions import choose_model, download, drop, segment
from page_models import CLASSES, STUDENT, TEACHER
from page_stage import (
    class_map,
    off,
    painted,
    see,
    see_when,
    set_opacity,
    show_exactly,
    wait_for_overlay,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from page_images import Pixels
    from page_system import System

HEIGHT, WIDTH = 500, 700
MODEL = f"{STUDENT}@1"


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    """What the files of these tests show."""
    return page_images.tissue(HEIGHT, WIDTH)


def decoded(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as opened:
        return np.asarray(opened.convert("RGB"))


@pytest.mark.parametrize(
    ("name", "make", "at_most"),
    [
        ("tile.png", page_images.png, 0),
        # Browsers and we decode JPEG a little differently; what the service shows is a JPEG.
        ("tile.jpg", page_images.jpeg, 6),
        ("tile.tiff", page_images.tiff, 24),
        ("tile.dcm", page_images.dicom, 24),
    ],
)
def test_a_file_becomes_an_exact_overlay(
    page: Page,
    system: System,
    pixels: Pixels,
    name: str,
    make: Callable[[Pixels], bytes],
    at_most: int,
) -> None:
    """At 1:1 classes have exactly the colours of the SDK's mask, and the rest is the picture."""
    data = make(pixels)
    segment(page, name, data, model=MODEL)
    mask = class_map(system.client.segment(data, model=MODEL).mask)
    picture = decoded(data) if name.endswith("jpg") else pixels
    show_exactly(page)
    shown, rows, columns = see(page).part(HEIGHT, WIDTH)
    assert shown.shape[0] * shown.shape[1] > 0.4 * HEIGHT * WIDTH, "most of it is in sight"
    classes = mask[rows, columns]
    apart = off(shown, painted(classes, picture[rows, columns]))
    assert apart[classes > 0].max() == 0
    assert apart[classes == 0].max() <= at_most


@pytest.mark.parametrize(
    ("form", "orientation"), [("jpeg", 6), ("jpeg", 3), ("jpeg", 2), ("png", 3)]
)
def test_a_dropped_photograph_lies_as_the_service_sees_it(
    page: Page, system: System, pixels: Pixels, form: str, orientation: int
) -> None:
    """A camera's word of how it was held turns neither the picture nor the mask."""
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(out, form, quality=95, exif=exif)
    data = out.getvalue()
    choose_model(page, MODEL)
    drop(page, f"phone.{form}", data, media_type=f"image/{form}")
    wait_for_overlay(page)
    mask = class_map(system.client.segment(data, model=MODEL).mask)
    show_exactly(page)
    shown, rows, columns = see(page).part(*mask.shape)
    apart = off(shown, painted(mask[rows, columns], pixels[rows, columns]))
    assert apart[mask[rows, columns] > 0].max() == 0
    assert apart.max() <= 24


def test_the_table_says_what_the_summary_says(page: Page, system: System, pixels: Pixels) -> None:
    """Each class has its name, its number of objects and its area, in mm2 where that is known."""
    data = page_images.dicom(pixels)
    segment(page, "tile.dcm", data, model=MODEL)
    found = system.client.segment(data, model=MODEL).summary.classes
    for each in found[1:]:
        row = page.locator("#classes tr").filter(has_text=each.class_name)
        words = row.inner_text().replace(",", "").split()
        assert str(each.objects) in words
        area = float(words[words.index("mm²") - 1])
        assert area == pytest.approx(each.area_mm2, rel=0.01)
    assert page.locator("#milliseconds").inner_text()


def test_what_is_chosen_is_painted_at_once(page: Page, system: System, pixels: Pixels) -> None:
    """Classes, outline, opacity and confidence change the picture without another mask."""
    data = page_images.png(pixels)
    segment(page, "tile.png", data, model=MODEL)
    mask = class_map(system.client.segment(data, model=MODEL).mask)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    show_exactly(page)
    filled, rows, columns = see(page).part(HEIGHT, WIDTH)
    classes, picture = mask[rows, columns], pixels[rows, columns]

    page.locator("#classes input[data-class='1']").uncheck()
    shown, *_ = see(page).part(HEIGHT, WIDTH)
    assert off(shown, painted(np.where(classes == 1, 0, classes), picture)).max() == 0
    page.locator("#classes input[data-class='1']").check()
    assert off(see(page).part(HEIGHT, WIDTH)[0], filled).max() == 0

    page.locator("#outline").check()
    shown, *_ = see(page).part(HEIGHT, WIDTH)
    inside = eroded(classes, by=3)
    assert off(shown, picture)[inside].max() == 0, "no colour within objects"
    changed = off(shown, picture) > 0
    edges = (classes > 0) & ~eroded(classes, by=1)
    assert changed[edges].mean() > 0.5, "the edges are drawn"
    page.locator("#fill").check()

    set_opacity(page, 0)
    assert off(see(page).part(HEIGHT, WIDTH)[0], picture).max() == 0
    set_opacity(page, 100)
    assert off(see(page).part(HEIGHT, WIDTH)[0], filled).max() == 0
    assert [each for each in asked if "/api/segment" in each] == []


def eroded(classes: np.ndarray, *, by: int) -> np.ndarray:
    """Where everything within so many pixels has the same class, and has one."""
    same = classes > 0
    for axis in (0, 1):
        for shift in range(-by, by + 1):
            same &= np.roll(classes, shift, axis) == classes
    same[:by], same[-by:], same[:, :by], same[:, -by:] = False, False, False, False
    return same


def test_unsure_pixels_are_shaded_on_demand(page: Page, system: System, pixels: Pixels) -> None:
    """The confidence map is fetched once, when it is wanted, and unsure pixels look different."""
    data = page_images.png(pixels)
    segment(page, "tile.png", data, model=MODEL)
    show_exactly(page)
    plain, rows, columns = see(page).part(HEIGHT, WIDTH)
    with page.expect_response(lambda answer: "confidence_map=1" in answer.url):
        page.locator("#confidence").check()
    wait_for_overlay(page)
    sure = system.client.inference.segment(data, model=MODEL, confidence_map=True)
    confidence = class_map(sure.confidence_map)[rows, columns]
    classes = class_map(sure.mask)[rows, columns] > 0
    changed = off(see(page).part(HEIGHT, WIDTH)[0], plain)
    unsure = classes & (confidence < 140)
    assert unsure.sum() > 100
    assert (changed[unsure] > 0).mean() > 0.9
    assert changed[unsure].mean() > changed[classes & (confidence > 240)].mean() + 10
    page.locator("#confidence").uncheck()
    assert off(see(page).part(HEIGHT, WIDTH)[0], plain).max() == 0


def test_two_models_stand_side_by_side(page: Page, system: System, pixels: Pixels) -> None:
    """Each stage shows its own model's mask, at the same place, with its own milliseconds."""
    data = page_images.png(pixels)
    choose_model(page, TEACHER + "@1", select="#model-b")
    segment(page, "tile.png", data, model=MODEL)
    show_exactly(page)
    for stage, model in (("stage", MODEL), ("stage-b", TEACHER + "@1")):
        mask = class_map(system.client.segment(data, model=model).mask)
        shown, rows, columns = see(page, stage).part(HEIGHT, WIDTH)
        assert off(shown, painted(mask[rows, columns], pixels[rows, columns])).max() == 0, model
    assert "ms" in page.locator("#milliseconds").inner_text()
    assert "ms" in page.locator("#milliseconds-b").inner_text()
    masks = [
        class_map(system.client.segment(data, model=model).mask)
        for model in (MODEL, TEACHER + "@1")
    ]
    agreement = 100 * (masks[0] == masks[1]).mean()
    assert f"{agreement:.1f}" in page.locator("#view-segment").inner_text()


def test_either_models_mask_is_saved(page: Page, system: System, pixels: Pixels) -> None:
    """Beside what it found; the files' names tell them apart."""
    data = page_images.png(pixels)
    choose_model(page, TEACHER + "@1", select="#model-b")
    segment(page, "tile.png", data, model=MODEL)
    names = set()
    for button, model in (("#save-png", MODEL), ("#save-png-b", TEACHER + "@1")):
        name, saved = download(page, button)
        assert saved == system.client.segment(data, model=model).mask, model
        assert model.replace("@", "-") in name
        names.add(name)
    assert len(names) == 2
    page.locator("#model-b").select_option("none")
    wait_for_overlay(page)
    assert page.locator("#save-png-b").is_hidden()
    assert download(page, "#save-png")[0] == "tile.mask.png"


def test_the_wheel_and_keys_zoom(page: Page, pixels: Pixels) -> None:
    """The wheel zooms in at the pointer; + and - do at the middle, arrows move."""
    segment(page, "tile.png", page_images.png(pixels), model=MODEL)
    before = see(page)
    box = page.locator("#stage").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -300)
    wheeled = see_when(page, lambda seen: seen.scale > 1.2 * before.scale)
    page.locator("#stage [tabindex='0'], #stage[tabindex='0']").first.focus()
    page.keyboard.press("+")
    keyed = see_when(page, lambda seen: seen.scale > 1.05 * wheeled.scale)
    page.keyboard.press("ArrowRight")
    see_when(page, lambda seen: abs(seen.left - keyed.left) > 1)
    page.locator("#fit").click()
    see_when(page, lambda seen: seen.scale == pytest.approx(before.scale, rel=0.05))
    page.locator("#zoom-in").click()
    see_when(page, lambda seen: seen.scale > 1.05 * before.scale)


def test_the_sample_needs_no_file(page: Page) -> None:
    """One button shows what a model makes of the image that comes along."""
    choose_model(page, MODEL)
    page.locator("#sample").click()
    wait_for_overlay(page)
    assert page.locator("#classes tr").count() >= len(CLASSES) - 1
    marks = page.evaluate("performance.getEntriesByType('mark').map((each) => each.name)")
    assert {"histill:taken", "histill:first-overlay", "histill:overlay"} <= set(marks)


def test_downloads_are_what_the_sdk_gives(page: Page, system: System, pixels: Pixels) -> None:
    """PNG and GeoJSON have the SDK's bytes; DICOM SEG has its frames; names follow the image's."""
    data = page_images.dicom(pixels)
    segment(page, "tile.dcm", data, model=MODEL)
    for button, form in (("#save-png", "png"), ("#save-geojson", "geojson")):
        name, saved = download(page, button)
        expected = system.client.segment(data, model=MODEL, mask_format=form).mask
        assert name.startswith("tile"), name
        if form == "geojson":
            assert json.loads(saved) == json.loads(expected)
        else:
            assert saved == expected
    name, saved = download(page, "#save-dicom-seg")
    assert name.endswith(".dcm")
    seg = pydicom.dcmread(io.BytesIO(saved))
    other = system.client.segment(data, model=MODEL, mask_format="dicom-seg").mask
    expected_seg = pydicom.dcmread(io.BytesIO(other))
    assert np.array_equal(seg.pixel_array, expected_seg.pixel_array)
    assert [each.SegmentLabel for each in seg.SegmentSequence] == list(CLASSES[1:])


def test_dicom_seg_is_for_dicom_images_only(page: Page, pixels: Pixels) -> None:
    """For another image the button is disabled, and the page says why."""
    segment(page, "tile.png", page_images.png(pixels), model=MODEL)
    assert page.locator("#save-dicom-seg").is_disabled()
    assert page.locator("#save-png").is_enabled()
    assert "DICOM" in page.locator("#view-segment").inner_text()

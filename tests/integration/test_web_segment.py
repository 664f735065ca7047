"""Segmentation through the page, over a real inference service that asks for keys."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import httpx
import numpy as np
import pytest
from PIL import Image

from dicoms import dicom
from histill.client import Client, ClientSettings
from pages import HOST, Page, api_keys, bearer_of, key_of, page_of
from pictures import blobs
from processes import Service, wait_until_serving
from serving import bucket_of, inference
from students import publish, student

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3


@pytest.fixture(scope="module")
def service(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The inference service with one student."""
    folder = tmp_path_factory.mktemp("inference")
    bucket, store = bucket_of(s3)
    publish(store, student(), folder)
    variables = {"HISTILL_AUTH__MODE": "api_key", "HISTILL_AUTH__API_KEYS": api_keys()}
    with inference(s3, folder, variables, bucket=bucket) as running:
        wait_until_serving(running)
        yield running


@pytest.fixture(scope="module")
def page(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page over it."""
    folder = tmp_path_factory.mktemp("web")
    with page_of(folder, inference=service.target, max_uploads="16") as started:
        yield started


@pytest.fixture(scope="module")
def visitor(page: Page) -> Iterator[httpx.Client]:
    """A program that shows a viewer's key."""
    with page.visitor("viewer") as client:
        yield client


@pytest.fixture(scope="module")
def sdk(service: Service) -> Iterator[Client]:
    """The SDK, with the same rights."""
    settings = {"inference": service.target, "api_key": key_of("viewer")}
    with Client(ClientSettings.model_validate(settings)) as client:
        yield client


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


IMAGE = png(blobs(3, side=60)[0])


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def picture(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_a_served_model_and_its_colours(visitor: httpx.Client) -> None:
    """Each class has the colour in which masks and legends show it."""
    (model,) = visitor.get("/api/served").json()["models"]
    assert (model["reference"], model["parameters"]) == ("nuclei@1", 10)
    assert model["classes"] == [
        {"index": 0, "name": "background", "color": [0, 0, 0]},
        {"index": 1, "name": "nuclei", "color": [230, 159, 0]},
    ]


def test_regions_as_they_get_ready(visitor: httpx.Client, sdk: Client) -> None:
    """The size first, then regions that cover the image once, then what they show."""
    pixels = blobs(5, side=700)[0]
    asked = {"model": "nuclei", "picture": "1", "confidence_map": "1"}
    told = lines(visitor.post("/api/segment", params=asked, content=png(pixels)))
    assert told[0] == {"size": {"height": 700, "width": 700}}
    assert [next(iter(each)) for each in told].count("summary") == 1
    mask, seen = np.full((700, 700), 255, np.uint8), np.zeros((700, 700), int)
    for each in told:
        if region := each.get("region"):
            place = np.s_[
                region["row"] : region["row"] + region["height"],
                region["column"] : region["column"] + region["width"],
            ]
            mask[place] = np.asarray(picture(region["mask"]))
            seen[place] += 1
            shown = np.asarray(picture(region["picture"])).astype(int)
            assert np.abs(shown - pixels[place]).mean() < 12
            assert picture(region["confidence_map"]).mode == "L"
    assert (seen == 1).all()
    expected = sdk.segment(png(pixels), model="nuclei")
    assert np.array_equal(mask, np.asarray(Image.open(io.BytesIO(expected.mask))))
    summary = told[-1]["summary"]
    assert summary["model"] == "nuclei@1"
    assert summary["times"]["compute_ms"] > 0
    assert summary["classes"][1]["color"] == [230, 159, 0]
    assert summary["classes"][1]["pixels"] == int((mask == 1).sum())


def test_pictures_only_for_who_asks(visitor: httpx.Client) -> None:
    """A page that has the image needs its mask alone."""
    told = lines(visitor.post("/api/segment", params={"model": "nuclei"}, content=IMAGE))
    (region,) = [each["region"] for each in told if "region" in each]
    assert set(region) == {"row", "column", "height", "width", "mask"}


@pytest.mark.parametrize(
    ("form", "media_type", "ending"),
    [
        ("png", "image/png", "png"),
        ("geojson", "application/geo+json", "geojson"),
        ("rle", "application/json", "json"),
    ],
)
def test_a_mask_to_keep(
    visitor: httpx.Client, sdk: Client, form: str, media_type: str, ending: str
) -> None:
    """The file is what the SDK gives, under its media type and a name for the disk."""
    answer = visitor.post("/api/mask", params={"model": "nuclei@1", "format": form}, content=IMAGE)
    assert answer.status_code == 200, answer.text
    assert answer.content == sdk.segment(IMAGE, model="nuclei", mask_format=form).mask
    assert answer.headers["content-type"] == media_type
    assert answer.headers["content-disposition"] == (
        f'attachment; filename="nuclei-1-mask.{ending}"'
    )


def test_a_dicom_segmentation_to_keep(visitor: httpx.Client) -> None:
    """DICOM images give DICOM objects."""
    image = dicom(np.full((40, 50, 3), 90, np.uint8), kind="RGB")
    asked = {"model": "nuclei", "format": "dicom-seg"}
    answer = visitor.post("/api/mask", params=asked, content=image)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/dicom"
    assert answer.content[128:132] == b"DICM"


@pytest.mark.parametrize("path", ["/api/segment", "/api/mask"])
@pytest.mark.parametrize(
    ("image", "asked", "status", "field", "words"),
    [
        (b"GIF89a" + bytes(200), {}, 400, None, "PNG, JPEG, TIFF or DICOM"),
        (IMAGE[:500], {}, 400, None, "truncated"),
        (b"", {}, 400, "image", "is empty"),
        (IMAGE, {"model": ""}, 400, "model", "choose a model"),
        (IMAGE, {"model": "nobody"}, 404, None, "nobody does not exist"),
        (IMAGE, {"frame": "-1"}, 400, "frame", "whole number"),
        (IMAGE, {"level": "99"}, 400, "selection.level", "99"),
        (IMAGE, {"pixel_size_um": "nan"}, 400, "pixel_size_um", "number"),
    ],
)
def test_what_is_wrong_is_said_in_words(
    visitor: httpx.Client,
    path: str,
    image: bytes,
    asked: dict[str, str],
    status: int,
    field: str | None,
    words: str,
) -> None:
    """Before an answer begins, each error has its status, its words and its field."""
    answer = visitor.post(path, params={"model": "nuclei"} | asked, content=image)
    error = answer.json()["error"]
    assert answer.status_code == status, error
    assert words in error["message"]
    if field:
        assert error["fields"][0]["field"] == field


def test_formats_that_are_none(visitor: httpx.Client) -> None:
    """Names which there are, and what DICOM SEG needs."""
    for form, words in (("bmp", "must be one of png, geojson"), ("dicom-seg", "DICOM image")):
        asked = {"model": "nuclei", "format": form}
        answer = visitor.post("/api/mask", params=asked, content=IMAGE)
        assert answer.status_code == 400
        assert words in answer.json()["error"]["message"]


def test_strangers_segment_nothing(page: Page) -> None:
    """Without a key, and with a wrong one, nobody's image is looked at."""
    for headers in ({}, {"authorization": "Bearer nobody"}):
        with page.visitor() as stranger:
            answer = stranger.post(
                "/api/segment", params={"model": "nuclei"}, content=IMAGE, headers=headers
            )
        assert answer.status_code == 401, answer.text
        assert "key" in answer.json()["error"]["message"]


class Slow:
    """A client that sends bytes when it is told to."""

    def __init__(self, page: Page, length: int | None, path: str, *further: str) -> None:
        self.socket = socket.create_connection((HOST, page.port), timeout=20)
        head = [
            f"POST {path} HTTP/1.1",
            f"Host: {HOST}:{page.port}",
            f"Authorization: {bearer_of('viewer')['authorization']}",
            *([f"Content-Length: {length}"] if length is not None else []),
            *further,
        ]
        self.socket.sendall(("\r\n".join(head) + "\r\n\r\n").encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def rest(self) -> str:
        """Everything until the server closes."""
        found = b""
        while data := self.socket.recv(1 << 16):
            found += data
        return found.decode()


def test_too_large_is_said_before_a_byte_is_sent(page: Page) -> None:
    """A program that asks first sends none of it."""
    expect = "Expect: 100-continue"
    with Slow(page, 5 << 30, "/api/segment?model=nuclei", expect) as client:
        answer = client.rest()
    assert answer.startswith("HTTP/1.1 413")
    assert "5,120.0 MiB" in answer
    assert "100 Continue" not in answer


def test_a_length_is_needed(page: Page) -> None:
    """Chunked bodies are told what to send instead."""
    with Slow(page, None, "/api/segment?model=nuclei", "Transfer-Encoding: chunked") as client:
        client.socket.sendall(b"3\r\nabc\r\n0\r\n\r\n")
        answer = client.rest()
    assert answer.startswith("HTTP/1.1 411")
    assert "Content-Length" in answer


@pytest.mark.parametrize("model", ["nobody", "nuclei"])
def test_a_refusal_is_heard_in_the_middle_of_an_upload(page: Page, model: str) -> None:
    """Clients read the answer when they have sent everything: nothing is cut off before."""
    size = 50 << 20
    with httpx.Client(base_url=page.url, timeout=30) as visitor:
        answer = visitor.post(
            "/api/segment",
            params={"model": model} | ({"level": "99"} if model == "nuclei" else {}),
            content=(bytes(1 << 20) for _ in range(size >> 20)),
            headers=bearer_of("viewer") | {"content-length": str(size)},
        )
    assert answer.status_code == (404 if model == "nobody" else 400), answer.text
    assert answer.json()["error"]["message"]
    assert answer.headers["connection"] == "close"


def test_refusals_of_many_uploads_at_once(page: Page) -> None:
    """Whatever meets whatever, each hears what the service said, and the page goes on."""

    def told(number: int) -> int:
        with page.visitor("viewer" if number % 3 else "nobody") as visitor:
            size = (100, 300_000, 3 << 20)[number % 4 % 3]
            path = "/api/segment?model=nobody"
            return visitor.post(path, content=bytes(size)).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(told, range(120)))
    assert set(statuses[1::3]) == set(statuses[2::3]) == {404}
    # After some wrong keys others of the same address wait for their refusal.
    assert set(statuses[::3]) <= {401, 429}
    assert page.process.poll() is None


def test_large_files_pass_through(page: Page, visitor: httpx.Client) -> None:
    """The page holds a few pieces of a file of 200 MB, whatever is in it."""
    before = page.peak_memory_bytes()
    size, piece = 200 << 20, os.urandom(1 << 20)
    answer = visitor.post(
        "/api/segment",
        params={"model": "nuclei"},
        content=(piece for _ in range(size >> 20)),
        headers={"content-length": str(size)},
    )
    assert answer.status_code == 400
    assert "PNG, JPEG, TIFF or DICOM" in answer.json()["error"]["message"]
    assert page.peak_memory_bytes() - before < 50 << 20


def test_so_many_images_at_a_time(service: Service, tmp_path: Path) -> None:
    """One more is told when to come back, and may once another one is gone."""
    with page_of(tmp_path, inference=service.target, max_uploads="1") as small:
        path = "/api/segment?model=nuclei"
        slow = Slow(small, len(IMAGE), path, "Connection: close")
        with small.visitor("viewer") as visitor, slow:
            slow.socket.sendall(IMAGE[:100])
            deadline = time.monotonic() + 10
            while (answer := visitor.post(path, content=IMAGE)).status_code != 429:
                assert time.monotonic() < deadline
            assert answer.headers["retry-after"] == "1"
            slow.socket.sendall(IMAGE[100:])
            assert '{"summary":' in slow.rest()
            lines(visitor.post(path, content=IMAGE))


def test_one_caller_leaves_room_for_another(service: Service, tmp_path: Path) -> None:
    """Whoever's images crawl holds all places but one, whatever address they come from."""
    with page_of(tmp_path, inference=service.target, max_uploads="2") as small:
        path = "/api/segment?model=nuclei"
        slow = Slow(small, len(IMAGE), path, "Connection: close")
        with small.visitor("viewer") as same, small.visitor("operator") as other, slow:
            slow.socket.sendall(IMAGE[:100])
            deadline = time.monotonic() + 10
            while (answer := same.post(path, content=IMAGE)).status_code != 429:
                assert time.monotonic() < deadline
            assert "your other images" in answer.json()["error"]["message"]
            lines(other.post(path, content=IMAGE))

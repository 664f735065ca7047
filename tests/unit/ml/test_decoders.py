"""Files read in processes of their own: the same pixels, and bounds that hold."""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

import bombs
from decoding_processes import alive, children, decoded, gone, peak_bytes, remote
from dicoms import dicom, volume
from dicoms import slide as dicom_slide
from histill.core.errors import (
    HistillError,
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)
from histill.ml import decoder_wire, decoding
from histill.ml.confinement import Budget
from histill.ml.decoders import Decoder, Decoders, violations
from histill.ml.images import Image, Selection, Size, Slide
from histill.ml.masks import Format, MaskContext, encode
from histill.ml.masks import check as check_mask
from slide_files import pyramid, sparse

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBERS = np.random.default_rng(0)
RGB = NUMBERS.integers(0, 256, (60, 50, 3), dtype=np.uint8)
DEEP = NUMBERS.integers(0, 4096, (60, 50), dtype=np.uint16)
MEMORY = 256 << 20


def written(form: str) -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(RGB).save(out, form)
    return out.getvalue()


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, **options)
    return out.getvalue()


FILES = {
    "png": written("PNG"),
    "jpeg": written("JPEG"),
    "tiff": written("TIFF"),
    "deep tiff": tiff(DEEP, compression="zlib"),
    "dicom": dicom(DEEP),
    "slide": pyramid([RGB], description="Aperio Image Library v11\n|AppMag = 20|MPP = 0.5"),
    "dicom slide": dicom_slide(RGB, tile=32),
}


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    """Two that wait, with a quarter of a gigabyte and two seconds each."""
    made = Decoders(Budget(MEMORY, cpu_s=2), ahead=2, spare=2)
    made.start()
    yield made
    made.close()


def nursery_of(decoders: Decoders) -> int:
    assert decoders._nursery is not None
    return decoders._nursery.pid


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_pixels_are_those_of_this_process(decoders: Decoders, data: bytes) -> None:
    """What comes back is the same, with its spacing and its source, bit for bit."""
    here, there = decoding.decode(io.BytesIO(data)), decoded(decoders, data)
    assert isinstance(there, Image)
    np.testing.assert_array_equal(there.pixels, here.pixels)
    assert (there.spacing, there.source) == (here.spacing, here.source)
    assert there.dicom is None
    assert (there.origin is None) == (here.dicom is None)


def test_what_is_wrong_is_told_as_in_this_process(decoders: Decoders) -> None:
    """Fields, words and kinds of errors cross the border."""
    for data in (b"", b"GIF89a" + bytes(300), FILES["png"][:60], FILES["dicom"][:300]):
        with pytest.raises(InvalidArgumentError) as here:
            decoding.decode(io.BytesIO(data))
        with pytest.raises(InvalidArgumentError) as there:
            decoded(decoders, data)
        assert there.value.violations == here.value.violations
    with (
        closing(remote(decoders, FILES["png"], Selection(level=3))) as file,
        pytest.raises(InvalidArgumentError, match=r"selection\.level"),
    ):
        file.open()
    with pytest.raises(ResourceExhaustedError, match="100000 x 100000"):
        decoded(decoders, bombs.png(100_000, 100_000, b""))


def test_regions_come_from_any_thread(decoders: Decoders) -> None:
    """Several decoders read one slide, and all are given back."""
    pixels = NUMBERS.integers(0, 256, (4200, 4100, 3), dtype=np.uint8)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with closing(remote(decoders, pyramid([pixels]))) as file:
        slide = file.open()
        assert isinstance(slide, Slide)
        places = [(0, 0, 1, 1), (250, 500, 300, 20), (4100, 4000, 100, 100), (7, 0, 300, 4100)] * 6
        with ThreadPoolExecutor(4) as threads:
            for place, found in zip(
                places, threads.map(lambda each: slide.read(*each), places), strict=True
            ):
                row, column, height, width = place
                expected = pixels[row : row + height, column : column + width]
                np.testing.assert_array_equal(found, expected)
        assert 1 < len(file._idle) <= 3
    assert [decoders.spare.acquire(blocking=False) for _ in range(3)] == [True, True, False]
    decoders.spare.release(2)
    del found
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_frames_and_segmentations_are_made_where_the_file_is(decoders: Decoders) -> None:
    """Other frames of a stack, and a DICOM SEG of all of them, as in this process."""
    stack = NUMBERS.integers(0, 200, (3, 20, 30), dtype=np.uint16)
    data = volume(stack)
    here = decoding.decode(io.BytesIO(data))
    with closing(remote(decoders, data)) as file:
        assert file.open() == Size(20, 30)
        image = file.decode()
        assert image.origin is not None
        assert image.origin.frames == 3
        second = decoding.decode(io.BytesIO(data), Selection(frame=2)).pixels
        np.testing.assert_array_equal(image.origin.frame(1), second)
        check_mask(Format.DICOM_SEG, image)
        mask = NUMBERS.integers(0, 2, (60, 30), dtype=np.uint8)
        made = [
            encode(mask, Format.DICOM_SEG, MaskContext(each, ("background", "x"), "m@1"))
            for each in (here, image)
        ]
    # All but identifiers and times of making.
    assert made[1][128:132] == b"DICM"
    assert len(made[1]) == pytest.approx(len(made[0]), abs=200)
    with closing(remote(decoders, dicom(DEEP, StudyInstanceUID=""))) as file:
        file.open()
        with pytest.raises(InvalidArgumentError, match="lacks what a segmentation must repeat"):
            check_mask(Format.DICOM_SEG, file.decode())


def test_a_decoder_is_bounded_and_knows_no_secret(decoders: Decoders) -> None:
    """The kernel's limits hold, no core is dumped, and the environment has none of ours."""
    decoded(decoders, FILES["png"])
    nursery = nursery_of(decoders)
    (one, *_) = children(nursery)
    limits = Path(f"/proc/{one}/limits").read_text()
    soft = {line[:26].strip(): line[26:47].strip() for line in limits.splitlines()}
    assert MEMORY < int(soft["Max address space"]) < MEMORY + (1 << 30)
    assert soft["Max core file size"] == "0"
    assert int(soft["Max cpu time"]) < 60
    hard = {line[:26].strip(): line[47:68].strip() for line in limits.splitlines()}
    assert int(hard["Max cpu time"]) == 200
    assert int(soft["Max file size"]) == MEMORY
    environment = Path(f"/proc/{one}/environ").read_bytes()
    assert {each.partition(b"=")[0] for each in environment.split(b"\0") if each} <= {
        b"LANG",
        b"LC_CTYPE",
        b"OMP_NUM_THREADS",
        b"OPENBLAS_NUM_THREADS",
    }


def test_more_memory_than_allowed_is_refused_and_the_next_file_is_read(
    decoders: Decoders,
) -> None:
    """The error says how much there is; this process holds none of it."""
    before = peak_bytes(os.getpid())
    bomb = bombs.tiff_page(14_000, 14_000, bombs.deflated(14_000 * 14_000 * 2), bits=16)
    with pytest.raises((InvalidArgumentError, ResourceExhaustedError), match="bytes of memory"):
        decoded(decoders, bomb)
    assert peak_bytes(os.getpid()) - before < 50e6
    assert decoded(decoders, FILES["tiff"]).size == Size(60, 50)


def test_more_time_than_allowed_is_refused(decoders: Decoders) -> None:
    """Scans without end of a progressive JPEG end with their decoder."""
    began = time.monotonic()
    with pytest.raises(InvalidArgumentError, match=r"image: .*gave up.* 2 s"):
        decoded(decoders, bombs.slow_jpeg(3000, 20_000))
    assert time.monotonic() - began < 20
    assert decoded(decoders, FILES["jpeg"]).size == Size(60, 50)


def test_a_decoder_that_dies_is_replaced(decoders: Decoders) -> None:
    """Killed while it waits or while it works: an error that names the image, then a fresh one."""
    with closing(remote(decoders, FILES["slide"])) as file:
        slide = file.open()
        assert isinstance(slide, Slide)
        for each in children(nursery_of(decoders)):
            os.kill(each, signal.SIGKILL)
        with pytest.raises(InvalidArgumentError, match="image: its decoder gave up"):
            slide.read(0, 0, 5, 5)
        with pytest.raises(HistillError):
            slide.read(0, 0, 5, 5)
    assert decoded(decoders, FILES["slide"]).size == Size(60, 50)


def test_nobody_is_told_that_they_wait_before_they_do() -> None:
    """Whoever asks while another call still starts them hears that; also when that takes long."""
    made = Decoders(Budget(MEMORY, cpu_s=2), ahead=2, spare=2)
    starting = threading.Thread(target=made.start)
    starting.start()
    refused = 0
    try:
        while len(made._idle) < 2:
            try:
                made.start()
            except UnavailableError:
                refused += 1
                time.sleep(0.01)
            else:
                assert len(made._idle) == 2
        assert refused
    finally:
        starting.join(60)
        made.close()


def test_a_nursery_that_dies_is_replaced(decoders: Decoders) -> None:
    """Its decoders go with it, and the next file is read by others."""
    nursery = nursery_of(decoders)
    old = children(nursery)
    os.kill(nursery, signal.SIGKILL)
    assert gone([nursery, *old])
    assert decoded(decoders, FILES["dicom"]).size == Size(60, 50)
    assert nursery_of(decoders) != nursery


def test_whoever_closes_a_file_stops_those_who_read_it(decoders: Decoders) -> None:
    """A decoder at work is ended at once, and its reader gets an error."""
    file = remote(decoders, bombs.slow_jpeg(3000, 20_000))
    failures: list[HistillError] = []
    file.open()

    def read() -> None:
        try:
            file.decode()
        except HistillError as exc:
            failures.append(exc)

    reader = threading.Thread(target=read)
    reader.start()
    while not file._busy:
        time.sleep(0.01)
    began = time.monotonic()
    file.close()
    reader.join()
    assert failures
    assert time.monotonic() - began < 1
    with pytest.raises(InternalError, match="closed"):
        file.decode()


PARENT = """
import sys, time
from histill.ml.confinement import Budget
from histill.ml.decoders import Decoders
made = Decoders(Budget(1 << 28, 60), ahead=2, spare=1)
made.start()
print(made._nursery.pid, flush=True)
time.sleep(60)
"""


def test_decoders_end_with_their_parent() -> None:
    """Even where it is killed and can tell nobody."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        nursery = int(parent.stdout.readline())
        all_of_them = [nursery, *children(nursery)]
        assert len(all_of_them) == 3
        assert all(alive(each) for each in all_of_them)
        parent.kill()
        parent.wait()
        assert gone(all_of_them)


@pytest.mark.parametrize("told", [None, [], 3, [3], [["x"]], ["ab"], {"a": 1}])
def test_a_decoder_that_talks_nonsense_still_names_the_image(told: object) -> None:
    """Whatever stands where violations should, an error of ours comes of it."""
    found = violations(told)
    assert [each.field for each in found] == ["image"]


def test_a_slide_of_any_size_is_opened(decoders: Decoders) -> None:
    """Its size costs nothing, here or there."""
    with closing(remote(decoders, sparse(50_000, 50_000, {}))) as file:
        slide = file.open()
        assert isinstance(slide, Slide)
        assert slide.size == Size(50_000, 50_000)
        assert (slide.read(40_000, 30_000, 300, 300) == 255).all()


# Without capabilities, which the superuser has: those open every door.
POWERLESS = """
import ctypes, os, sys
for capability in range(64):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
SIBLING = """
import os, signal, sys
from pathlib import Path
from histill.ml.confinement import Budget
from histill.ml.decoders import Decoders
made = Decoders(Budget(1 << 28, 60), ahead=1, spare=1)
made.start()
nursery = made._nursery.pid
(decoder,) = Path(f"/proc/{nursery}/task/{nursery}/children").read_text().split()
for process in (nursery, decoder):
    for secret in ("mem", "environ", "maps", "fd/0"):
        try:
            os.open(f"/proc/{process}/{secret}", os.O_RDONLY)
        except PermissionError:
            continue
        sys.exit(f"{secret} can be read")
made.close()
"""


def test_a_decoder_hides_from_others_of_its_user() -> None:
    """One that was taken over cannot read the memory or the files of the next, or the nursery's."""
    done = subprocess.run(
        [sys.executable, "-c", POWERLESS, SIBLING], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_decoder_of_a_complex_format_makes_way_for_a_fresh_one(decoders: Decoders) -> None:
    """What a hostile TIFF, DICOM or slide left in it must see no other file."""
    for name, kept in (("png", True), ("jpeg", True), ("tiff", False), ("dicom", False)):
        with closing(remote(decoders, FILES[name])) as file:
            file.open()
            (decoder,) = file._idle
        assert (decoder in decoders._idle) == kept == decoder.usable


def test_a_file_that_nobody_asked_for_is_closed(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that was taken over cannot fill the service with open files."""
    ask, sent = Decoder.ask, []

    def with_a_file(self: Decoder, message: Any, *files: int) -> Any:
        sent.append(decoder_wire.in_memory(b"x"))
        return ask(self, message, *files)[0], sent[-1]

    monkeypatch.setattr(Decoder, "ask", with_a_file)
    with (
        closing(remote(decoders, FILES["png"])) as file,
        pytest.raises(InvalidArgumentError, match="its decoder gave up"),
    ):
        file.open()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(sent[0])

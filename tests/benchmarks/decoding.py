"""What an image costs that is read in another process: ``make bench-decoding``.

Prints medians of 512 x 512 pixels, here and there, and their ratio, all in one run.
"""

from __future__ import annotations

import io
import statistics
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

sys.path.insert(0, str(Path(__file__).parents[1]))
from dicoms import dicom
from histill.ml import decoding
from histill.ml.confinement import Budget
from histill.ml.decoders import Decoders
from histill.ml.images import WHOLE_FILE
from histill.ml.remote import RemoteFile

if TYPE_CHECKING:
    from collections.abc import Callable

_SIDE, _TIMES = 512, 60


def files() -> dict[str, bytes]:
    """One picture in several formats."""
    noise = np.random.default_rng(0).normal(size=(_SIDE, _SIDE, 3))
    pixels = np.clip(gaussian_filter(noise, (2, 2, 0)) * 400 + 128, 0, 255).astype(np.uint8)
    found = {}
    for name, form, options in (
        ("PNG", "PNG", {}),
        ("JPEG", "JPEG", {"quality": 90}),
        ("deflated TIFF", "TIFF", {"compression": "tiff_deflate"}),
    ):
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, form, **options)
        found[name] = out.getvalue()
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, photometric="rgb")
    found["TIFF"] = out.getvalue()
    found["DICOM RGB"] = dicom(pixels, kind="RGB")
    found["DICOM 16 bit"] = dicom(pixels[..., 0].astype(np.uint16) * 16)
    return found


def median_ms(work: Callable[[], object]) -> float:
    """Of some repetitions, in milliseconds."""
    work()
    seconds = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds)


def main() -> None:
    """Prints a line a format."""
    decoders = Decoders(Budget(memory_bytes=3 << 30, cpu_s=60), ahead=2, spare=2)
    began = time.perf_counter()
    decoders.start()
    print(f"two decoders are ready after {time.perf_counter() - began:.2f} s")  # noqa: T201

    def there(data: bytes) -> None:
        limit = 10**9
        file = RemoteFile(
            decoders, io.BytesIO(data), WHOLE_FILE, max_pixels=limit, max_slide_pixels=limit
        )
        with closing(file):
            file.open()
            file.decode()

    def here(data: bytes) -> None:
        decoding.probe(io.BytesIO(data))
        decoding.decode(io.BytesIO(data))

    for name, data in files().items():
        own, other = median_ms(lambda: here(data)), median_ms(lambda: there(data))  # noqa: B023
        print(f"{name:14} here {own:6.2f} ms, there {other:6.2f} ms, ratio {other / own:.2f}")  # noqa: T201
    decoders.close()


if __name__ == "__main__":
    main()

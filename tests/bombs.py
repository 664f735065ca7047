"""Small files that claim, or unpack to, far more than anybody has memory for."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit

from dicoms import dicom

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.uid import UID

_BLOCK = bytes(1 << 24)


def deflated(size: int, *, raw: bool = False) -> bytes:
    """A deflate stream of zeros, about a thousandth of its size."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    # Such a block stands for itself, so that one serves for all.
    block = packer.compress(_BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
    last = packer.compress(bytes(size % len(_BLOCK))) + packer.flush()
    stream = block * (size // len(_BLOCK)) + last
    # Adler-32 of zeros: the first sum stays 1, the second counts them.
    return stream if raw else b"\x78\xda" + stream + struct.pack(">HH", size % 65521, 1)


def png(
    height: int, width: int, pixels: bytes, *chunks: tuple[bytes, bytes], colour: int = 2
) -> bytes:
    """A PNG of 8 bits with further chunks before its pixels, which are given deflated."""
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    every = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in every
    )


def small_png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A good PNG of 8 x 8 pixels with further chunks."""
    return png(8, 8, zlib.compress(b"".join(b"\0" + bytes(24) for _ in range(8))), *chunks)


def tiff(tags: Sequence[tuple[int, int, int, int]], data: bytes) -> bytes:
    """A little-endian TIFF of one page.

    Args:
        tags: Number, type, count, and value or offset; ``data`` begins at offset 8.
        data: Strips and what else tags point to.
    """
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    start = 8 + len(data) + len(data) % 2
    page = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", start) + data + bytes(len(data) % 2) + page


def tiff_page(
    height: int, width: int, strip: bytes, *more: tuple[int, int, int, int], **changed: int
) -> bytes:
    """A deflated TIFF of 8-bit grey in one strip, with further or other tags."""
    tags = {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, changed.get("bits", 8)),
        259: (3, 1, changed.get("compression", 8)),
        262: (3, 1, 1),
        273: (4, 1, 8),
        277: (3, 1, changed.get("samples", 1)),
        278: (4, 1, height),
        279: (4, 1, len(strip)),
    } | {tag: rest for tag, *rest in more}  # fmt: skip
    return tiff([(tag, *rest) for tag, rest in tags.items()], strip)


def deep_tiff(height: int, width: int) -> bytes:
    """16-bit RGB of zeros in deflated strips: ten gigabytes of about eleven megabytes."""
    out = io.BytesIO()
    rows = 64
    strip = zlib.compress(bytes(rows * width * 6), 9)
    with tifffile.TiffWriter(out, bigtiff=True) as writer:
        writer.write(
            (strip for _ in range(height // rows)),
            shape=(height, width, 3),
            dtype=np.uint16,
            rowsperstrip=rows,
            photometric="rgb",
            compression="zlib",
            metadata=None,
        )
    return out.getvalue()


def deflated_dicom(size: int) -> bytes:
    """A DICOM file in the deflated syntax whose data set inflates to so many bytes."""
    plain = dicom(np.zeros((8, 8), np.uint8))
    meta = 132 + 12 + struct.unpack_from("<I", plain, 132 + 8)[0]
    uid = str(DeflatedExplicitVRLittleEndian)
    head = plain[:meta].replace(b"1.2.840.10008.1.2.1\0", uid.encode() + b"\0" * (len(uid) % 2))
    grown = len(head) - meta
    head = head[:140] + struct.pack("<I", meta - 144 + grown) + head[144:]
    return head + deflated(size, raw=True)


def framed_dicom(frame: bytes, height: int, width: int, syntax: UID = JPEGBaseline8Bit) -> bytes:
    """A DICOM file of one compressed frame, which may be of another size than it says."""
    made: dict[str, Any] = {"Rows": height, "Columns": width}
    import pydicom

    dataset = pydicom.dcmread(io.BytesIO(dicom(np.zeros((8, 8, 3), np.uint8), kind="RGB")))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    for name, value in made.items():
        setattr(dataset, name, value)
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def jpeg(height: int, width: int) -> bytes:
    """A JPEG of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, "JPEG")
    return out.getvalue()


def slow_jpeg(side: int, scans: int) -> bytes:
    """A progressive JPEG of which the last scan comes again and again, each some bytes long."""
    out = io.BytesIO()
    Image.new("L", (side, side), 77).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    last = data.rindex(b"\xff\xda")
    # Its Huffman tables stand before it, and need not come again.
    return data[:-2] + data[last:-2] * scans + data[-2:]

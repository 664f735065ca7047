"""What a compressed frame says of its own size, before anything is decoded.

Decoders believe the frame, not the DICOM header around it: a frame of a few bytes that
claims 65535 x 65535 pixels would be given memory for them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from histill.core.errors import InvalidArgumentError
from histill.ml.images import FIELD, Size

if TYPE_CHECKING:
    from pydicom.uid import UID

# Start of frame: baseline, extended, progressive, lossless; arithmetic coding; JPEG-LS.
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
# What every marker begins with, and what may fill the space before one.
_MARK = 0xFF
_CODE_STREAM = b"\xff\x4f\xff\x51"
_JP2 = b"\x00\x00\x00\x0cjP  "


def check_frame(data: bytes, syntax: UID, size: Size, samples: int) -> None:
    """Compares what a frame claims with what the header does.

    Args:
        data: The code stream.
        syntax: Its transfer syntax; RLE and uncompressed frames claim nothing.
        size: Rows and columns by the header.
        samples: Values a pixel by the header.

    Raises:
        InvalidArgumentError: They differ, or the frame is damaged; names ``image``.
    """
    if not (syntax.startswith("1.2.840.10008.1.2.4.") and syntax.is_encapsulated):
        return
    try:
        found = _jpeg2000(data) if _is_jpeg2000(data) else _jpeg(data)
    except (struct.error, IndexError) as exc:
        raise InvalidArgumentError.of(FIELD, "a frame of the DICOM file is damaged") from exc
    if found != (size.height, size.width, samples):
        raise InvalidArgumentError.of(
            FIELD, "a frame of the DICOM file is not of the size that its header tells"
        )


def _is_jpeg2000(data: bytes) -> bool:
    return data.startswith((_CODE_STREAM, _JP2))


def _jpeg(data: bytes) -> tuple[int, int, int]:
    """Rows, columns and components by the first start of frame."""
    position = 2
    while data[position] == _MARK:
        marker = data[position + 1]
        if marker == _MARK:
            position += 1
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker in _FRAMES:
            rows, columns, components = struct.unpack_from(">HHB", data, position + 5)
            return rows, columns, components
        position += 2 + length
    raise IndexError(position)


def _jpeg2000(data: bytes) -> tuple[int, int, int]:
    """Rows, columns and components of a code stream, bare or in JP2 boxes."""
    position = 0
    while not data.startswith(_CODE_STREAM, position):
        (length,) = struct.unpack_from(">I", data, position)
        inside = data[position + 4 : position + 8] == b"jp2c"
        position += 8 if inside else max(8, length)
    right, bottom, left, top = struct.unpack_from(">4I", data, position + 8)
    (components,) = struct.unpack_from(">H", data, position + 40)
    return bottom - top, right - left, components

"""Indexed and grey PNG files, written while their rows come.

After the PNG specification, third edition (W3C, 2025). Rows are not filtered, and
deflate's run-length strategy writes them: class indices lie in runs, which it writes in less
time than the others and in half the bytes; confidences in half the time, and no more bytes.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from histill.ml.colors import COLORS

if TYPE_CHECKING:
    import numpy.typing as npt

    from histill.ml.images import Size

    Pixels = npt.NDArray[np.uint8]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _INDEXED = 0, 3
_PALETTE = bytes(value for color in COLORS for value in color)
_MEMORY = 9  # the most that deflate takes


class PngStream:
    """An 8-bit PNG of one channel; implements ``masks.Writer``.

    Args:
        size: Of the image.
        palette: Values are class indices, with their colours; grey values else.
    """

    def __init__(self, size: Size, *, palette: bool = True) -> None:
        kind = _INDEXED if palette else _GREY
        header = struct.pack(">IIBBBBB", size.width, size.height, 8, kind, 0, 0, 0)
        self._head = _SIGNATURE + _chunk(b"IHDR", header)
        if palette:
            self._head += _chunk(b"PLTE", _PALETTE)
        self._deflate = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, _MEMORY, zlib.Z_RLE)

    def add(self, rows: Pixels) -> bytes:
        """The file's next bytes, of rows of values, uint8 [h, W]."""
        head, self._head = self._head, b""
        lines = np.zeros((rows.shape[0], rows.shape[1] + 1), np.uint8)  # first: no filter
        lines[:, 1:] = rows
        return head + _chunk(b"IDAT", self._deflate.compress(lines.data))

    def end(self) -> bytes:
        """The file's last bytes."""
        return _chunk(b"IDAT", self._deflate.flush()) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    if kind == b"IDAT" and not data:
        return b""
    check = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

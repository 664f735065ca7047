"""What a decoder answers, checked: whoever sent the file may have taken it over."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from histill.core.errors import InvalidArgumentError
from histill.ml import decoder_wire
from histill.ml.decoder_wire import WireError
from histill.ml.images import FIELD, Size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histill.ml.decoder_wire import Message
    from histill.ml.decoders import Decoder
    from histill.ml.images import Pixels

_MOST_CHANNELS = 65_535


@contextlib.contextmanager
def kept_word(decoder: Decoder) -> Iterator[None]:
    """Believes nothing that a decoder says of a hostile file.

    Raises:
        InvalidArgumentError: What it said within the block was no answer; names ``image``.
    """
    try:
        yield
    except (WireError, KeyError, TypeError, ValueError, OverflowError) as exc:
        decoder.kill()
        raise InvalidArgumentError.of(FIELD, "its decoder gave up on it") from exc


def channels_of(told: Message) -> int:
    """Values a pixel.

    Raises:
        WireError: It is no number of channels.
    """
    channels = int(told["channels"])
    if not 1 <= channels <= _MOST_CHANNELS:
        raise WireError("no number of channels")
    return channels


def pixels_of(told: Message, file: int | None, size: Size | None = None) -> Pixels:
    """The pixels that came with an answer, uint8 [H, W, C].

    Args:
        told: Says their shape.
        file: A descriptor of theirs, closed in any case.
        size: Which they must have, where it is known.

    Raises:
        WireError: There are none, or of another shape.
    """
    if file is None:
        raise WireError("no pixels")
    try:
        shape = int(told["height"]), int(told["width"]), int(told["channels"])
    except BaseException:
        os.close(file)
        raise
    pixels = decoder_wire.mapped(file, shape)
    if size is not None and shape[:2] != (size.height, size.width):
        raise WireError("another region")
    return pixels

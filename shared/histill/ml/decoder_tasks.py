"""What a decoding process does when it is told to, with one file at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from histill.core.errors import InvalidArgumentError, ResourceExhaustedError
from histill.ml import decoder_wire, decoding, dicom, dicom_slides
from histill.ml.dicom_seg import dicom_seg, source_of
from histill.ml.images import Image, Selection, Slide
from histill.ml.masks import MaskContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from histill.ml.decoder_wire import Message
    from histill.ml.images import Picture, Pixels, Size

_LONGEST_WORDS = 1000
_MOST_VIOLATIONS = 8


class Tasks:
    """One open file, and what can be asked of it."""

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._selection = Selection()
        self._max_pixels = 0
        self._found: Size | Slide | None = None
        self._picture: Picture | None = None
        self._known: dict[str, Callable[[Message, list[int]], tuple[Message, int | None]]] = {
            "open": self._open,
            "decode": self._decode,
            "region": self._region,
            "frame": self._frame,
            "seg": self._seg,
        }

    def answer(self, message: Message, files: list[int]) -> tuple[Message, int | None]:
        """What a message asks for, as a message and perhaps a descriptor.

        Failures are told in the answer; what is none of ours is left to end the process.
        """
        try:
            return self._known[message["do"]](message, files)
        except InvalidArgumentError as exc:
            return {"invalid": _told(exc)}, None
        except ResourceExhaustedError as exc:
            return {"exhausted": str(exc)[:_LONGEST_WORDS]}, None
        except MemoryError:
            return {"memory": True}, None

    def close(self) -> None:
        """Forgets the file."""
        self._found = self._picture = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, message: Message, files: list[int]) -> tuple[Message, None]:
        self.close()
        # Anew: a position of its own, beside that of others who read the same file.
        self._file = Path(f"/proc/self/fd/{files[0]}").open("rb")  # noqa: SIM115 - see close
        self._selection = Selection(message["frame"], message["level"])
        self._max_pixels = message["max_pixels"]
        found = decoding.probe(
            self._file,
            self._selection,
            max_pixels=self._max_pixels,
            max_slide_pixels=message["max_slide_pixels"],
        )
        self._found = found
        if not isinstance(found, Slide):
            return {"height": found.height, "width": found.width}, None
        self._picture = found
        return self._described(found) | {"slide": True}, None

    def _decode(self, _: Message, __: list[int]) -> tuple[Message, int]:
        if self._file is None or self._found is None:
            raise ValueError("nothing is open")
        if isinstance(self._found, Slide):
            image = decoding.whole(self._found)
        else:
            image = decoding.decode(self._file, self._selection, max_pixels=self._max_pixels)
        self._picture = image
        described, pixels = self._described(image), image.pixels
        if image.dicom is not None:
            # Their frames are shown from the data set; the rest would only lie there.
            self._picture = Image(pixels[:1, :1].copy(), image.spacing, image.source, image.dicom)
        else:
            self._picture = None
        return described, decoder_wire.array_in_memory(pixels)

    def _described(self, picture: Picture) -> Message:
        size = picture.size
        told: Message = {
            "height": size.height,
            "width": size.width,
            "channels": picture.channels,
            "spacing": picture.spacing,
            "source": picture.source,
        }
        if picture.dicom is not None:
            tiled = dicom_slides.is_slide(picture.dicom)
            told["frames"] = 1 if tiled else dicom.frames(picture.dicom)
            try:
                source_of(picture)
            except InvalidArgumentError as exc:
                told["no_seg"] = _told(exc)
        return told

    def _region(self, message: Message, _: list[int]) -> tuple[Message, int]:
        if not isinstance(self._found, Slide):
            raise TypeError("no slide is open")
        place = (message[name] for name in ("row", "column", "height", "width"))
        return _sent(self._found.read(*place))

    def _frame(self, message: Message, _: list[int]) -> tuple[Message, int]:
        return _sent(dicom.frame_pixels(self._shown().dicom, message["index"]))

    def _seg(self, message: Message, files: list[int]) -> tuple[Message, int]:
        mask = decoder_wire.mapped(os.dup(files[0]), message["shape"])
        context = MaskContext(
            self._shown(),
            tuple(message["classes"]),
            message["model"],
            empty_frames=message["empty_frames"],
        )
        data = dicom_seg(mask, context)
        return {"height": 1, "width": 1, "channels": len(data)}, decoder_wire.in_memory(data)

    def _shown(self) -> Any:
        if self._picture is None or self._picture.dicom is None:
            raise ValueError("no DICOM file is open")
        return self._picture


def _sent(pixels: Pixels) -> tuple[Message, int]:
    height, width, channels = pixels.shape
    told = {"height": height, "width": width, "channels": channels}
    return told, decoder_wire.array_in_memory(pixels)


def _told(exc: InvalidArgumentError) -> list[list[str]]:
    return [
        [each.field[:_LONGEST_WORDS], each.description[:_LONGEST_WORDS]]
        for each in exc.violations[:_MOST_VIOLATIONS]
    ]

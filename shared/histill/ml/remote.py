"""Image files that are read in other processes: pixels come back, and nothing else."""

from __future__ import annotations

import contextlib
import io
import math
import os
import threading
from typing import TYPE_CHECKING, get_args

from histill.core.errors import InternalError
from histill.ml import decoder_wire
from histill.ml.decoder_answers import channels_of, kept_word, pixels_of
from histill.ml.decoder_wire import WireError
from histill.ml.decoders import violations
from histill.ml.images import Image, Origin, Size, Slide, SourceFormat, checked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    import numpy as np
    import numpy.typing as npt

    from histill.ml.decoder_wire import Message
    from histill.ml.decoders import Decoder, Decoders
    from histill.ml.images import Pixels, Selection
    from histill.ml.masks import MaskContext

_MOST_FRAMES = 1 << 31
# PNG and JPEG, which small readers read that are looked at by all the world. A fresh process
# for each of these would cost a tenth of the throughput.
_SIMPLE = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


class RemoteFile:
    """A file that decoders read. Its calls block; a slide's regions may come from any thread.

    Args:
        decoders: Where they come from.
        file: Open for reading; held open by whoever made this until it is closed.
        selection: Which of several images.
        max_pixels: Most rows times columns of an image that is decoded whole.
        max_slide_pixels: Most rows times columns of a slide.
    """

    def __init__(
        self,
        decoders: Decoders,
        file: BinaryIO,
        selection: Selection,
        *,
        max_pixels: int,
        max_slide_pixels: int,
    ) -> None:
        self._decoders = decoders
        self._file = file
        self._max_pixels = max_pixels
        self._opening: Message = {
            "do": "open",
            "frame": selection.frame,
            "level": selection.level,
            "max_pixels": max_pixels,
            "max_slide_pixels": max_slide_pixels,
        }
        self._max_slide_pixels = max_slide_pixels
        self._changed = threading.Condition()
        self._number: int | None = None
        self._idle: list[Decoder] = []
        self._busy: set[Decoder] = set()
        self._extra: set[Decoder] = set()
        self._is_slide = False
        self._closed = False

    def open(self) -> Size | Slide:
        """As ``decoding.probe``.

        Raises:
            HistillError: As ``decoding.probe`` and ``Decoder.ask``.
        """
        decoder = self._decoders.take()
        self._begin(decoder)
        try:
            told = self._opened_in(decoder)
            with kept_word(decoder):
                size = Size(int(told["height"]), int(told["width"]))
                if not told.get("slide"):
                    return checked(size, max_pixels=self._max_pixels)
                checked(size, max_pixels=self._max_slide_pixels)
                self._is_slide = True
                spacing, source, origin = self._described(told)
                channels = channels_of(told)
            return Slide(size, channels, self._region, spacing, source, None, origin)
        finally:
            self._end(decoder)

    def decode(self) -> Image:
        """As ``decoding.decode``, of what is open.

        Raises:
            HistillError: As ``decoding.decode`` and ``Decoder.ask``.
        """
        with self._one() as decoder:
            answer, file = decoder.ask({"do": "decode"})
            with kept_word(decoder):
                pixels = pixels_of(answer, file)
                checked(Size(*pixels.shape[:2]), max_pixels=self._max_pixels)
                spacing, source, origin = self._described(answer)
            return Image(pixels, spacing, source, None, origin)

    def close(self) -> None:
        """Gives decoders back. Whoever still waits for one gets an error at once."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            for each in self._busy:
                each.kill()
            self._changed.notify_all()
            number, self._number = self._number, None
        for each in idle:
            self._leave(each)
        if number is not None:
            os.close(number)

    def _region(self, row: int, column: int, height: int, width: int) -> Pixels:
        place = {"row": row, "column": column, "height": height, "width": width}
        with self._one() as decoder:
            answer, file = decoder.ask({"do": "region", **place})
            with kept_word(decoder):
                return pixels_of(answer, file, Size(height, width))

    def _frame(self, index: int) -> Pixels:
        with self._one() as decoder:
            answer, file = decoder.ask({"do": "frame", "index": index})
            with kept_word(decoder):
                return pixels_of(answer, file)

    def _segmentation(self, mask: npt.NDArray[np.uint8], context: MaskContext) -> bytes:
        message = {
            "do": "seg",
            "shape": mask.shape,
            "classes": context.classes,
            "model": context.model,
            "empty_frames": context.empty_frames,
        }
        sent = decoder_wire.array_in_memory(mask)
        try:
            with self._one() as decoder:
                answer, file = decoder.ask(message, sent)
                with kept_word(decoder):
                    return pixels_of(answer, file).tobytes()
        finally:
            os.close(sent)

    def _described(
        self, told: Message
    ) -> tuple[tuple[float, float] | None, SourceFormat, Origin | None]:
        spacing = told["spacing"]
        if spacing is not None:
            rows, columns = (float(each) for each in spacing)
            if not (0 < rows < math.inf and 0 < columns < math.inf):
                raise WireError("no spacing")
            spacing = rows, columns
        source = told["source"]
        if source not in get_args(SourceFormat):
            raise WireError("no format")
        origin = None
        if "frames" in told:
            frames = int(told["frames"])
            if not 1 <= frames <= _MOST_FRAMES:
                raise WireError("no number of frames")
            no_seg = tuple(violations(told["no_seg"])) if "no_seg" in told else ()
            origin = Origin(frames, self._frame, self._segmentation, no_seg)
        return spacing, source, origin

    @contextlib.contextmanager
    def _one(self) -> Iterator[Decoder]:
        """A decoder that has the file open, for as long as the block takes."""
        decoder, is_new = self._take()
        try:
            if is_new:
                self._opened_in(decoder)
            yield decoder
        finally:
            self._end(decoder)

    def _take(self) -> tuple[Decoder, bool]:
        with self._changed:
            while True:
                self._check_open()
                if self._idle:
                    decoder = self._idle.pop()
                    self._busy.add(decoder)
                    return decoder, False
                if not self._busy:
                    raise InternalError("the decoder of this image has ended")
                if self._is_slide and self._decoders.spare.acquire(blocking=False):
                    break
                self._changed.wait()
        try:
            decoder = self._decoders.take()
        except BaseException:
            self._decoders.spare.release()
            raise
        self._extra.add(decoder)
        self._begin(decoder)
        return decoder, True

    def _begin(self, decoder: Decoder) -> None:
        with self._changed:
            self._busy.add(decoder)
            if self._closed:
                decoder.kill()

    def _end(self, decoder: Decoder) -> None:
        with self._changed:
            self._busy.discard(decoder)
            kept = decoder.usable and not self._closed
            if kept:
                self._idle.append(decoder)
            self._changed.notify_all()
        if not kept:
            self._leave(decoder)

    def _leave(self, decoder: Decoder) -> None:
        if decoder in self._extra:
            self._extra.discard(decoder)
            self._decoders.spare.release()
        self._decoders.put(decoder)

    def _check_open(self) -> None:
        if self._closed:
            raise InternalError("the image was closed while it was read")

    def _opened_in(self, decoder: Decoder) -> Message:
        with self._changed:
            self._check_open()
            if self._number is None:
                self._number = _read_only(self._file)
            number = os.dup(self._number)
        try:
            decoder.files += 1
            # What a file of another form may have left in it must not see anybody's next one.
            decoder.once |= not os.pread(number, 8, 0).startswith(_SIMPLE)
            answer, unasked = decoder.ask(self._opening, number)
            with kept_word(decoder):
                if unasked is not None:
                    decoder_wire.close([unasked])
                    raise WireError("a file that nobody asked for")
            return answer
        finally:
            os.close(number)


def _read_only(file: BinaryIO) -> int:
    """A descriptor of a file's bytes, which cannot be written through it."""
    try:
        file.flush()
        return os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
    except io.UnsupportedOperation:  # io.BytesIO has none
        file.seek(0)
        return decoder_wire.in_memory(file.read())

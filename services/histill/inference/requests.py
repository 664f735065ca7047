"""What is asked for, what is answered, and what is taken in at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from histill.core.errors import ResourceExhaustedError, TooLargeForOneMessageError
from histill.ml.geojson import PLAIN, Outlines
from histill.ml.images import WHOLE_FILE, Image, Selection, Size
from histill.ml.masks import HELD_WHOLE, Format

if TYPE_CHECKING:
    from histill.core.manifests import ModelManifest
    from histill.inference.call import Call
    from histill.inference.findings import Found
    from histill.inference.regions import RegionForm


@dataclass(frozen=True, eq=False)
class Request:
    """One image to segment.

    Attributes:
        model: Reference.
        source: An open image file, or decoded pixels.
        form: How to write the mask, or what regions of it hold that are sent instead.
        call: The caller's terms.
        selection: Which of several images in the file.
        whole: Whether the answer is one message, and so is held whole.
        confidence_map: Also write the confidence map, of all of the image.
        pixel_size_um: Side of a pixel, where the file does not say it; 0 is not known.
        outlines: How GeoJSON is written.
        empty_frames: Write frames of DICOM SEG in which nothing was found, too.
    """

    model: str
    source: BinaryIO | Image
    form: Format | RegionForm
    call: Call
    selection: Selection = WHOLE_FILE
    whole: bool = True
    confidence_map: bool = False
    pixel_size_um: float = 0.0
    outlines: Outlines = PLAIN
    empty_frames: bool = False


@dataclass(frozen=True, eq=False)
class Answer:
    """What a mask shows, once all of it has been delivered.

    Attributes:
        found: Areas, objects, confidences, and more.
        manifest: The version that answered.
        size: Of the mask.
        seconds: By stage.
    """

    found: Found
    manifest: ModelManifest
    size: Size
    seconds: dict[str, float]


@dataclass(frozen=True)
class Limits:
    """What is taken in.

    Attributes:
        pixels: Most rows times columns of an image that is held whole, or whose mask is.
        slide_pixels: Most rows times columns of any.
    """

    pixels: int
    slide_pixels: int

    def check(self, request: Request, size: Size, *, frames: int) -> None:
        """Finds out before the work whether the mask of an image can be held.

        Raises:
            ResourceExhaustedError: It cannot; says how to ask instead.
        """
        pixels = size.pixels * frames
        if pixels <= self.pixels or not (request.whole or request.form in HELD_WHOLE):
            return
        kind = ResourceExhaustedError if request.form in HELD_WHOLE else TooLargeForOneMessageError
        raise kind(
            f"a mask of {pixels} pixels in this form would be held whole, for which {self.pixels} "
            "are the most; call SegmentLarge and ask for MASK_FORMAT_PNG, MASK_FORMAT_RAW, "
            "MASK_FORMAT_GEOJSON or regions, or choose a smaller level"
        )

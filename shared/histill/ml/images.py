"""Images in memory: their pixels, their limits, and how they are made to fit a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from histill.core.errors import InvalidArgumentError, ResourceExhaustedError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from pydicom import Dataset

    from histill.core.errors import FieldViolation
    from histill.ml.masks import MaskContext

    Pixels = npt.NDArray[np.uint8]

FIELD = "image"
MAX_PIXELS = 200_000_000
MAX_SIDE = 250_000
MAX_SLIDE_PIXELS = 10_000_000_000
MAX_PIXEL_UM = 10_000.0
MAX_FRAMES = 100_000
MAX_LEVEL = 64
SourceFormat = Literal["png", "jpeg", "tiff", "dicom", "slide", "raw"]


@dataclass(frozen=True)
class Size:
    """What a file's header announces.

    Attributes:
        height: Rows.
        width: Columns.
    """

    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width


@dataclass(frozen=True)
class Selection:
    """Which image of a file that holds several.

    Attributes:
        frame: Of a multi-frame DICOM image, counted from 1; 0 is the first.
        level: Of a slide's pyramid; 0 is the full resolution.
    """

    frame: int = 0
    level: int = 0


WHOLE_FILE = Selection()


@dataclass(frozen=True, eq=False)
class Origin:
    """The DICOM file of an image, where another process holds it.

    Attributes:
        frames: How many it has, at least 1; of a slide, whose frames are its tiles, 1.
        frame: Pixels of another frame, by its index from 0, uint8 [H, W, C].
        segmentation: A mask of its frames, and what a writer needs, as DICOM SEG.
        no_segmentation: Why there can be none; empty where it can.
    """

    frames: int
    frame: Callable[[int], Pixels]
    segmentation: Callable[[Pixels, MaskContext], bytes]
    no_segmentation: tuple[FieldViolation, ...] = ()


@dataclass(frozen=True, eq=False)
class Image:
    """A decoded image.

    Attributes:
        pixels: uint8 [H, W, C].
        spacing: Millimetres from row to row and from column to column, where known.
        source: Format of the file it came from.
        dicom: The whole data set, of a DICOM file that was read in this process.
        origin: The file, of DICOM that was read in another one.
    """

    pixels: Pixels
    spacing: tuple[float, float] | None = None
    source: SourceFormat = "raw"
    dicom: Dataset | None = None
    origin: Origin | None = None

    @property
    def size(self) -> Size:
        """Rows and columns."""
        return Size(*self.pixels.shape[:2])

    @property
    def channels(self) -> int:
        """Values a pixel."""
        return int(self.pixels.shape[2])

    def read(self, row: int, column: int, height: int, width: int) -> Pixels:
        """As ``Reading``."""
        return self.pixels[row : row + height, column : column + width]


class Reading(Protocol):
    """Reads a rectangle that lies within an image; may be called by several threads."""

    def __call__(self, row: int, column: int, height: int, width: int) -> Pixels:
        """The pixels, uint8 [height, width, C].

        Raises:
            InvalidArgumentError: The file is damaged there; names ``image``.
        """
        ...


@dataclass(frozen=True, eq=False)
class Slide:
    """An image that is too large to be held whole, and is read region by region.

    Attributes:
        size: Rows and columns.
        channels: Values a pixel.
        read: Reads a region. What it holds open closes with the last reference to it: a
            thread may still read when nobody waits for it any more.
        spacing: Millimetres from row to row and from column to column, where known.
        source: Format of the file it comes from.
        dicom: Header of a DICOM file, without its pixels, that is read in this process.
        origin: The file, of DICOM that is read in another one.
    """

    size: Size
    channels: int
    read: Reading
    spacing: tuple[float, float] | None = None
    source: SourceFormat = "slide"
    dicom: Dataset | None = None
    origin: Origin | None = None


Picture = Image | Slide


def pixel_size(micrometres: float) -> float:
    """The side of a pixel as it was given; 0 is not known.

    Raises:
        InvalidArgumentError: It is no size of a pixel; names ``pixel_size_um``.
    """
    if not 0 <= micrometres <= MAX_PIXEL_UM:
        raise InvalidArgumentError.of(
            "pixel_size_um", f"{micrometres:g} is not in [0, {MAX_PIXEL_UM:g}]"
        )
    return micrometres


def with_pixel_size(image: Picture, micrometres: float) -> Picture:
    """The image, with square pixels of that side where its file did not say it; 0 says nothing."""
    if not micrometres or image.spacing is not None:
        return image
    return replace(image, spacing=(micrometres / 1000, micrometres / 1000))


def from_raw(
    data: bytes, *, height: int, width: int, channels: int, max_pixels: int = MAX_PIXELS
) -> Image:
    """An image of bytes without a file format.

    Args:
        data: ``height * width * channels`` bytes, row by row, channels last.
        height: Rows, in [1, 100000].
        width: Columns, in [1, 100000].
        channels: Values a pixel, in [1, 64].
        max_pixels: Most rows times columns.

    Raises:
        InvalidArgumentError: Data and sides do not fit each other.
        ResourceExhaustedError: The image is too large.
    """
    for name, side, most in (
        ("height", height, 100_000),
        ("width", width, 100_000),
        ("channels", channels, 64),
    ):
        if not 1 <= side <= most:
            raise InvalidArgumentError.of(f"raw.{name}", f"{side} is not in [1, {most}]")
    checked(Size(height, width), max_pixels=max_pixels)
    if len(data) != height * width * channels:
        raise InvalidArgumentError.of(
            "raw.data",
            f"{len(data)} bytes; {height} * {width} * {channels} need {height * width * channels}",
        )
    return Image(np.frombuffer(data, np.uint8).reshape(height, width, channels))


def checked(size: Size, *, max_pixels: int) -> Size:
    """Returns ``size`` unless it is empty or too large.

    Raises:
        InvalidArgumentError: A side is 0.
        ResourceExhaustedError: There are more than ``max_pixels`` pixels, or a side is longer
            than any image's; what is held of one grows with its width.
    """
    if size.height < 1 or size.width < 1:
        raise InvalidArgumentError.of(FIELD, f"{size.height} x {size.width} pixels")
    if max(size.height, size.width) > MAX_SIDE:
        raise ResourceExhaustedError(
            f"the image has {size.height} x {size.width} pixels; {MAX_SIDE} are the most of a side"
        )
    if size.pixels > max_pixels:
        raise ResourceExhaustedError(
            f"the image has {size.height} x {size.width} pixels, more than the {max_pixels} "
            "that are accepted; cut or shrink it"
        )
    return size


def fit_channels(pixels: Pixels, channels: int) -> Pixels:
    """Pixels with as many channels as a model takes.

    Grey is repeated, RGB becomes luminance (ITU-R 601, as Pillow), alpha is dropped.

    Args:
        pixels: uint8 [H, W, C].
        channels: What the model takes.

    Raises:
        InvalidArgumentError: There is no such step from C to ``channels``.
    """
    given = pixels.shape[2]
    if given == channels:
        return pixels
    match given, channels:
        case 1, 3:
            return np.repeat(pixels, 3, axis=2)
        case 4, 3:
            return pixels[:, :, :3]
        case ((3 | 4), 1):
            weights = np.array([19595, 38470, 7471], np.uint32)
            return ((pixels[:, :, :3] @ weights + 0x8000) >> 16).astype(np.uint8)[..., None]
    raise InvalidArgumentError.of(
        FIELD, f"the image has {given} channels; the model takes {channels}"
    )


def stretched(values: npt.NDArray[np.generic]) -> Pixels:
    """Grey values of any range as uint8: the minimum becomes 0, the maximum 255."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise InvalidArgumentError.of(FIELD, "it holds values that are not finite")
    scale = 255 / (high - low) if high > low else 0.0
    scaled = np.asarray(values, np.float32)
    scaled = (scaled - np.float32(low)) * np.float32(scale)
    return np.rint(scaled).clip(0, 255).astype(np.uint8)

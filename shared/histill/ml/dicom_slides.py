"""Whole-slide images in DICOM, by wsidicom: one level of a slide, cut into tiles.

Source: DICOM PS3.3 A.32.8, VL Whole Slide Microscopy Image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage

from histill.core.errors import InvalidArgumentError
from histill.ml.dicom import damage, header, spacing
from histill.ml.dicom_codecs import plugin_for
from histill.ml.dicom_streams import check_frame
from histill.ml.images import FIELD, Size, Slide

if TYPE_CHECKING:
    from pydicom import Dataset

    from histill.ml.images import Pixels

# Of hostile files: a tile, tiles of a slide, tiles of all its focal planes together.
_MAX_TILE_PIXELS = 1 << 26
_MAX_TILES = 1 << 22
_MAX_PLACES = 1 << 24
_LEAST_FRAME_BYTES = 8
# Tiles of one or two rows, so that neighbouring regions share them.
_CACHED_BYTES = 64 << 20


def is_slide(header: Dataset) -> bool:
    """Whether a file is a level of a slide, and not the slide's label or overview.

    Raises:
        InvalidArgumentError: The header is damaged; names ``image``.
    """
    # Reading an element is what finds it damaged.
    with damage():
        kind, types = header.get("SOPClassUID"), header.get("ImageType")
        return kind == VLWholeSlideMicroscopyImageStorage and "VOLUME" in (types or ())


def slide_size(header: Dataset) -> Size:
    """Rows and columns of all tiles together.

    Raises:
        InvalidArgumentError: The header does not tell them; names ``image``.
    """
    with damage():
        return Size(int(header.TotalPixelMatrixRows), int(header.TotalPixelMatrixColumns))


def open_slide(file: BinaryIO) -> Slide:
    """Opens a file that ``is_slide``.

    Args:
        file: Open for reading; the slide reads it for as long as it is used.

    Returns:
        A slide of RGB, or of grey values, with the header as its ``dicom``. Of several
        optical paths and focal planes it shows the first and the middle one. Where it
        was not scanned, it is white (black if grey).

    Raises:
        InvalidArgumentError: It is damaged, or of a kind that is not read; names ``image``.
    """
    found = header(file)
    with damage():
        plugin_for(found.file_meta.TransferSyntaxUID)
        _check(found, file)
        channels, millimetres = int(found.SamplesPerPixel), spacing(found)
        read = _Tiles(file, found).read
    return Slide(slide_size(found), channels, read, millimetres, "slide", found)


class _Tiles:
    """Reads regions.

    Args:
        file: The whole file.
        header: Checked.
    """

    def __init__(self, file: BinaryIO, header: Dataset) -> None:
        # Loads for a second with half a dozen libraries, which those who never send
        # slides need not wait for.
        from upath import UPath
        from wsidicom import Settings, WsiDicom
        from wsidicom.file import WsiDicomFileSource
        from wsidicom.file.io.wsidicom_io import WsiDicomReadIO
        from wsidicom.geometry import Point

        self._header = header
        self._syntax = header.file_meta.TransferSyntaxUID
        self._tile = Size(int(header.Rows), int(header.Columns))
        # Nothing is ever opened there: it only must not be a file of this machine.
        source = WsiDicomFileSource([WsiDicomReadIO(file, UPath("memory:///slide"))])
        _check_places(source.base_dataset, self._tile)
        if max(at + length for at, length in source.readers[0].frame_index) > file.seek(0, 2):
            raise _refused("the slide is cut short")
        settings = Settings(decoded_frame_cache_size=_CACHED_BYTES, encoded_frame_cache_size=0)
        self._slide = WsiDicom(source, settings=settings)
        self._source: Any = self._slide.get_instance(0).image_data
        self._point = Point

    def read(self, row: int, column: int, height: int, width: int) -> Pixels:
        """As ``images.Reading``."""
        with damage():
            if self._syntax.is_encapsulated:
                self._check_tiles(row, column, height, width)
            region = self._slide.read_region((column, row), 0, (width, height), as_array=True)
            return self._shown(region)

    def _check_tiles(self, row: int, column: int, height: int, width: int) -> None:
        tile, samples, source = self._tile, int(self._header.SamplesPerPixel), self._source
        plane = source.default_z, source.default_path
        for y in range(row // tile.height, -(-(row + height) // tile.height)):
            for x in range(column // tile.width, -(-(column + width) // tile.width)):
                place = self._point(x, y)
                if not source.is_sparse(place, *plane):
                    data = source.get_encoded_tile(place, *plane)
                    check_frame(data, self._syntax, tile, samples)

    def _shown(self, region: Any) -> Pixels:
        if region.ndim == 2:  # noqa: PLR2004
            depth = int(self._header.BitsStored)
            return np.asarray(region >> max(depth - 8, 0), np.uint8)[..., None]
        # JPEG is converted on the way.
        kind = self._header.PhotometricInterpretation
        if kind == "YBR_FULL" and self._syntax != JPEGBaseline8Bit:
            return np.asarray(convert_color_space(region, "YBR_FULL", "RGB"))
        return np.asarray(region, np.uint8)


def _check(header: Dataset, file: BinaryIO) -> None:
    """Refuses what a header claims before anything is made of that size."""
    tile, size = Size(int(header.Rows), int(header.Columns)), slide_size(header)
    if min(tile.height, tile.width, size.height, size.width) < 1:
        raise _refused("a slide or its tiles have no pixels")
    across, down = -(-size.width // tile.width), -(-size.height // tile.height)
    if tile.pixels > _MAX_TILE_PIXELS or across * down > _MAX_TILES:
        raise _refused("the slide has too many tiles, or too large ones")
    if header.get("ConcatenationUID"):
        raise _refused("the slide is cut into several files; put them together")
    least = _LEAST_FRAME_BYTES
    if not header.file_meta.TransferSyntaxUID.is_encapsulated:
        least = tile.pixels * int(header.SamplesPerPixel) * int(header.BitsAllocated) // 8
    number = int(header.get("NumberOfFrames") or 1)
    if number < 1 or number * least > file.seek(0, 2):
        raise _refused("the slide does not hold as many tiles as its header tells")


def _check_places(dataset: Any, tile: Size) -> None:
    """Refuses tiles that lie across each other, and planes without number."""
    from wsidicom.instance import TileType

    if dataset.tile_type is TileType.FULL:
        return
    found = dataset.frame_positions
    if ((found.columns - 1) % tile.width).any() or ((found.rows - 1) % tile.height).any():
        raise _refused("tiles of the slide do not lie side by side")
    planes = 1
    for of_frames in (found.z_offsets, found.optical_path_identifiers):
        planes *= 1 if of_frames is None else len(np.unique(of_frames))
    if planes * dataset.image_size.ceil_div(dataset.tile_size).area > _MAX_PLACES:
        raise _refused("the slide has too many focal planes")


def _refused(why: str) -> InvalidArgumentError:
    return InvalidArgumentError.of(FIELD, why)

"""The demo's own data: one real immunohistochemistry image, tiled.

The image is the colonic tissue section that scikit-image ships
(``skimage.data.immunohistochemistry``: DAB stain with haematoxylin counterstain,
courtesy of the Center for Microscopy and Molecular Imaging, no known copyright
restrictions). Nobody has labelled it; the reference is a classical stand-in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

CLASSES = ("background", "DAB-stained", "nucleus")
DESCRIPTION = (
    "scikit-image's immunohistochemistry section; labels by colour deconvolution "
    "(Ruifrok and Johnston 2001) and Otsu's threshold, a classical stand-in for an expert"
)
TRAIN_TILE = 64
VAL_TILE = 128


def reference_labels(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Classes of a DAB and haematoxylin section by colour deconvolution.

    Args:
        image: uint8 [H, W, 3], RGB.

    Returns:
        uint8 [H, W]: 0 background, 1 DAB-stained, 2 haematoxylin where there is no DAB.

    Source: Ruifrok and Johnston, Anal. Quant. Cytol. Histol. 23 (2001); Otsu,
    IEEE Trans. SMC 9 (1979).
    """
    from skimage.color import rgb2hed
    from skimage.filters import gaussian, threshold_otsu

    stains: npt.NDArray[Any] = rgb2hed(image)
    brown = gaussian(stains[..., 2], 1.5)
    blue = gaussian(stains[..., 0], 1.0)
    stained = brown > threshold_otsu(brown)
    labels = np.where(blue > threshold_otsu(blue[~stained]), 2, 0)
    return np.where(stained, 1, labels).astype(np.uint8)


def write_tissue(folder: Path) -> Path:
    """Writes the tiles as ``train/`` and ``val/`` with ``images/`` and ``labels/`` in each.

    The validation tiles come from the right quarter of the image, the training tiles
    from the rest.
    """
    from skimage.data import immunohistochemistry

    image: npt.NDArray[np.uint8] = immunohistochemistry()
    labels = reference_labels(image)
    height, width = labels.shape
    edge = width - VAL_TILE
    for split, columns, side in (
        ("train", range(0, edge, TRAIN_TILE), TRAIN_TILE),
        ("val", range(edge, width, VAL_TILE), VAL_TILE),
    ):
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
        for top in range(0, height, side):
            for left in columns:
                name = f"ihc-{top:03d}-{left:03d}.png"
                tile = np.s_[top : top + side, left : left + side]
                Image.fromarray(image[tile]).save(folder / split / "images" / name)
                Image.fromarray(labels[tile]).save(folder / split / "labels" / name)
    return folder

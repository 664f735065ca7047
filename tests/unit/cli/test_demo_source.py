"""Which data the demo takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from histill.client.packing import val_pairs
from histill.core.errors import InvalidArgumentError
from histill.demo.measure import held_out
from histill.demo.run import choose_source
from pictures import write_dataset

if TYPE_CHECKING:
    from pathlib import Path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_without_a_folder_it_is_the_tissue_section(tmp_path: Path) -> None:
    """Tiles of one real image; no validation pixel is in a training tile."""
    source = choose_source(None, tmp_path)
    assert "stand-in" in source.description
    tiles = {
        split: sorted((source.folder / split / "images").iterdir()) for split in ("train", "val")
    }
    assert {split: len(paths) for split, paths in tiles.items()} == {"train": 48, "val": 4}
    lefts = {split: {int(p.stem.split("-")[2]) for p in paths} for split, paths in tiles.items()}
    assert max(lefts["train"]) + 64 <= min(lefts["val"])
    values = {v for _, label in val_pairs(source.folder) for v in np.unique(pixels(label))}
    assert values == {0, 1, 2}


def test_a_dataset_is_taken_as_it_is(tmp_path: Path) -> None:
    """A folder with train and val is one dataset, not two."""
    assert choose_source(write_dataset(tmp_path / "d"), tmp_path).folder == tmp_path / "d"


def test_of_a_folder_of_datasets_the_smallest_is_taken(tmp_path: Path) -> None:
    """The demo is to be short."""
    write_dataset(tmp_path / "large", train=9)
    write_dataset(tmp_path / "small", train=3)
    assert choose_source(tmp_path, tmp_path / "home").folder == tmp_path / "small"


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    """The error says which folders are looked for."""
    with pytest.raises(InvalidArgumentError, match="neither images/ and labels/"):
        choose_source(tmp_path, tmp_path)


def test_numbered_objects_are_one_class(tmp_path: Path) -> None:
    """References of instance labels are compared as object or background."""
    path = tmp_path / "l.png"
    Image.fromarray(np.array([[0, 700], [3, 0]], np.uint16)).save(path)
    assert held_out([(path, path)], classes=2)[0].reference.tolist() == [[0, 1], [1, 0]]

"""Packing of a folder of images and labels."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dicoms import dicom
from histill.api.registry.v1 import dataset_pb2
from histill.client.packing import count_unlabeled, pack, val_pairs
from histill.core.errors import InvalidArgumentError
from histill.ml.decoding import decode
from histill.ml.images import fit_channels
from traces import found_in

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, name: str, labels: np.ndarray, *, mode: str = "RGB") -> None:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    Image.new(mode, (labels.shape[1], labels.shape[0]), 7).save(folder / "images" / f"{name}.png")
    Image.fromarray(labels).save(folder / "labels" / f"{name}.png")


def test_splits_are_kept_and_images_become_rgb(tmp_path: Path) -> None:
    """A folder with train and val keeps its splits, whatever the files' colour mode."""
    write(tmp_path / "train", "a b.c", np.full((4, 5), 1, np.uint8), mode="L")
    write(tmp_path / "val", "d", np.zeros((4, 5), np.uint8))
    packed = pack(tmp_path, tmp_path, classes=2, channels=3)
    assert packed.splits == {"train": 1, "val": 1}
    with tarfile.open(packed.shards[0]) as archive:
        names = archive.getnames()
        assert names[0] == "train/00000.image.png"
        member = archive.extractfile(names[0])
        assert member is not None
        assert Image.open(io.BytesIO(member.read())).mode == "RGB"


def test_every_fifth_image_of_a_plain_folder_is_held_out(tmp_path: Path) -> None:
    """Without given splits, every fifth image is for validation, in sorted order."""
    for name in "abcdefg":
        write(tmp_path, name, np.ones((4, 4), np.uint8))
    assert pack(tmp_path, tmp_path, classes=2, channels=3).splits == {"train": 5, "val": 2}
    assert [image.stem for image, _ in val_pairs(tmp_path)] == ["a", "f"]


def test_values_beyond_the_classes_mean_objects(tmp_path: Path) -> None:
    """Labels with values up to the last class are semantic; higher ones number objects."""
    for name in "ab":
        write(tmp_path, name, np.full((4, 4), 1, np.uint8))
    assert pack(tmp_path, tmp_path, classes=2, channels=3).label_kind == (
        dataset_pb2.LABEL_KIND_SEMANTIC
    )
    write(tmp_path, "c", np.full((4, 4), 900, np.uint16))
    assert pack(tmp_path, tmp_path, classes=2, channels=3).label_kind == (
        dataset_pb2.LABEL_KIND_INSTANCE
    )


def test_a_stray_value_among_classes_is_no_object_number(tmp_path: Path) -> None:
    """With named classes a value beyond them is refused by name, unless objects are meant."""
    for name in "ab":
        write(tmp_path, name, np.full((4, 4), 2, np.uint8))
    write(tmp_path, "void", np.full((4, 4), 255, np.uint8))
    with pytest.raises(InvalidArgumentError, match=r"void\.png holds the value 255"):
        pack(tmp_path, tmp_path, classes=3, channels=3)
    instance = dataset_pb2.LABEL_KIND_INSTANCE
    packed = pack(tmp_path, tmp_path, classes=3, channels=3, label_kind=instance)
    assert packed.label_kind == instance


def test_labels_of_nothing_are_refused(tmp_path: Path) -> None:
    """A set without a single labelled pixel cannot be meant."""
    for name in "ab":
        write(tmp_path, name, np.zeros((4, 4), np.uint8))
    with pytest.raises(InvalidArgumentError, match="every label is empty"):
        pack(tmp_path, tmp_path, classes=2, channels=3)


def test_training_sees_what_serving_will(tmp_path: Path) -> None:
    """A 16-bit image is stored as the inference service decodes it, not clipped to white."""
    for name in "ab":
        write(tmp_path, name, np.ones((4, 6), np.uint8))
    deep = np.linspace(560, 3056, 24).reshape(4, 6).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "images" / "a.png")
    packed = pack(tmp_path, tmp_path, classes=2, channels=3)
    with tarfile.open(packed.shards[0]) as archive:
        member = archive.extractfile("val/00000.image.png")
        assert member is not None
        stored = np.asarray(Image.open(io.BytesIO(member.read())))
    with (tmp_path / "images" / "a.png").open("rb") as file:
        served = fit_channels(decode(file).pixels, 3)
    assert np.array_equal(stored, served)
    assert (stored.min(), stored.max()) == (0, 255)


def test_a_broken_label_and_an_empty_split_are_named(tmp_path: Path) -> None:
    """The error says which file it is, and which split has nothing."""
    write(tmp_path, "a", np.ones((4, 4), np.uint8))
    (tmp_path / "labels" / "a.txt").write_text("a note")
    with pytest.raises(InvalidArgumentError, match="no image to the split train"):
        pack(tmp_path, tmp_path, classes=2, channels=3)
    (tmp_path / "labels" / "a.png").write_bytes(b"broken")
    with pytest.raises(InvalidArgumentError, match=r"labels/a\.png cannot be read"):
        pack(tmp_path, tmp_path, classes=2, channels=3)


def test_a_missing_label_is_named(tmp_path: Path) -> None:
    """A validation image without a label is named; results are measured there."""
    write(tmp_path / "train", "a", np.ones((4, 4), np.uint8))
    write(tmp_path / "val", "b", np.ones((4, 4), np.uint8))
    (tmp_path / "val" / "labels" / "b.png").unlink()
    with pytest.raises(InvalidArgumentError, match=r"val/labels lacks a label for b\.png"):
        pack(tmp_path, tmp_path, classes=2, channels=3)


def test_training_images_may_come_without_labels(tmp_path: Path) -> None:
    """They are packed alone and counted, also when none of the training images has one."""
    for name in "ab":
        write(tmp_path / "train", name, np.ones((4, 4), np.uint8))
    write(tmp_path / "val", "c", np.ones((4, 4), np.uint8))
    (tmp_path / "train" / "labels" / "a.png").unlink()
    packed = pack(tmp_path, tmp_path, classes=2, channels=3)
    assert (packed.splits, packed.unlabeled) == ({"train": 2, "val": 1}, 1)
    with tarfile.open(packed.shards[0]) as archive:
        assert [name for name in archive.getnames() if "/00000." in name] == [
            "train/00000.image.png"
        ]
    (tmp_path / "train" / "labels" / "b.png").unlink()
    (tmp_path / "train" / "labels").rmdir()
    assert pack(tmp_path, tmp_path, classes=2, channels=3).unlabeled == 2
    assert count_unlabeled(tmp_path) == 2


def test_of_a_plain_folder_only_labelled_images_are_held_out(tmp_path: Path) -> None:
    """Every fifth of those that have a label; the others are for training."""
    for name in "abcdefghi":
        write(tmp_path, name, np.ones((4, 4), np.uint8))
    for name in "acd":
        (tmp_path / "labels" / f"{name}.png").unlink()
    packed = pack(tmp_path, tmp_path, classes=2, channels=3)
    assert (packed.splits, packed.unlabeled) == ({"train": 7, "val": 2}, 3)
    assert [image.stem for image, _ in val_pairs(tmp_path)] == ["b", "i"]


def test_without_any_label_nothing_can_be_measured(tmp_path: Path) -> None:
    """A plain folder of images alone is refused with where labels belong."""
    write(tmp_path, "a", np.ones((4, 4), np.uint8))
    (tmp_path / "labels" / "a.png").unlink()
    with pytest.raises(InvalidArgumentError, match=r"labels holds no label"):
        pack(tmp_path, tmp_path, classes=2, channels=3)


def test_a_label_that_belongs_to_no_image_is_named(tmp_path: Path) -> None:
    """Labels under other names must not quietly become images without labels."""
    write(tmp_path, "a", np.ones((4, 4), np.uint8))
    (tmp_path / "labels" / "a.png").rename(tmp_path / "labels" / "a_mask.png")
    with pytest.raises(InvalidArgumentError, match=r"a_mask\.png belongs to no image"):
        pack(tmp_path, tmp_path, classes=2, channels=3)


def test_a_label_of_another_size_is_named(tmp_path: Path) -> None:
    """A label that does not fit its image is named, with both sizes."""
    write(tmp_path, "a", np.zeros((4, 4), np.uint8))
    Image.fromarray(np.zeros((6, 4), np.uint8)).save(tmp_path / "labels" / "a.png")
    with pytest.raises(InvalidArgumentError, match=r"label a\.png is 4x6, its image 4x4"):
        pack(tmp_path, tmp_path, classes=2, channels=3)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    """A text file called PNG is named."""
    write(tmp_path, "a", np.zeros((4, 4), np.uint8))
    (tmp_path / "images" / "a.png").write_text("hello")
    with pytest.raises(InvalidArgumentError, match=r"images/a\.png: image: an unknown format"):
        pack(tmp_path, tmp_path, classes=2, channels=3)


def test_a_folder_of_something_else_says_what_is_expected(tmp_path: Path) -> None:
    """A folder without images says which folders are looked for."""
    with pytest.raises(InvalidArgumentError, match="neither images/ and labels/"):
        pack(tmp_path, tmp_path, classes=2, channels=3)


def test_nothing_but_pixels_leaves_the_machine(tmp_path: Path) -> None:
    """No file's name, text, EXIF, colour profile or DICOM header is in a shard."""
    secret = "Quartz"
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    noted, exif = PngInfo(), Image.Exif()
    noted.add_text("Patient", f"{secret}^Zebediah")
    noted.add_itxt("XML:com.adobe.xmp", f"<x:xmpmeta>{secret}</x:xmpmeta>")
    exif[0x010E] = exif[0x9C9B] = f"{secret} 1931-07-04"
    plain = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    images = tmp_path / "images"
    plain.save(images / f"{secret}-a.png", pnginfo=noted, exif=exif, icc_profile=b"Quartz" * 40)
    plain.save(images / f"{secret}-b.jpg", exif=exif, comment=secret.encode())
    plain.save(images / f"{secret}-c.tif", description=secret, artist=secret)
    scan = dicom(np.zeros((4, 4), np.uint8), PatientName=f"{secret}^Z", PatientComments=secret)
    (images / f"{secret}-d.dcm").write_bytes(scan)
    for name in "abcd":
        label = Image.fromarray(np.ones((4, 4), np.uint8))
        label.save(tmp_path / "labels" / f"{secret}-{name}.png", pnginfo=noted)
    packed = pack(tmp_path, tmp_path, classes=2, channels=3)
    data = b"".join(shard.read_bytes() for shard in packed.shards)
    assert len(data) > 1000
    assert found_in([("shard", data)], [secret, "Zebediah", "1931-07-04"]) == []
    with tarfile.open(packed.shards[0]) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            assert Image.open(io.BytesIO(file.read())).info == {}

"""``histill privacy neighbours`` and ``histill jobs samples``: what generators made."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from histill.cli.app import app
from histill.cli.sample_files import load_samples
from histill.core.errors import CorruptArtifactError, InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path

JOB = "0123456789"


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def archive(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


class Jobs:
    """A client that has the samples of one job; nothing can be sent with it."""

    def __init__(self) -> None:
        self.jobs = self
        self.archive = b""

    def samples(self, name: str) -> bytes:
        assert name == f"jobs/{JOB}"
        return self.archive

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """Stands for the jobs service."""
    stand_in = Jobs()
    monkeypatch.setattr("histill.cli.privacy.Client.connect", lambda: stand_in)
    return stand_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images below a folder, and labels that must not be compared."""
    for part in ("images", "labels"):
        (tmp_path / "data" / part).mkdir(parents=True)
        for seed in range(6):
            path = tmp_path / "data" / part / f"{seed}.png"
            Image.fromarray(noise(seed, 40, 40, 3)).save(path)
    return tmp_path / "data"


def neighbours(folder: Path, *more: str) -> Any:
    return CliRunner().invoke(app, ["privacy", "neighbours", JOB, "--folder", str(folder), *more])


def test_a_copied_image_is_told(jobs: Jobs, folder: Path) -> None:
    """The hard sample that is a crop of an image is near, and named with that image."""
    hard = np.stack([noise(50, 16, 16, 3), noise(4, 40, 40, 3)[8:24, 16:32]])
    jobs.archive = archive(hard=hard, simple=noise(60, 3, 16, 16, 3))
    result = neighbours(folder, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    suspect = found["most_singled_out"]
    assert (suspect["kind"], suspect["sample"]) == ("hard", 1)
    assert suspect["image"] == str(folder / "images" / "4.png")
    assert suspect["distance"] < 1e-3
    assert suspect["next_image_distance"] > 0.1
    hard_part, simple = found["samples"]["hard"], found["samples"]["simple"]
    assert (hard_part["singled_out"], hard_part["count"], simple["count"]) == (0.5, 2, 3)
    assert simple["samples"]["minimum"] > 0.1
    assert hard_part["yardstick"] == simple["yardstick"]


def test_the_table_tells_what_it_can_find_and_that_nothing_was_sent(
    jobs: Jobs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies that the command cuts itself are all found; without any it says so."""
    monkeypatch.setattr("histill.cli.output.console.width", 160, raising=False)
    jobs.archive = archive(simple=noise(60, 3, 16, 16, 3))
    words = " ".join(neighbours(folder).output.split())
    assert "simple samples" in words
    assert "copies, cut here" in words
    assert "hard samples" not in words
    assert "images 100% are singled out" in words
    assert "nothing of it was sent" in words
    jobs.archive = archive(simple=noise(60, 3, 48, 48, 3))
    assert "nobody knows what share of copies" in neighbours(folder).output


def test_grey_samples_are_compared_with_grey_images(jobs: Jobs, folder: Path) -> None:
    """Colours become luminance; a kind without samples has no line."""
    with Image.open(folder / "images" / "2.png") as image:
        copy = np.asarray(image.convert("L"))[None, :16, :16, None]
    jobs.archive = archive(hard=copy, simple=np.zeros((0, 16, 16, 1), np.uint8))
    result = json.loads(neighbours(folder, "--json").output)
    assert list(result["samples"]) == ["hard"]
    assert result["most_singled_out"]["distance"] < 1e-3


def test_a_folder_without_images_is_refused(jobs: Jobs, tmp_path: Path, folder: Path) -> None:
    """Two images are too few to be compared; a broken one is named."""
    jobs.archive = archive(hard=noise(0, 1, 16, 16, 3))
    for path, words in (
        (tmp_path / "none", r"^--folder: .*none is not a folder"),
        (folder / "labels" / "x", r"^--folder: .*is not a folder"),
    ):
        with pytest.raises(InvalidArgumentError, match=words):
            raise neighbours(path).exception
    (tmp_path / "one").mkdir()
    for name in ("a", "c"):
        Image.fromarray(noise(0, 20, 20, 3)).save(tmp_path / "one" / f"{name}.png")
    with pytest.raises(InvalidArgumentError, match="holds 2 of the images it needs at least 3 of"):
        raise neighbours(tmp_path / "one").exception
    (tmp_path / "one" / "b.png").write_bytes(b"nothing")
    with pytest.raises(InvalidArgumentError, match=r"^--folder: .*b\.png: image: an unknown"):
        raise neighbours(tmp_path / "one").exception


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nothing",
        archive(),
        archive(hard=np.zeros((1, 4, 4, 3), np.float32)),
        archive(hard=np.zeros((4, 4), np.uint8)),
        archive(hard=np.zeros((1, 4, 4, 3), np.uint8), simple=np.zeros((1, 8, 8, 3), np.uint8)),
        archive(hard=noise(0, 9, 16, 16, 3))[:-400],
    ],
)
def test_an_archive_of_something_else_is_told(data: bytes) -> None:
    """Whatever arrives, the error names the job."""
    with pytest.raises(CorruptArtifactError, match="the samples of jobs/1"):
        load_samples(data, job="jobs/1")


def test_no_pickled_object_is_loaded() -> None:
    """An archive may not bring code with it."""
    buffer = io.BytesIO()
    np.savez(buffer, hard=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CorruptArtifactError, match="cannot be read"):
        load_samples(buffer.getvalue(), job="jobs/1")


def test_samples_are_written_as_they_came(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``histill jobs samples`` keeps the archive byte for byte."""
    monkeypatch.setattr("histill.cli.jobs.Client.connect", lambda: jobs)
    jobs.archive = b"archive"
    out = tmp_path / "s.npz"
    result = CliRunner().invoke(app, ["jobs", "samples", JOB, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == b"archive"


@pytest.mark.data
def test_crops_of_real_tiles_are_found_in_their_folder(jobs: Jobs, data_dir: Path) -> None:
    """Generators that repeat what teachers learnt from would be found out."""
    tiles = data_dir / "nuclei-he" / "val"
    crops = []
    for path in sorted((tiles / "images").glob("*.png"))[:12]:
        with Image.open(path) as image:
            crops.append(np.asarray(image.convert("RGB"))[67:131, 35:99])
    jobs.archive = archive(hard=np.stack(crops), simple=noise(0, 8, 64, 64, 3))
    found = json.loads(neighbours(tiles, "--json").output)
    assert found["samples"]["hard"]["singled_out"] > 0.6
    assert found["samples"]["simple"]["singled_out"] == 0
    assert found["copies"]["singled_out"] > 0.6

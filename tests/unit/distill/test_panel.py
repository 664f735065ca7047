"""Teachers that are asked about images: views, classes, calibration, and the cache."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.special import softmax

from histill.core.errors import WorkFailedError
from histill.core.specs import MultiTeacherSpec, NetworkSpec
from histill.distill.nets import build_network
from histill.distill.panel import Panel, load_panel, turned, turned_back
from histill.distill.teacher_cache import TeacherCache
from histill.distill.workdir import Workdir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from histill.core.manifests import DatasetManifest, ModelManifest

    Model = Callable[..., ModelManifest]
    Data = Callable[..., DatasetManifest]
    Blob = Callable[..., tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]

CPU = torch.device("cpu")


def save(folder: Path, network: NetworkSpec) -> None:
    """Writes a fresh network's weights."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    net = build_network(network, channels=1, classes=2)
    save_file(net.state_dict(), folder / "weights.safetensors")


def spec(**changes: Any) -> MultiTeacherSpec:
    fields: dict[str, Any] = {"dataset": "blobs", "output_model": "m", "teachers": ("teacher",)}
    return MultiTeacherSpec.model_validate(fields | changes)


@pytest.fixture
def panel(tmp_path: Path, model_manifest: Model, dataset_manifest: Data) -> Callable[..., Panel]:
    """Loads one saved teacher."""

    def load(cache: TeacherCache | None = None, **changes: Any) -> Panel:
        manifest = model_manifest(**changes.pop("manifest", {}))
        if not (tmp_path / "teachers").exists():
            save(tmp_path / "teachers" / "0", NetworkSpec(width=4, depth=2))
        return load_panel(
            Workdir(tmp_path), [manifest], dataset_manifest(), spec(**changes), CPU, cache
        )

    return load


@pytest.mark.parametrize("view", range(8))
def test_views_turn_back(view: int) -> None:
    """Each view is a rearrangement that its inverse undoes, and no two are alike."""
    plane = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(turned_back(turned(plane, view), view), plane)
    assert len({turned(plane, v).tobytes() + bytes(turned(plane, v).shape) for v in range(8)}) == 8


def test_opinions_are_softmaxed_logits_at_both_temperatures(
    panel: Callable[..., Panel], blob: Blob
) -> None:
    """Sharp at the calibrated temperature, soft at that times the distillation's."""
    image, _ = blob()
    made = panel(manifest={"metrics": {"temperature": 1.5}}, temperature=3.0)
    logits = made.teachers[0].predictor.logits(image).astype(np.float16).astype(np.float32)
    said = made.ask(image)
    np.testing.assert_allclose(said.sharp[0], softmax(logits / 1.5, axis=0), atol=1e-5)
    np.testing.assert_allclose(said.soft[0], softmax(logits / 4.5, axis=0), atol=1e-5)
    assert said.usable.tolist() == [True]


def test_views_are_turned_back_and_averaged(panel: Callable[..., Panel], blob: Blob) -> None:
    """With eight views the answer to a turned image is the turned answer."""
    image, _ = blob()
    made = panel(teacher_views=8)
    whole, rotated = made.ask(image).sharp[0], made.ask(np.rot90(image).copy()).sharp[0]
    np.testing.assert_allclose(np.rot90(whole, axes=(1, 2)), rotated, atol=2e-3)
    single = panel().ask(image).sharp[0]
    assert np.abs(whole - single).max() > 1e-3


def test_the_cache_changes_nothing_and_spares_the_teacher(
    panel: Callable[..., Panel], blob: Blob, tmp_path: Path
) -> None:
    """With and without a cache the opinions agree in every bit; twice asked is once run."""
    image, _ = blob()
    without = panel(teacher_views=2).ask(image)
    cached = panel(TeacherCache(tmp_path / "cache", limit=1 << 20), teacher_views=2)
    first = cached.ask(image)
    unasked: Any = _Unasked()
    silent = replace(cached.teachers[0], predictor=unasked)
    again = Panel([silent], 2, cached.temperature, cached.cache).ask(image)
    for said in (first, again):
        assert said.soft.tobytes() == without.soft.tobytes()
        assert said.sharp.tobytes() == without.sharp.tobytes()


class _Unasked:
    """A predictor that must not be asked."""

    device = CPU

    def logits(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Fails."""
        raise AssertionError(image.shape)


@pytest.mark.parametrize("changed", ["pixel", "weights", "normalization"])
def test_another_image_or_teacher_is_another_entry(
    changed: str, panel: Callable[..., Panel], blob: Blob, tmp_path: Path
) -> None:
    """One grey level, other weights or another normalisation miss the cache."""
    image, _ = blob()
    cache = TeacherCache(tmp_path / "cache", limit=1 << 20)
    file = {"path": "weights.safetensors", "size": 1, "sha256": "0" * 64}
    panel(cache, manifest={"files": (file,)}).ask(image)
    other: dict[str, Any] = {"files": (file,)}
    if changed == "weights":
        other["files"] = ({**file, "sha256": "1" * 64},)
    if changed == "normalization":
        other["normalization"] = {"mean": (0.4,), "std": (0.25,)}
    if changed == "pixel":
        image = image.copy()
        image[0, 0] ^= 1
    panel(cache, manifest=other).ask(image)
    assert sum(path.is_file() for path in cache.folder.rglob("*")) == 2


def test_other_channels_are_refused(panel: Callable[..., Panel]) -> None:
    """A teacher for colour cannot look at grey images."""
    with pytest.raises(WorkFailedError, match="teacher@1 takes 3 channels") as caught:
        panel(manifest={"channels": 3, "normalization": {"mean": (0,) * 3, "std": (1,) * 3}})
    assert caught.value.reason == "TEACHER_MISMATCH"


def test_a_teacher_that_fails_on_an_image_is_named(panel: Callable[..., Panel], blob: Blob) -> None:
    """Whatever a program raises on some size becomes TEACHER_MISMATCH with that size."""
    made = panel()
    unasked: Any = _Unasked()
    broken = replace(made.teachers[0], predictor=unasked)
    with pytest.raises(WorkFailedError, match="teacher@1 fails on an image of 30x32") as caught:
        Panel([broken], 1, 1.0, None).ask(blob()[0][:, :30])
    assert caught.value.reason == "TEACHER_MISMATCH"


def test_class_maps_go_by_the_name_in_the_spec(panel: Callable[..., Panel]) -> None:
    """A teacher of other names is heard once its classes are mapped."""
    classes = {"classes": ("ground", "disc")}
    with pytest.raises(WorkFailedError, match="no class of the teacher"):
        panel(manifest=classes)
    made = panel(manifest=classes, class_maps={"teacher": {"classes": {"disc": "blob"}}})
    assert made.teachers[0].dictionary.index == (0, 1)


def test_recorded_dice_of_a_class_is_its_prior(
    tmp_path: Path, model_manifest: Model, dataset_manifest: Data
) -> None:
    """A record by class goes before the mean; without any record the others' mean stands in."""
    manifests = [
        model_manifest(metrics={"dice": 0.7, "dice:blob": 0.6}),
        model_manifest(name="unknown"),
        model_manifest(name="other", metrics={"dice": 0.9}),
    ]
    for index in range(3):
        save(tmp_path / "teachers" / str(index), NetworkSpec(width=4, depth=2))
    names = tuple(manifest.name for manifest in manifests)
    made = load_panel(
        Workdir(tmp_path), manifests, dataset_manifest(), spec(teachers=names), CPU, None
    )
    priors = np.stack([teacher.priors for teacher in made.teachers])
    np.testing.assert_allclose(priors, [[0.7, 0.6], [0.8, 0.8], [0.9, 0.9]], rtol=1e-6)

"""Loading teachers, refusing those that do not fit, and what they say about images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from histill.core.errors import WorkFailedError
from histill.core.specs import BoundaryWeighting, MultiTeacherSpec, NetworkSpec
from histill.distill.boundary import boundary_weight
from histill.distill.examples import Example
from histill.distill.nets import build_network
from histill.distill.predict import Normalized, Predictor
from histill.distill.teachers import judged_images, load_teachers, priors_of
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
SPEC = MultiTeacherSpec(dataset="blobs", output_model="m", teachers=("teacher",))


class Fixed:
    """A predictor that always gives the same logits."""

    def __init__(self, logits: npt.NDArray[np.float32]) -> None:
        self._logits = logits

    def logits(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The logits it was made with."""
        del image
        return self._logits


def save(folder: Path, network: NetworkSpec) -> None:
    """Writes a fresh network's weights."""
    folder.mkdir(parents=True)
    net = build_network(network, channels=1, classes=2)
    save_file(net.state_dict(), folder / "weights.safetensors")


def test_a_teacher_predicts_with_its_own_normalisation(
    tmp_path: Path, model_manifest: Model, dataset_manifest: Data, blob: Blob
) -> None:
    """The loaded teacher gives the network's logits on (x / 255 - mean) / std, at full size."""
    manifest = model_manifest()
    save(tmp_path / "teachers" / "0", manifest.network)
    (teacher,) = load_teachers(Workdir(tmp_path), [manifest], dataset_manifest(), CPU)
    image, _ = blob(size=30)
    assert isinstance(teacher.net, Normalized)
    net = teacher.net.net.eval()
    scaled = torch.from_numpy((image[..., 0] / 255 - 0.5) / 0.25).float()
    with torch.inference_mode():
        expected = net(scaled[None, None])[0].numpy()
    np.testing.assert_allclose(teacher.logits(image), expected, rtol=1e-4, atol=1e-5)


def test_odd_sizes_are_padded_and_cut_back(blob: Blob, model_manifest: Model) -> None:
    """Logits have the image's own size, whatever the stride."""
    manifest = model_manifest()
    net = Normalized(
        build_network(NetworkSpec(width=4, depth=4), channels=1, classes=2), manifest.normalization
    )
    image, _ = blob(size=32)
    assert Predictor(net, 8, CPU).logits(image[:13, :27]).shape == (2, 13, 27)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ("background", "nucleus")}, "knows the classes background, nucleus"),
        ({"channels": 3}, "takes 3 channels"),
        ({"network": NetworkSpec(width=8, depth=2)}, "do not fit its network"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(
    changes: dict[str, Any],
    words: str,
    tmp_path: Path,
    model_manifest: Model,
    dataset_manifest: Data,
) -> None:
    """Other classes, channels or weights are TEACHER_MISMATCH and name the teacher."""
    save(tmp_path / "teachers" / "0", NetworkSpec(width=4, depth=2))
    with pytest.raises(WorkFailedError, match=words) as caught:
        load_teachers(Workdir(tmp_path), [model_manifest(**changes)], dataset_manifest(), CPU)
    assert caught.value.reason == "TEACHER_MISMATCH"
    assert "teacher@1" in str(caught.value)


def test_weights_that_are_no_safetensors_are_refused(
    tmp_path: Path, model_manifest: Model, dataset_manifest: Data
) -> None:
    """A pickle, or any other bytes, is never loaded."""
    folder = tmp_path / "teachers" / "0"
    folder.mkdir(parents=True)
    torch.save({"a": torch.zeros(2)}, folder / "weights.safetensors")
    with pytest.raises(WorkFailedError, match="do not fit") as caught:
        load_teachers(Workdir(tmp_path), [model_manifest()], dataset_manifest(), CPU)
    assert caught.value.reason == "TEACHER_MISMATCH"


def test_a_missing_record_counts_as_the_mean_of_the_others(model_manifest: Model) -> None:
    """A teacher without a recorded Dice is neither favoured nor punished."""
    manifests = [model_manifest(metrics=m) for m in ({"dice": 0.9}, {}, {"dice": 0.7})]
    np.testing.assert_allclose(priors_of(manifests), [0.9, 0.8, 0.7], rtol=1e-6)
    np.testing.assert_allclose(priors_of([model_manifest()]), [1.0])


def test_unlabelled_images_take_their_boundaries_from_the_teachers(
    blob: Blob, model_manifest: Model
) -> None:
    """Without labels, weights rise around the consensus's outline; labels go before it."""
    image, target = blob()
    outline = np.zeros_like(target)
    outline[8:20, 8:20] = 1
    teacher: Any = Fixed(np.stack([1.0 - outline, outline]).astype(np.float32) * 5)
    unlabeled, labeled = judged_images(
        [Example("u", image, None), Example("l", image, target)],
        [teacher],
        [model_manifest()],
        SPEC,
    )
    for got, truth in ((unlabeled, outline), (labeled, target)):
        expected = boundary_weight(truth, BoundaryWeighting())
        np.testing.assert_allclose(got.weight, expected, rtol=1e-3)
    assert (unlabeled.labeled, labeled.labeled) == (False, True)
    assert unlabeled.mixture is not None
    np.testing.assert_allclose(unlabeled.mixture.astype(np.float32).sum(0), 1, atol=2e-3)


def test_a_silent_teacher_is_left_out_and_named(
    blob: Blob, model_manifest: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    """A teacher that yields NaN gets weight 0, and the log says so once."""
    image, target = blob()
    good = np.stack([1.0 - target, target]).astype(np.float32)
    teachers: Any = [Fixed(good), Fixed(np.full_like(good, np.nan))]
    manifests = [model_manifest(), model_manifest(name="broken")]
    examples = [Example("a", image, target), Example("b", image, None)]
    images = list(judged_images(examples, teachers, manifests, SPEC))
    assert [i.teacher_weights.tolist() for i in images] == [[1, 0], [1, 0]]
    assert capsys.readouterr().out.count("broken@1") == 1


def test_when_no_teacher_speaks_the_run_fails(blob: Blob, model_manifest: Model) -> None:
    """Teachers that all yield NaN everywhere are TEACHER_MISMATCH."""
    image, target = blob()
    teachers: Any = [Fixed(np.full((2, *target.shape), np.nan, dtype=np.float32))]
    with pytest.raises(WorkFailedError, match="no teacher gives finite outputs"):
        list(judged_images([Example("a", image, target)], teachers, [model_manifest()], SPEC))

"""What several teachers say together, and teachers from their files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file
from structlog.testing import capture_logs
from torch import nn

import torchscripts
from histill.core.errors import WorkFailedError
from histill.core.manifests import STATISTICS, WEIGHTS, Normalization
from histill.core.specs import NetworkSpec
from histill.distill.data_free.statistics import WatchedTeacher
from histill.distill.data_free.teachers import Council, load_council
from histill.distill.nets import build_network
from histill.distill.predict import Normalized
from histill.distill.recorded import record_statistics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from histill.core.manifests import ModelManifest

CPU = torch.device("cpu")
IMAGES = torch.zeros(4, 1, 6, 6)
SHAPES = [(4, 3), (4, 3, 6, 6)]


class Fixed(nn.Module):
    """Says always the same."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        del images
        return self.logits


def council(*logits: torch.Tensor, temperatures: tuple[float, ...] = ()) -> Council:
    teachers = [WatchedTeacher(Fixed(one)) for one in logits]
    return Council(teachers, temperatures or [1.0] * len(logits), [0.9] * len(logits))


def sure_of(classes: list[int], shape: tuple[int, ...]) -> torch.Tensor:
    """Logits that say one class for all of an image."""
    logits = torch.zeros(shape)
    for image, index in enumerate(classes):
        logits[image, index] = 6.0
    return logits


@pytest.mark.parametrize("shape", SHAPES)
def test_one_teacher_is_passed_on_unchanged(shape: tuple[int, ...]) -> None:
    """Its logits as they are, at no temperature, and all of the weight."""
    logits = torch.randn(shape)
    heard = council(logits, temperatures=(2.0,)).hear(IMAGES)
    assert torch.equal(heard.logits, logits)
    assert heard.distance is None
    assert torch.equal(heard.weights, torch.ones(4, 1))


@pytest.mark.parametrize("shape", SHAPES)
def test_who_contradicts_the_others_counts_for_nothing(shape: tuple[int, ...]) -> None:
    """Sample by sample: on each the weights sum to 1, and the odd one's is 0."""
    common, odd = sure_of([0, 1, 2, 0], shape), sure_of([0, 1, 0, 1], shape)
    heard = council(common, odd, common.clone()).hear(IMAGES)
    assert heard.weights.shape == (4, 3)
    torch.testing.assert_close(heard.weights.sum(dim=1), torch.ones(4))
    expected = torch.tensor([[1 / 3] * 3, [1 / 3] * 3, [0.5, 0, 0.5], [0.5, 0, 0.5]])
    torch.testing.assert_close(heard.weights, expected)
    assert heard.weights[2:, 1].tolist() == [0, 0]  # dropped, not merely small
    torch.testing.assert_close(heard.logits.softmax(dim=1), common.softmax(dim=1))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_mixture_is_of_probabilities_by_weight(shape: tuple[int, ...]) -> None:
    """Each teacher's at its temperature; never of logits."""
    first, other = (torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    said = first, first + 0.3 * other
    heard = council(*said, temperatures=(1.0, 1.2)).hear(IMAGES)
    assert heard.weights.min() > 0  # both count, or nothing would be mixed
    expected = sum(
        heard.weights[:, k].reshape(-1, *[1] * (len(shape) - 1)) * (x / t).softmax(dim=1)
        for k, (x, t) in enumerate(zip(said, (1.0, 1.2), strict=True))
    )
    assert isinstance(expected, torch.Tensor)
    torch.testing.assert_close(heard.logits.softmax(dim=1), expected, rtol=1e-4, atol=1e-5)


def test_a_better_recorded_dice_weighs_more() -> None:
    """Of two that are otherwise alike."""
    logits = sure_of([0, 1, 2, 0], (4, 3))
    teachers = [WatchedTeacher(Fixed(logits)) for _ in range(2)]
    weights = Council(teachers, [1.0, 1.0], [0.95, 0.85]).hear(IMAGES).weights
    assert (weights[:, 0] > 2 * weights[:, 1]).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4))


def test_generators_learn_from_all_teachers(make_council: Callable[..., Council]) -> None:
    """Mixture and distance are part of the graph; the distance is the mean of the teachers'."""
    together = make_council(count=2)
    images = (torch.rand(4, 1, 16, 16) * 255).requires_grad_()
    heard = together.hear(images)
    assert heard.distance is not None
    single = [teacher(images)[1] for teacher in together.teachers]
    torch.testing.assert_close(
        heard.distance, torch.stack([x for x in single if x is not None]).mean()
    )
    for value in (heard.distance, heard.logits.square().mean()):
        (gradient,) = torch.autograd.grad(value, images, retain_graph=True)
        assert gradient.abs().max() > 0
    assert not heard.weights.requires_grad
    assert together.layers == 4


def write_teacher(folder: Path, **network: object) -> NetworkSpec:
    spec = NetworkSpec.model_validate({"width": 4, "depth": 2} | network)
    folder.mkdir(parents=True, exist_ok=True)
    net = build_network(spec, channels=1, classes=2)
    save_file(net.state_dict(), folder / WEIGHTS)
    return spec


def test_a_teacher_without_statistics_is_warned_of(
    tmp_path: Path, model_manifest: Callable[..., ModelManifest]
) -> None:
    """By name; it answers all the same, without a distance."""
    spec = write_teacher(tmp_path, norm="instance")
    with capture_logs() as logs:
        loaded = load_council([tmp_path], [model_manifest(network=spec)], CPU)
    assert [(line["event"], line["teacher"]) for line in logs] == [("no_statistics", "teacher@1")]
    heard = loaded.hear(torch.rand(2, 1, 8, 8) * 255)
    assert heard.logits.shape == (2, 2, 8, 8)
    assert heard.distance is None
    assert loaded.layers == 0


def test_a_file_of_recorded_statistics_is_read(
    tmp_path: Path, model_manifest: Callable[..., ModelManifest]
) -> None:
    """As it is written beside a trained network: the images that it saw are near."""
    torch.manual_seed(0)
    spec = NetworkSpec(width=4, depth=2, norm="instance")
    net = build_network(spec, channels=1, classes=2)
    manifest = model_manifest(network=spec)
    save_file(net.state_dict(), tmp_path / WEIGHTS)
    seen = torch.randint(40, 90, (4, 8, 8, 1), generator=torch.Generator().manual_seed(0)).byte()
    statistics = record_statistics(Normalized(net, manifest.normalization), list(seen.numpy()), 2)
    save_file(statistics, tmp_path / STATISTICS)
    with capture_logs() as logs:
        loaded = load_council([tmp_path], [manifest], CPU)
    assert logs == []
    assert loaded.layers == len(statistics) / 2 > 0
    near = loaded.hear(seen.permute(0, 3, 1, 2).float()).distance
    far = loaded.hear(torch.rand(4, 1, 8, 8) * 255).distance
    assert near is not None
    assert far is not None
    assert near.item() == pytest.approx(0, abs=1e-3)
    assert far > near + 0.1


def test_manifests_bring_temperature_and_dice(
    tmp_path: Path, model_manifest: Callable[..., ModelManifest]
) -> None:
    """The teachers' mean stands in for a Dice that was not recorded, 1 where none was."""
    spec = write_teacher(tmp_path)
    known = model_manifest(network=spec, metrics={"temperature": 1.5, "dice": 0.8})
    loaded = load_council([tmp_path] * 2, [known, model_manifest(network=spec)], CPU)
    assert list(loaded.temperatures) == [1.5, 1.0]
    assert list(loaded.priors) == [0.8, 0.8]
    alone = load_council([tmp_path], [model_manifest(network=spec)], CPU)
    assert list(alone.priors) == [1.0]


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"net.mean": torch.zeros(4)}, "lacks its mean or its var"),
        ({"net.mean": torch.zeros(4), "net.var": torch.ones(3)}, "no equal vectors"),
        ({"net.mean": torch.zeros(4), "net.var": -torch.ones(4)}, "no mean or variance"),
        (None, "not usable"),
    ],
)
def test_statistics_that_are_none_are_refused(
    tensors: dict[str, torch.Tensor] | None,
    words: str,
    tmp_path: Path,
    model_manifest: Callable[..., ModelManifest],
) -> None:
    """The teacher and what is wrong are named, before anything is trained."""
    spec = write_teacher(tmp_path)
    if tensors is None:
        (tmp_path / "statistics.safetensors").write_bytes(b"none")
    else:
        save_file(tensors, tmp_path / "statistics.safetensors")
    with pytest.raises(WorkFailedError, match=words) as caught:
        load_council([tmp_path], [model_manifest(network=spec)], CPU)
    assert caught.value.reason == "TEACHER_MISMATCH"


def test_a_program_may_be_a_teacher(
    tmp_path: Path, model_manifest: Callable[..., ModelManifest]
) -> None:
    """One with batch norms is watched like any network; what does not fit is refused."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2))
    torchscripts.write(net, tmp_path)
    loaded = load_council([tmp_path], [model_manifest(network=None)], CPU)
    assert loaded.layers == 1
    heard = loaded.hear(torch.rand(2, 1, 8, 8) * 255)
    assert heard.distance is not None
    constants = Normalization(mean=(0.5,) * 3, std=(0.2,) * 3)
    manifest = model_manifest(network=None, channels=3, normalization=constants)
    with pytest.raises(WorkFailedError, match="takes 1 channels; 3 are declared") as caught:
        load_council([tmp_path], [manifest], CPU)
    assert caught.value.reason == "TEACHER_MISMATCH"

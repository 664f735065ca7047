"""The optimisation: a seeded regression, determinism, divergence and dead starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from histill.core.errors import WorkFailedError
from histill.core.manifests import Normalization
from histill.core.specs import BoundaryWeighting, NetworkSpec, TrainingSpec
from histill.distill.data import CropSampler
from histill.distill.devices import Place
from histill.distill.examples import Example
from histill.distill.loop import DeadStartError, History, fit
from histill.distill.nets import build_network
from histill.distill.objective import Objective
from histill.distill.predict import Normalized
from histill.distill.progress import Reporter
from histill.distill.teachers import labeled_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from histill.distill.data import TrainingImage


# Of the seeded training below: the first loss, and the mean of the last five.
FIRST_LOSS, LAST_LOSS = 1.4472, 0.9058


@pytest.fixture
def images(blob: Callable[..., Any]) -> list[TrainingImage]:
    """Six labelled discs."""
    return [labeled_image(Example(str(i), *blob(i)), BoundaryWeighting()) for i in range(6)]


def trained(
    net: nn.Module, images: list[TrainingImage], *, objective: Any = None, **training: Any
) -> History:
    """Trains on 16-pixel crops in batches of 4."""
    spec = TrainingSpec(**({"steps": 40, "crop_size": 16, "batch_size": 4} | training))
    sampler = CropSampler(
        images, classes=2, crop_size=16, batch_size=4, seed=spec.seed, augment=spec.augment
    )
    return fit(
        net,
        sampler,
        objective or Objective(),
        training=spec,
        place=Place(torch.device("cpu")),
        reporter=Reporter(None),
        validate=lambda: 0.5,
    )


def fresh(seed: int = 0) -> Normalized:
    """A small seeded network."""
    torch.manual_seed(seed)
    net = build_network(NetworkSpec(width=4, depth=3), channels=1, classes=2)
    return Normalized(net, Normalization(mean=(0.35,), std=(0.2,)))


def test_a_seeded_training_ends_where_it_always_did(images: list[TrainingImage]) -> None:
    """Forty steps from seed 0 end at the recorded loss, within rounding of other machines."""
    history = trained(fresh(), images)
    assert history.terms["loss"][0] == pytest.approx(FIRST_LOSS, rel=0.02)
    assert np.mean(history.terms["loss"][-5:]) == pytest.approx(LAST_LOSS, rel=0.15)
    assert history.steps[-1] == 40


def test_equal_seeds_end_with_equal_weights(images: list[TrainingImage]) -> None:
    """Two runs of one seed agree in every bit."""
    nets = [fresh(), fresh()]
    for net in nets:
        trained(net, images, steps=5)
    first, second = (net.state_dict() for net in nets)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_validation_comes_at_each_quarter(images: list[TrainingImage]) -> None:
    """The validation Dice is asked for at a quarter, half and three quarters."""
    assert trained(fresh(), images, steps=8).validation == [(2, 0.5), (4, 0.5), (6, 0.5)]


def test_a_loss_that_is_not_finite_stops_the_run(images: list[TrainingImage]) -> None:
    """NaN in the loss is DIVERGED, with the step in the message."""

    def broken(logits: torch.Tensor, _: Any) -> dict[str, torch.Tensor]:
        return {"loss": logits.sum() * float("nan")}

    with pytest.raises(WorkFailedError, match="at step 1") as caught:
        trained(fresh(), images, objective=broken)
    assert caught.value.reason == "DIVERGED"


def test_one_class_everywhere_is_a_dead_start(images: list[TrainingImage]) -> None:
    """A network that never answers anything but background is found at a quarter."""

    class Dead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.tensor([50.0, 0.0]))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.bias[None, :, None, None].expand(len(image), 2, *image.shape[2:]) * 1.0

    with pytest.raises(DeadStartError):
        trained(Dead(), images, steps=100, learning_rate=1e-5)


def test_targets_of_one_class_are_no_dead_start(blob: Callable[..., Any]) -> None:
    """Answering background everywhere is right where there is nothing else."""
    image, target = blob()
    empty = labeled_image(Example("e", image, np.zeros_like(target)), BoundaryWeighting())
    assert trained(fresh(), [empty], steps=100).steps[-1] == 100

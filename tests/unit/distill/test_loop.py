"""The optimisation: a seeded regression, determinism, divergence and dead starts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from histill.core.errors import WorkFailedError
from histill.core.manifests import Normalization
from histill.core.specs import BoundaryWeighting, NetworkSpec, Ramp, TrainingSpec
from histill.distill.data import CropSampler
from histill.distill.dead_start import DeadStartError
from histill.distill.devices import Place
from histill.distill.examples import Example
from histill.distill.loop import fit
from histill.distill.nets import build_network
from histill.distill.objective import Objective, TensorBatch
from histill.distill.predict import Normalized
from histill.distill.progress import Reporter
from histill.distill.stepping import Trainer
from histill.distill.teachers import labeled_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from histill.distill.data import TrainingImage
    from histill.distill.history import History


# Of the seeded training below: the first loss, and the mean of the last five.
FIRST_LOSS, LAST_LOSS = 1.4885, 0.9431
# The same of the seeded distillation.
FIRST_TAUGHT, LAST_TAUGHT = 3.6730, 3.2521


@pytest.fixture
def images(blob: Callable[..., Any]) -> list[TrainingImage]:
    """Six labelled discs."""
    return [labeled_image(Example(str(i), *blob(i)), BoundaryWeighting()) for i in range(6)]


def fitted(
    net: nn.Module,
    images: list[TrainingImage],
    *,
    objective: Any = None,
    dice: Callable[[nn.Module], float] = lambda _: 0.5,
    **training: Any,
) -> tuple[nn.Module, History]:
    """Trains on 16-pixel crops in batches of 4."""
    spec = TrainingSpec(**({"steps": 40, "crop_size": 16, "batch_size": 4} | training))
    sampler = CropSampler(
        images,
        classes=2,
        crop_size=16,
        batch_size=spec.batch_size,
        seed=spec.seed,
        augment=spec.augment,
    )
    return fit(
        net,
        sampler,
        objective or Objective(),
        training=spec,
        place=Place(torch.device("cpu")),
        reporter=Reporter(None),
        validate=lambda kept: {"dice": dice(kept)},
    )


def trained(net: nn.Module, images: list[TrainingImage], **how: Any) -> History:
    """The curves of a training."""
    return fitted(net, images, **how)[1]


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


def test_a_seeded_distillation_ends_where_it_always_did(images: list[TrainingImage]) -> None:
    """Forty steps with every term on, two images of six labelled, end at the recorded loss."""
    taught = []
    for number, image in enumerate(images):
        truth = image.target == np.arange(2)[:, None, None]
        taught.append(
            replace(
                image,
                labeled=number < 2,
                mixture=np.where(truth, 0.9, 0.1).astype(np.float16),
                teacher_weights=np.array([0.7, 0.3], dtype=np.float32),
            )
        )
    objective = Objective(
        distillation_weight=3.0,
        overlap_weight=3.0,
        edge_weight=0.5,
        affinity_weight=0.5,
        temperature=1.5,
        distillation_ramp=Ramp(start=0.5),
    )
    history = trained(fresh(), taught, objective=objective)
    assert set(history.terms) == {"loss", "ce", "dice_loss", "kd", "overlap", "edge", "affinity"}
    assert history.terms["loss"][0] == pytest.approx(FIRST_TAUGHT, rel=0.02)
    assert np.mean(history.terms["loss"][-5:]) == pytest.approx(LAST_TAUGHT, rel=0.05)
    np.testing.assert_allclose(history.teacher_weights[-1], [0.7, 0.3], rtol=1e-6)


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

    def broken(logits: torch.Tensor, _: Any, **__: Any) -> dict[str, torch.Tensor]:
        return {"loss": logits.sum() * float("nan")}

    with pytest.raises(WorkFailedError, match="at step 1") as caught:
        trained(fresh(), images, objective=broken)
    assert caught.value.reason == "DIVERGED"


def test_one_class_everywhere_is_a_dead_start(images: list[TrainingImage]) -> None:
    """A network that never answers anything but background is found at a quarter."""
    with pytest.raises(DeadStartError):
        trained(_Dead(), images, steps=100, learning_rate=1e-5)


class _Dead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([50.0, 0.0]))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.bias[None, :, None, None].expand(len(image), 2, *image.shape[2:]) * 1.0


def test_targets_of_one_class_are_no_dead_start(blob: Callable[..., Any]) -> None:
    """Answering background everywhere is right where there is nothing else."""
    image, target = blob()
    empty = labeled_image(Example("e", image, np.zeros_like(target)), BoundaryWeighting())
    assert trained(fresh(), [empty], steps=100).steps[-1] == 100


def test_validations_are_spread_evenly(images: list[TrainingImage]) -> None:
    """As many as were asked for, none at the end, which is scored anyway."""
    steps = [step for step, _ in trained(fresh(), images, steps=10, validations=4).validation]
    assert steps == [2, 4, 6, 8]
    assert trained(fresh(), images, steps=4, validations=0).validation == []


def test_accumulated_batches_count_as_one(images: list[TrainingImage]) -> None:
    """A step of four images in two halves is that of all four, with instance norms."""
    sampler = CropSampler(images, classes=2, crop_size=16, batch_size=4, seed=0, augment=True)
    whole = TensorBatch.of(sampler.batch(0), torch.device("cpu"))
    halves = [
        TensorBatch(**{name: value[part] for name, value in vars(whole).items()})
        for part in (slice(0, 2), slice(2, 4))
    ]
    weights = []
    for batches in ([whole], halves):
        torch.manual_seed(0)
        network = NetworkSpec(width=4, depth=2, norm="instance")
        net = Normalized(
            build_network(network, channels=1, classes=2),
            Normalization(mean=(0.35,), std=(0.2,)),
        )
        trainer = Trainer(
            net,
            Objective(),
            training=TrainingSpec(steps=10),
            place=Place(torch.device("cpu")),
        )
        logits, _ = trainer.step(batches, number=1)
        weights.append([parameter.detach() for parameter in net.parameters()])
        assert len(logits) == len(batches[-1].image)
    # Soft Dice is taken a batch, so that the two differ a little there.
    for one, two in zip(*weights, strict=True):
        torch.testing.assert_close(one, two, atol=3e-4, rtol=0)


def test_accumulation_takes_that_many_batches_a_step(images: list[TrainingImage]) -> None:
    """Three steps of two batches draw six, and are reported as three steps."""
    seen: list[int] = []

    def objective(logits: torch.Tensor, batch: TensorBatch, **_: Any) -> dict[str, torch.Tensor]:
        seen.append(len(batch.image))
        return {"loss": logits.square().mean()}

    history = trained(fresh(), images, objective=objective, steps=3, accumulate=2)
    assert (len(seen), history.steps) == (6, [1, 2, 3])


def test_the_average_of_weights_is_what_is_kept(images: list[TrainingImage]) -> None:
    """With a decay, the kept network lags behind the trained one and starts with it."""
    net = fresh()
    kept, _ = fitted(net, images, steps=5, ema_decay=0.9)
    assert kept is not net
    last, average = net.state_dict(), kept.state_dict()
    moved = [name for name in last if not torch.equal(last[name], average[name])]
    assert moved
    plain, _ = fitted(same := fresh(), images, steps=5)
    assert plain is same


def test_the_average_is_the_exponential_one(images: list[TrainingImage]) -> None:
    """Decay * average + (1 - decay) * weights, with less decay in the first steps."""
    trainer = Trainer(
        net := fresh(),
        Objective(),
        training=TrainingSpec(steps=10, ema_decay=0.75),
        place=Place(torch.device("cpu")),
    )
    sampler = CropSampler(images, classes=2, crop_size=16, batch_size=4, seed=0, augment=True)
    expected: dict[str, torch.Tensor] = {}
    for step in range(3):
        trainer.step([TensorBatch.of(sampler.batch(step), torch.device("cpu"))], number=step + 1)
        for name, value in net.named_parameters():
            old, decay = expected.get(name, value.detach()), min(0.75, (1 + step) / (10 + step))
            expected[name] = (decay * old + (1 - decay) * value.detach()).clone()
    for name, value in trainer.kept.named_parameters():
        torch.testing.assert_close(value.detach(), expected[name])


def test_early_stopping_keeps_the_best_weights(images: list[TrainingImage]) -> None:
    """After two validations without a better Dice it ends with the weights of the best."""
    dice = iter([0.5, 0.7, 0.6, 0.65, 0.9])
    states = []

    def measured(net: nn.Module) -> float:
        states.append({name: value.clone() for name, value in net.state_dict().items()})
        return next(dice)

    kept, history = fitted(fresh(), images, steps=40, validations=9, patience=2, dice=measured)
    assert history.validation == [(4, 0.5), (8, 0.7), (12, 0.6), (16, 0.65)]
    assert history.best_step == 8
    assert all(torch.equal(v, states[1][n]) for n, v in kept.state_dict().items())


def test_the_last_weights_may_be_the_best(images: list[TrainingImage]) -> None:
    """With patience the end of the run is a candidate like the others."""
    dice = iter([0.5, 0.6, 0.7])
    history = trained(
        fresh(), images, steps=9, validations=2, patience=5, dice=lambda _: next(dice)
    )
    assert history.best_step == 9


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_learns_about_the_same(precision: str, images: list[TrainingImage]) -> None:
    """Half the bits give a loss within a few per cent of single precision's."""
    full = trained(fresh(), images).terms["loss"]
    half = trained(fresh(), images, precision=precision).terms["loss"]
    assert np.mean(half[-5:]) == pytest.approx(np.mean(full[-5:]), rel=0.1)


def test_channels_last_gives_the_same(images: list[TrainingImage]) -> None:
    """The order in memory changes rounding and nothing else."""
    plain = trained(fresh(), images, steps=5).terms["loss"]
    last = trained(fresh(), images, steps=5, channels_last=True).terms["loss"]
    np.testing.assert_allclose(last, plain, rtol=1e-3)


def test_buffers_are_those_of_the_trained_network(images: list[TrainingImage]) -> None:
    """Running statistics are averages already and are taken as they are."""
    kept, _ = fitted(net := fresh(), images, steps=5, ema_decay=0.99)
    for (name, ours), (_, theirs) in zip(kept.named_buffers(), net.named_buffers(), strict=True):
        assert torch.equal(ours, theirs), name


def test_an_early_end_leaves_a_last_point_of_each_curve(images: list[TrainingImage]) -> None:
    """Also where the end comes before the first point that a long run would keep."""
    history = trained(fresh(), images, steps=4000, validations=1000, patience=1, dice=lambda _: 0.5)
    assert history.steps[-1] == history.validation[-1][0] == 7
    assert len(history.terms["loss"]) == len(history.steps)


def test_validations_without_a_dice_do_not_end_the_run(images: list[TrainingImage]) -> None:
    """Where no validation image has foreground nothing is known, and patience waits."""
    history = trained(
        fresh(), images, steps=12, validations=5, patience=1, dice=lambda _: float("nan")
    )
    assert history.steps[-1] == 12
    assert history.best_step is None


def test_a_dead_network_is_found_where_patience_would_end_it(images: list[TrainingImage]) -> None:
    """Early stopping does not publish a network that never came to life."""
    with pytest.raises(DeadStartError):
        trained(
            _Dead(),
            images,
            steps=400,
            validations=12,
            patience=1,
            learning_rate=1e-5,
            dice=lambda _: 0.0,
        )


def test_half_precision_that_always_overflows_is_told(images: list[TrainingImage]) -> None:
    """Steps that loss scaling skips without end are DIVERGED, not a trained network."""

    def endless(logits: torch.Tensor, _: Any, **__: Any) -> dict[str, torch.Tensor]:
        return {"loss": (logits.sum() * 0).clone().sqrt().nan_to_num()}

    with pytest.raises(WorkFailedError, match="at step 21") as caught:
        trained(fresh(), images, objective=endless, precision="float16")
    assert caught.value.reason == "DIVERGED"

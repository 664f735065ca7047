"""A training that goes on from any step as if it had never ended."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs
from torch import nn

from histill.core.manifests import Normalization
from histill.core.specs import BoundaryWeighting, NetworkSpec, TrainingSpec
from histill.distill.data import CropSampler
from histill.distill.dead_start import Watch
from histill.distill.devices import Place
from histill.distill.examples import Example
from histill.distill.history import History
from histill.distill.loop import fit
from histill.distill.nets import build_network
from histill.distill.objective import Objective, TensorBatch
from histill.distill.predict import Normalized
from histill.distill.progress import Reporter
from histill.distill.run_checkpoint import RunCheckpoint
from histill.distill.stepping import Trainer
from histill.distill.teachers import labeled_image
from histill.distill.training_state import TrainingState
from histill.distill.validations import Validations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from histill.distill.data import TrainingImage

PLACE = Place(torch.device("cpu"))
OBJECTIVE = Objective(distillation_weight=1.0, edge_weight=0.5)
# Ends early, after five validations, with the weights of the second.
DICE = (0.5, 0.7, 0.6, 0.65, 0.6, 0.9, 0.95)
EVERYTHING = {"steps": 16, "ema_decay": 0.9, "validations": 7, "patience": 3, "accumulate": 2}


class KilledError(Exception):
    """The process was killed."""


class Telling(Reporter):
    """Notes the steps it hears of, and may end the run at one, before its checkpoint."""

    def __init__(self, at: int = 1_000_000) -> None:
        super().__init__(None)
        self._at = at
        self.steps: list[int] = []

    def report(self, stage: str, step: int = 0, steps: int = 0, **_: Any) -> None:
        del stage, steps
        self.steps.append(step)
        if step >= self._at:
            raise KilledError


class Dropping(nn.Module):
    """A network whose output depends on torch's random state."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        net = build_network(NetworkSpec(width=4, depth=3), channels=1, classes=2)
        self.net = Normalized(net, Normalization(mean=(0.35,), std=(0.2,)))
        self.dropout = nn.Dropout(0.2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net(self.dropout(image))  # type: ignore[no-any-return]


@pytest.fixture
def images(blob: Callable[..., Any]) -> list[TrainingImage]:
    """Six discs; two have labels, and teachers speak of all."""
    found = []
    for number in range(6):
        image = labeled_image(Example(str(number), *blob(number)), BoundaryWeighting())
        truth = image.target == np.arange(2)[:, None, None]
        mixture = np.where(truth, 0.9, 0.1).astype(np.float16)
        weights = np.array([0.7, 0.3 + number / 10], dtype=np.float32)
        found.append(replace(image, labeled=number < 2, mixture=mixture, teacher_weights=weights))
    return found


def sampler_of(images: list[TrainingImage]) -> CropSampler:
    return CropSampler(images, classes=2, crop_size=16, batch_size=4, seed=0, augment=True)


def fitted(
    images: list[TrainingImage],
    checkpoint: RunCheckpoint | None,
    reporter: Reporter,
    training: dict[str, Any],
) -> dict[str, Any]:
    """All that a training ends with; from the checkpoint, if there is one."""
    spec = TrainingSpec.model_validate({"crop_size": 16, "batch_size": 4} | training)
    at = sorted(Validations.of(spec, lambda _: {}).at)
    saved = checkpoint.read() if checkpoint else None
    done = saved.shared["step"] if saved else 0
    dice = iter(dict(zip(at, DICE, strict=False))[step] for step in at if step > done)
    kept, history = fit(
        Dropping(),
        sampler_of(images),
        OBJECTIVE,
        training=spec,
        place=PLACE,
        reporter=reporter,
        validate=lambda _: {"dice": next(dice)},
        saved=saved,
        checkpoint=checkpoint,
    )
    curves = {name: value for name, value in vars(history).items() if name != "earlier_s"}
    return {"kept": dict(kept.state_dict()), "random": torch.get_rng_state(), **curves}


def same(one: Any, other: Any) -> bool:
    """Whether two trees hold the same values, bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple | deque):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize(
    "training",
    [
        EVERYTHING,
        {"steps": 6, "validations": 1},
        {"steps": 6, "validations": 1, "channels_last": True},
        {"steps": 6, "validations": 1, "precision": "bfloat16"},
        {"steps": 6, "validations": 1, "precision": "float16", "ema_decay": 0.5},
    ],
    ids=["everything", "plain", "channels_last", "bfloat16", "float16"],
)
def test_a_training_goes_on_from_every_step(
    training: dict[str, Any], images: list[TrainingImage], tmp_path: Path
) -> None:
    """Wherever it was killed: weights, curves, choice and random state at the end are equal."""
    whole = fitted(images, None, Telling(), training)
    last = whole["steps"][-1]
    assert last == (10 if "patience" in training else 6)
    for step in range(1, last):
        path = tmp_path / f"{step}.safetensors"
        checkpoint = RunCheckpoint(path, "one", PLACE, every_s=0)
        with pytest.raises(KilledError):
            fitted(images, checkpoint, Telling(step + 1), training)
        torch.manual_seed(step)
        told = Telling()
        with capture_logs() as logs:
            resumed = fitted(images, checkpoint, told, training)
        assert [line["step"] for line in logs if line["event"] == "resumed"] == [step]
        assert told.steps == list(range(step, last + 1))
        assert [name for name in whole if not same(whole[name], resumed[name])] == []


def contents(thing: Any) -> Any:
    """Whatever something holds: states of torch's own objects, else the thing itself."""
    return dict(thing.state_dict()) if hasattr(thing, "state_dict") else thing


def attributes(state: TrainingState) -> dict[str, Any]:
    """All attributes of all parts; none is named, so that none is missed."""
    found: dict[str, Any] = {}
    for part, thing in vars(state).items():
        parts = vars(thing) if type(thing).__module__.startswith("histill.distill") else {"": thing}
        found |= {f"{part}.{name}": contents(value) for name, value in parts.items()}
    return found


def begun() -> TrainingState:
    """A training that has not done a step."""
    spec = TrainingSpec(
        steps=120, ema_decay=0.9, patience=3, precision="float16", channels_last=True
    )
    trainer = Trainer(Dropping(), OBJECTIVE, training=spec, place=PLACE)
    validations = Validations.of(spec, first_is_best)
    return TrainingState(trainer, History(), validations, Watch(120, {27}), PLACE)


def first_is_best(_: nn.Module) -> dict[str, float]:
    """Equal measures, of which the first counts."""
    return {"dice": 0.5}


def advanced(state: TrainingState, images: list[TrainingImage]) -> None:
    """Does what ``fit`` does, and what only unlucky runs do."""
    for step in range(20, 25):
        batch = TensorBatch.of(sampler_of(images).batch(step), PLACE.device)
        logits, values = state.trainer.step([batch], number=step)
        state.watch.see(step, logits, batch)
        state.history.add(step, values, [0.5])
        if step % 2 == 0:
            state.validations.measure(step, state.trainer.kept, state.history)
    state.start, state.step, state.seconds = 1, 24, 3.5
    state.history.best_step, state.history.earlier_s = 22, 3.5
    state.trainer._scaler.update(1024.0)
    state.trainer._skipped = 3


def test_no_state_is_left_out(images: list[TrainingImage], tmp_path: Path) -> None:
    """Whatever any object of a training holds is in a restored one what it was."""
    old, new = begun(), begun()
    fresh = attributes(new)
    unmoved = {name for name, value in attributes(old).items() if same(value, fresh[name])}
    assert unmoved == fresh.keys()
    advanced(old, images)
    before = attributes(old)
    # All else has moved, or the comparison below would mean nothing.
    fixed = {name for name in before if same(before[name], fresh[name])}
    assert fixed == {
        "place.device", "place.rank", "place.world", "trainer._dtype", "trainer._layout",
        "trainer._objective", "trainer._place", "trainer._training", "validations.at",
        "validations.patience", "validations.validate", "watch.ends", "watch.steps",
    }  # fmt: skip
    checkpoint = RunCheckpoint(tmp_path / "c.safetensors", "one", PLACE)
    checkpoint.write(old.shared(), old.own())
    random = torch.get_rng_state()
    torch.manual_seed(5)
    saved = checkpoint.read()
    assert saved is not None
    new.restore(saved)
    after = attributes(new)
    assert [name for name in before if not same(before[name], after[name])] == []
    assert torch.equal(torch.get_rng_state(), random)
    strides = [
        [moment.stride() for moments in state.trainer._optimizer.state.values()
         for moment in moments.values()]
        for state in (old, new)
    ]  # fmt: skip
    assert strides[0] == strides[1]


def test_a_resumed_early_stop_keeps_the_best_of_before(
    images: list[TrainingImage], tmp_path: Path
) -> None:
    """The best weights may be older than the checkpoint."""
    checkpoint = RunCheckpoint(tmp_path / "c.safetensors", "one", PLACE, every_s=0)
    with pytest.raises(KilledError):
        fitted(images, checkpoint, Telling(9), EVERYTHING)
    assert fitted(images, checkpoint, Telling(), EVERYTHING)["best_step"] == 4

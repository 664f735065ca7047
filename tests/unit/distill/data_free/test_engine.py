"""One round of generators and student."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from histill.distill.data_free.engine import Engine
from histill.distill.data_free.memory import Memory
from histill.distill.data_free.teachers import Council

if TYPE_CHECKING:
    from collections.abc import Callable

    from histill.distill.data_free.teachers import Heard

    Make = Callable[..., Engine]

MODES = ["average", "separate", "hard", "simple"]
TASKS = ["segmentation", "classification"]


@dataclass(frozen=True)
class Asked(Council):
    """Notes what it is asked about."""

    asked: list[torch.Tensor] = field(default_factory=list)

    def hear(self, images: torch.Tensor) -> Heard:
        self.asked.append(images.detach().clone())
        return super().hear(images)


class SpiedMemory(Memory):
    """Notes how many samples are drawn."""

    drawn: list[int]

    def draw(self, count: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        self.drawn.append(count)
        return super().draw(count, device)


class Spied(Engine):
    """Notes which samples its student's batches consist of."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.made: list[tuple[str, int]] = []
        self.memory = SpiedMemory(self.spec.samples.memory, seed=0)
        self.memory.drawn = []

    def samples(self, kind: str, count: int) -> torch.Tensor:
        self.made.append((kind, count))
        return super().samples(kind, count)


def copied(net: nn.Module | None) -> dict[str, torch.Tensor]:
    """All that a network consists of, as it is now."""
    return {} if net is None else {name: t.clone() for name, t in net.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("mode", "kinds", "trained"),
    [
        ("average", ["hard", "simple"], ["hard"]),
        ("separate", ["hard", "simple"], ["hard", "simple"]),
        ("hard", ["hard"], ["hard"]),
        ("simple", ["simple"], ["simple"]),
    ],
)
def test_each_mode_has_its_generators(
    mode: str, kinds: list[str], trained: list[str], task: str, make_engine: Make
) -> None:
    """Those that are trained change in a round and report a loss; the student always learns."""
    engine = make_engine(task, generators={"mode": mode, "decay": 0.0})
    assert engine.kinds == kinds
    before = copied(engine.hard), copied(engine.simple), copied(engine.student)
    values = engine.round(0, hard_share=0.5)
    assert sorted(key for key in values if key.endswith("_loss")) == [f"{k}_loss" for k in trained]
    assert {f"{kind}_distance" for kind in trained} <= values.keys()
    assert same(before[0], copied(engine.hard)) is ("hard" not in kinds)
    assert same(before[1], copied(engine.simple)) is ("simple" not in kinds)
    assert not same(before[2], copied(engine.student))
    assert engine.finite


def test_separate_generators_start_apart_and_the_average_with_its_model(make_engine: Make) -> None:
    """G2 as an average begins as a copy of G1 of its own."""
    engine = make_engine(generators={"mode": "average"})
    assert same(copied(engine.hard), copied(engine.simple))
    assert engine.hard is not engine.simple
    engine = make_engine(generators={"mode": "separate"})
    assert not same(copied(engine.hard), copied(engine.simple))


@pytest.mark.parametrize("decay", [0.0, 0.75, 0.95])
def test_the_average_follows_by_exactly_its_share(decay: float, make_engine: Make) -> None:
    """Of the difference, round after round, and in no other way."""
    engine = make_engine(generators={"mode": "average", "decay": decay, "warmup": 0.0})
    for number in range(3):
        before = copied(engine.simple)
        engine.round(number, hard_share=0.5)
        towards = copied(engine.hard)
        for name, tensor in copied(engine.simple).items():
            expected = before[name] + (1 - decay) * (towards[name] - before[name])
            torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-7)


def test_until_it_is_warm_g1_seeks_no_disagreement(make_engine: Make) -> None:
    """It is trained as without an adversary; afterwards it is not."""
    engines = [
        make_engine(generators={"adversarial_weight": weight, "warmup": 0.5}) for weight in (1, 0)
    ]
    for progress, alike in ((0.0, True), (0.49, True), (0.5, False)):
        told = []
        for engine in engines:
            torch.manual_seed(0)
            told.append(engine._step_generators(progress=progress))
        assert same(copied(engines[0].hard), copied(engines[1].hard)) is alike
        assert ("hard_apart" in told[0]) is not alike
        assert "hard_apart" not in told[1]


def test_g1_gets_what_student_and_teacher_disagree_on(make_engine: Make) -> None:
    """With nothing but the adversary, disagreement on its samples grows."""
    weights = dict.fromkeys(("statistics_weight", "balance_weight", "confidence_weight"), 0.0)
    engine = make_engine(generators=weights | {"mode": "hard", "warmup": 0.0})
    found = [engine._step_generators(progress=1.0)["hard_apart"] for _ in range(40)]
    assert sum(found[-5:]) > 1.1 * sum(found[:5])


def test_g2_gets_what_the_teacher_is_sure_of(make_engine: Make) -> None:
    """With nothing but its confidence, uncertainty falls; the student counts for nothing."""
    weights = dict.fromkeys(("statistics_weight", "balance_weight", "adversarial_weight"), 0.0)
    engine = make_engine(generators=weights | {"mode": "simple", "warmup": 0.0})
    found = [engine._step_generators(progress=1.0) for _ in range(40)]
    assert found[-1]["simple_loss"] < 0.9 * found[0]["simple_loss"]
    assert not any("apart" in key for values in found for key in values)


@pytest.mark.parametrize("mode", MODES)
def test_the_student_learns_nothing_in_a_generators_step(mode: str, make_engine: Make) -> None:
    """Neither its weights nor its norms' statistics change, and the teacher's neither."""
    engine = make_engine(generators={"mode": mode, "warmup": 0.0})
    engine.student.train()
    watched = [engine.student, *(teacher._net for teacher in engine.council.teachers)]
    before = [copied(net) for net in watched]
    for _ in range(2):
        engine._step_generators(progress=1.0)
    assert all(same(was, copied(net)) for was, net in zip(before, watched, strict=True))
    assert all(p.grad is None for p in engine.student.parameters())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("mode", MODES)
def test_generators_together_see_one_batch_a_round(
    mode: str, task: str, make_engine: Make, make_council: Callable[..., Council]
) -> None:
    """However many are trained; what they made is remembered."""
    council = Asked(**vars(make_council(task)))
    engine = make_engine(task, council=council, generators={"mode": mode})
    engine._step_generators(progress=0.0)
    assert sum(map(len, council.asked)) == 8
    assert torch.equal(engine.memory.images, torch.cat(council.asked).round().byte())


@pytest.mark.parametrize(
    ("mode", "hard_share", "memory_share", "made", "drawn"),
    [
        ("average", 0.5, 0.25, [("hard", 3), ("simple", 3)], [2, 1]),
        ("separate", 0.75, 0.5, [("hard", 3), ("simple", 1)], [4, 2]),
        ("average", 0.0, 0.25, [("simple", 6)], [2, 1]),
        ("average", 1.0, 0.25, [("hard", 6)], [2, 1]),
        ("separate", 0.5, 0.0, [("hard", 4), ("simple", 4)], []),
        ("average", 0.5, 0.9, [("simple", 1)], [7, 4]),
    ],
)
def test_batches_consist_of_the_shares_asked_for(
    mode: str,
    hard_share: float,
    memory_share: float,
    made: list[tuple[str, int]],
    drawn: list[int],
    make_engine: Make,
) -> None:
    """Of G1, G2 and the memory; half of what the memory gives is blended with more of it."""
    engine = make_engine(
        kind=Spied, generators={"mode": mode}, samples={"memory": 32, "memory_share": memory_share}
    )
    assert isinstance(engine, Spied)
    assert isinstance(engine.memory, SpiedMemory)
    engine._step_generators(progress=0.0)
    ((images, logits),) = engine._batches(1, hard_share)
    assert images.shape == (8, 1, 16, 16)
    assert logits.shape == (8, 2, 16, 16)
    assert engine.made == made
    assert engine.memory.drawn == drawn


@pytest.mark.parametrize(("mode", "share"), [("hard", 1.0), ("simple", 0.0), ("average", 0.25)])
def test_a_round_tells_the_share_of_g1_that_it_used(
    mode: str, share: float, make_engine: Make
) -> None:
    """Where it is alone, or is not there, no rule changes that."""
    engine = make_engine(generators={"mode": mode})
    assert engine.round(0, hard_share=0.25)["hard_share"] == share


def test_without_a_memory_all_samples_are_new(make_engine: Make) -> None:
    """Those of a round are made at once."""
    engine = make_engine(kind=Spied, samples={"memory": 0})
    assert isinstance(engine, Spied)
    for number in range(2):
        engine.round(number, hard_share=0.5)
    assert engine.made == [("hard", 8), ("simple", 8)] * 2


def test_the_smallest_batch_has_a_new_sample(make_engine: Make) -> None:
    """However large a share the memory shall have."""
    engine = make_engine(
        kind=Spied, training={"batch_size": 4}, samples={"memory": 32, "memory_share": 0.9}
    )
    assert isinstance(engine, Spied)
    values = engine.round(0, hard_share=1.0)
    assert engine.made == [("hard", 2)]
    assert values["loss"] > 0


@pytest.mark.parametrize(("blending", "blended"), [(0.0, 0), (0.5, 2), (1.0, 4)])
def test_teachers_are_asked_about_blends(
    blending: float, blended: int, make_engine: Make, make_council: Callable[..., Council]
) -> None:
    """As about what is new; of other old samples it is known what they said."""
    council = Asked(**vars(make_council()))
    engine = make_engine(
        council=council, samples={"memory": 64, "memory_share": 0.5, "blending": blending}
    )
    engine._step_generators(progress=0.0)
    kept, known = engine.memory.images.float(), engine.memory.logits.float()
    council.asked.clear()
    ((images, logits),) = engine._batches(1, 0.5)
    assert torch.equal(torch.cat(council.asked), images[: 4 + blended])
    with torch.no_grad():
        said = Council.hear(council, images).logits
    torch.testing.assert_close(logits[: 4 + blended], said[: 4 + blended])
    places = [(image == kept).flatten(1).all(dim=1) for image in images]
    assert [bool(place.any()) for place in places] == [False] * (4 + blended) + [True] * (
        4 - blended
    )
    for image in images[4 : 4 + blended]:
        assert ((image >= kept.amin(dim=0)) & (image <= kept.amax(dim=0))).all()
    for place, its in zip(places[4 + blended :], logits[4 + blended :], strict=True):
        assert torch.equal(its, known[place][0])


def test_new_samples_are_remembered_and_old_ones_not_twice(make_engine: Make) -> None:
    """A round adds its generators' batch and what was new in each step."""
    engine = make_engine(samples={"memory": 1000, "memory_share": 0.25})
    engine.round(0, hard_share=0.5)
    assert len(engine.memory) == 8 + 2 * 6


def test_caution_halves_what_drives_g1(make_engine: Make) -> None:
    """Pull and learning rate, each time again."""
    rate = 2e-3
    usual, careful, twice = (
        make_engine(generators={"warmup": 0.0, "adversarial_weight": weight, "learning_rate": lr})
        for weight, lr in ((1.0, rate), (1.0, rate), (0.25, rate / 4))
    )
    careful.cautions = ["COLLAPSED", "VANISHED"]
    losses = []
    for engine in (usual, careful, twice):
        torch.manual_seed(0)
        losses.append(engine._step_generators(progress=1.0)["hard_loss"])
    assert losses[1] == losses[2] != losses[0]
    assert same(copied(careful.hard), copied(twice.hard))
    assert not same(copied(careful.hard), copied(usual.hard))


def test_after_divergence_the_student_learns_at_half_the_rate(make_engine: Make) -> None:
    """And after a class died out the balance weighs twice as much."""
    usual, slow = make_engine(), make_engine()
    slow.cautions = ["DIVERGED"]
    for engine in (usual, slow):
        engine.round(0, hard_share=0.5)
    rates = [engine._optimizer.param_groups[0]["lr"] for engine in (usual, slow)]
    assert rates[1] == rates[0] / 2
    dead, heavy = (
        make_engine(generators={"balance_weight": weight, "learning_rate": rate})
        for weight, rate in ((1.0, 2e-3), (2.0, 1e-3))
    )
    dead.cautions = ["DEAD_CLASS"]
    losses = []
    for engine in (dead, heavy):
        torch.manual_seed(0)
        losses.append(engine._step_generators(progress=0.0)["hard_loss"])
    assert losses[0] == pytest.approx(losses[1])


@pytest.mark.parametrize(("ema_decay", "decay"), [(0.9, 2 / 11), (0.1, 0.1)])
def test_an_average_of_the_student_is_kept(
    ema_decay: float, decay: float, make_engine: Make
) -> None:
    """Exponential, over fewer steps at the start; without it the student itself is kept."""
    engine = make_engine(training={"ema_decay": ema_decay})
    states = []
    for step in range(2):
        (batch,) = engine._batches(1, 0.5)
        engine._step_student(step, batch)
        states.append(copied(engine.student))
    first, second = states
    assert engine.kept is not engine.student
    for name, tensor in copied(engine.kept).items():
        expected = first[name] * decay + second[name] * (1 - decay)
        torch.testing.assert_close(tensor, expected.to(tensor.dtype), rtol=1e-5, atol=1e-6)
    plain = make_engine()
    assert plain.kept is plain.student


def test_the_students_rate_rises_and_falls(make_engine: Make) -> None:
    """A line up over a tenth of the steps, then half a cosine to nearly nothing."""
    engine = make_engine(training={"steps": 40, "student_steps": 1, "learning_rate": 0.01})
    rates = []
    for step in range(40):
        (batch,) = engine._batches(1, 0.5)
        engine._step_student(step, batch)
        rates.append(engine._optimizer.param_groups[0]["lr"])
    assert rates[:4] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[22] == pytest.approx(0.005)
    assert 0 < rates[-1] < 1e-4


def test_the_last_round_may_be_shorter(make_engine: Make) -> None:
    """No more steps are taken than were asked for."""
    engine = make_engine(training={"steps": 7, "student_steps": 3})
    assert engine.rounds == 3
    for number in range(3):
        engine.round(number, hard_share=0.5)
    (state, *_) = engine._optimizer.state_dict()["state"].values()
    assert int(state["step"]) == 7


@pytest.mark.parametrize("task", TASKS)
def test_several_teachers_teach_together(
    task: str, make_engine: Make, make_council: Callable[..., Council]
) -> None:
    """Their mixture is remembered and learnt from, the layers of all are compared."""
    council = make_council(task, count=3)
    engine = make_engine(task, council=council)
    values = engine.round(0, hard_share=0.5)
    assert values["hard_distance"] > 0
    assert council.layers == 3 * council.teachers[0].layers
    mixed = engine.memory.logits.float().exp().sum(dim=1)
    torch.testing.assert_close(mixed, torch.ones_like(mixed), rtol=1e-2, atol=1e-2)


def test_shares_of_classes_are_relative_to_their_least(make_engine: Make) -> None:
    """Running means over new samples: of pixels by the bounds, of images by an equal share."""
    engine = make_engine()
    logits = torch.tensor([0.9, 0.1]).log()[None, :, None, None].expand(3, 2, 4, 4)
    assert engine.bounds is not None
    engine._note_shares(logits)
    expected = torch.tensor([0.9, 0.1]) / engine.bounds[0]
    assert engine.shares == pytest.approx(expected.tolist())
    engine._note_shares(logits.flip(1))
    moved = torch.tensor([0.9 - 0.05 * 0.8, 0.1 + 0.05 * 0.8]) / engine.bounds[0]
    assert engine.shares == pytest.approx(moved.tolist())
    classifier = make_engine("classification")
    classifier._note_shares(torch.zeros(3, 4))
    assert classifier.shares == pytest.approx([1.0] * 4)


def test_a_renewed_g1_has_a_fresh_last_layer(make_engine: Make) -> None:
    """And keeps all before it; without G1 there is nothing to renew."""
    engine = make_engine(generators={"mode": "hard"})
    assert engine.hard is not None
    engine.round(0, hard_share=1.0)
    before = copied(engine.hard)
    engine.renew_hard(seed=1)
    changed = {name for name, t in copied(engine.hard).items() if not torch.equal(t, before[name])}
    assert changed
    assert all(name.startswith("last.") for name in changed)
    make_engine(generators={"mode": "simple"}).renew_hard(seed=1)


@pytest.mark.parametrize("part", ["student", "hard", "simple"])
def test_weights_that_are_no_numbers_are_noticed(part: str, make_engine: Make) -> None:
    """In any of the networks."""
    engine = make_engine()
    assert engine.finite
    with torch.no_grad():
        next(iter(getattr(engine, part).parameters())).view(-1)[0] = float("nan")
    assert not engine.finite

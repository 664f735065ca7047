"""Generators, student and memory, and what one round of training does with them."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch

from histill.distill.averaging import average_of
from histill.distill.data_free import terms
from histill.distill.data_free.blending import blended
from histill.distill.data_free.memory import Memory
from histill.distill.losses import overlap_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from histill.core.specs import DataFreeSpec
    from histill.distill.data_free.generator import Generator
    from histill.distill.data_free.teachers import Council, Heard
    from histill.distill.devices import Place

_CLIP = 5.0  # of a gradient's norm
_BETAS = (0.5, 0.999)  # as usual for generators that play against something
_NEWS = 0.05  # weight of a batch in the running mean of class shares
_WARM = 0.1  # share of the steps in which the student's learning rate rises


class Engine:
    """Everything that learns, and the samples it learns from.

    A round is one step of the generators and some of the student. The samples that a
    generator's step needed are remembered too, so that no pass of the teachers is made for
    one purpose only.

    Args:
        spec: The job's.
        council: The teachers.
        student: A ``Normalized`` network on the place's device.
        make_generator: A generator with fresh weights.
        bounds: Least and largest share of each class, float [C], for segmentation.
        place: This process.

    Attributes:
        hard: G1, if the mode has it.
        simple: G2, if the mode has it.
        cautions: Why the run was rolled back, each time. Each halves what drives G1 and the
            generators' rate; DIVERGED also the student's, and DEAD_CLASS doubles the weight of
            the balance.
    """

    def __init__(
        self,
        spec: DataFreeSpec,
        council: Council,
        student: nn.Module,
        make_generator: Callable[[], Generator],
        *,
        bounds: tuple[Tensor, Tensor] | None,
        place: Place,
    ) -> None:
        self.spec, self.council, self.student = spec, council, student
        self.bounds, self._place = bounds, place
        mode, rate = spec.generators.mode, spec.generators.learning_rate
        self.hard = make_generator() if mode != "simple" else None
        self.simple = None
        if mode == "average":
            self.simple = copy.deepcopy(self.hard)
        elif mode in {"separate", "simple"}:
            self.simple = make_generator()
        self._trained = {
            name: (generator, torch.optim.Adam(generator.parameters(), lr=rate, betas=_BETAS))
            for name, generator in (("hard", self.hard), ("simple", self.simple))
            if generator is not None and (name, mode) != ("simple", "average")
        }
        training = spec.training
        self._optimizer = torch.optim.AdamW(
            student.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        self._average = None
        if training.ema_decay:
            self._average = average_of(student, training.ema_decay, buffers=True)
        self.memory = Memory(spec.samples.memory, seed=training.seed)
        self.cautions: list[str] = []
        self._recent = torch.empty(0)

    @property
    def rounds(self) -> int:
        """Of the whole run."""
        return math.ceil(self.spec.training.steps / self.spec.training.student_steps)

    @property
    def caution(self) -> int:
        """How often the run was rolled back."""
        return len(self.cautions)

    @property
    def kept(self) -> nn.Module:
        """The student as it would be kept: the average, if there is one."""
        return self._average.module if self._average is not None else self.student

    def round(self, number: int, *, hard_share: float) -> dict[str, float]:
        """One round.

        Args:
            number: From 0.
            hard_share: Of G1 in the student's new samples, in [0, 1].

        Returns:
            The student's ``loss`` (mean over its steps), the ``hard_share`` of its new samples,
            and of each generator's step its loss, ``distance`` from the statistics and, for G1,
            ``apart``.
        """
        values = self._step_generators(progress=number / self.rounds)
        training = self.spec.training
        first = number * training.student_steps
        steps = range(first, min(first + training.student_steps, training.steps))
        share = {1: 1.0 if self.hard else 0.0}.get(len(self.kinds), hard_share)
        batches = self._batches(len(steps), share)
        losses = [self._step_student(*pair) for pair in zip(steps, batches, strict=True)]
        return {"loss": sum(losses) / len(losses), "hard_share": share} | values

    @torch.no_grad()
    def samples(self, kind: str, count: int) -> Tensor:
        """New samples of one of ``kinds``, float [N, C, H, W] in units of a byte."""
        generator = self.hard if kind == "hard" else self.simple
        assert generator is not None  # noqa: S101 - it is one of the kinds
        images: Tensor = generator(generator.draw(count))
        return images

    @property
    def finite(self) -> bool:
        """Whether all weights are numbers: one that is none never becomes one again."""
        return all(
            bool(tensor.isfinite().all())
            for net in self._nets()
            for tensor in net.state_dict().values()
        )

    @property
    def kinds(self) -> list[str]:
        """Which generators there are."""
        pairs = (("hard", self.hard), ("simple", self.simple))
        return [name for name, generator in pairs if generator is not None]

    @property
    def shares(self) -> list[float]:
        """Share of each class in recent new samples, relative to the least it should have."""
        least = 1 / len(self._recent) if self.bounds is None else self.bounds[0].cpu()
        return (self._recent / least).tolist()

    def _note_shares(self, said: Tensor) -> None:
        axes = [axis for axis in range(said.ndim) if axis != 1]
        found = said.softmax(dim=1).mean(dim=axes).cpu()
        self._recent = found if not len(self._recent) else self._recent.lerp(found, _NEWS)

    def renew_hard(self, *, seed: int) -> None:
        """Gives G1 a fresh last layer, the same in each process: it has found nothing new."""
        if self.hard is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                for layer in self.hard.last:
                    layer.reset_parameters()  # type: ignore[operator]

    def _step_generators(self, *, progress: float) -> dict[str, float]:
        """A step of each generator that is trained; together they see one batch."""
        values: dict[str, float] = {}
        count = max(2, self.spec.training.batch_size // len(self._trained))
        self.student.eval()
        for name, (generator, optimizer) in self._trained.items():
            images = generator(generator.draw(count))
            heard = self.council.hear(images)
            loss, told = self._generator_loss(name, images, heard, progress)
            for group in optimizer.param_groups:
                group["lr"] = self.spec.generators.learning_rate / 2**self.caution
            # Gradients of the generator alone: the student's would cost a third more.
            self._descend(loss, generator, optimizer)
            self.memory.add(images, heard.logits)
            values |= {f"{name}_{key}": value for key, value in told.items()}
        if self.spec.generators.mode == "average":
            self._follow()
        return values

    def _generator_loss(
        self, name: str, images: Tensor, heard: Heard, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        told, weights = {}, self.spec.generators
        balance = weights.balance_weight * 2 ** self.cautions.count("DEAD_CLASS")
        loss = balance * self._imbalance(heard.logits)
        if heard.distance is not None:
            loss = loss + weights.statistics_weight * heard.distance
            told["distance"] = float(heard.distance.detach())
        if name == "simple":
            loss = loss + weights.confidence_weight * terms.uncertainty(heard.logits)
        elif weights.adversarial_weight and progress >= weights.warmup:
            apart = terms.disagreement(
                self.student(images), heard.logits, agreeing_only=weights.agreed_only
            )
            pull = weights.adversarial_weight / 2**self.caution
            loss = loss + pull * terms.adversarial(apart, kind=weights.adversary)
            size = terms.centred(heard.logits.detach()).abs().mean()
            told["apart"] = float(apart.detach().mean() / size)
        told["loss"] = float(loss.detach())
        return loss, told

    def _imbalance(self, logits: Tensor) -> Tensor:
        if self.bounds is None:
            return terms.class_imbalance(logits)
        return terms.share_gap(logits, *self.bounds)

    @torch.no_grad()
    def _follow(self) -> None:
        """G2 becomes a little more like G1."""
        assert self.hard is not None  # noqa: S101 - the mode has both
        assert self.simple is not None  # noqa: S101
        for slow, fast in zip(self.simple.parameters(), self.hard.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.spec.generators.decay)

    def _step_student(self, step: int, batch: tuple[Tensor, Tensor]) -> float:
        images, logits = batch
        self.student.train()
        ours = self.student(images)
        loss = terms.disagreement(ours, logits).mean()
        if ours.ndim > 2 and self.spec.training.overlap_weight:  # noqa: PLR2004 - maps of pixels
            overlap = overlap_loss(ours.softmax(dim=1), logits.softmax(dim=1))
            loss = loss + self.spec.training.overlap_weight * overlap
        peak = self.spec.training.learning_rate / 2 ** self.cautions.count("DIVERGED")
        for group in self._optimizer.param_groups:
            group["lr"] = peak * _rate(step, self.spec.training.steps)
        self._descend(loss, self.student, self._optimizer)
        if self._average is not None:
            self._average.update_parameters(self.student)
        return float(loss.detach())

    @torch.no_grad()
    def _batches(self, steps: int, share: float) -> Iterator[tuple[Tensor, Tensor]]:
        """Samples for each step of the student in a round, and what the teachers say of them.

        New samples of the whole round are made at once: generators norm by their batch.
        """
        sharing, size = self.spec.samples, self.spec.training.batch_size
        old = round(sharing.memory_share * size) if len(self.memory) >= size else 0
        old = min(old, size - 1)  # something is always new
        count = steps * (size - old)
        hard = round(share * count)
        counts = {"hard": hard, "simple": count - hard}
        new = torch.cat([self.samples(kind, some) for kind, some in counts.items() if some])
        new = new[torch.randperm(count).to(new.device)]
        said = self.council.hear(new).logits
        self._note_shares(said)
        parts = zip(new.split(size - old), said.split(size - old), strict=True)
        for images, logits in parts:
            if not old:
                yield images, logits
                continue
            kept, known = self.memory.draw(old, new.device)
            if mixed := round(sharing.blending * old):
                blends = blended(kept[:mixed], self.memory.draw(mixed, new.device)[0])
                kept = torch.cat([blends, kept[mixed:]])
                known = torch.cat([self.council.hear(blends).logits, known[mixed:]])
            yield torch.cat([images, kept]), torch.cat([logits, known])
        self.memory.add(new, said)

    def _descend(self, loss: Tensor, net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        parameters = list(net.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        self._place.mean(gradients)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(parameters, _CLIP)
        optimizer.step()

    def state(self) -> dict[str, Any]:
        """All that learns, as tensors and numbers; without the memory."""
        return {
            "cautions": list(self.cautions),
            "recent": self._recent.clone(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers()],
            "nets": [dict(net.state_dict()) for net in self._nets()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Becomes what a state says."""
        self.cautions, self._recent = list(state["cautions"]), state["recent"]
        for optimizer, stored in zip(self._optimizers(), state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        for net, tensors in zip(self._nets(), state["nets"], strict=True):
            net.load_state_dict(tensors)

    def _optimizers(self) -> Iterator[torch.optim.Optimizer]:
        yield self._optimizer
        for _, optimizer in self._trained.values():
            yield optimizer

    def _nets(self) -> Iterator[nn.Module]:
        found = (self.student, self.hard, self.simple, self._average)
        return (net for net in found if net is not None)


def _rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: a line up, then half a cosine down to nearly nothing."""
    warm = max(1, round(_WARM * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

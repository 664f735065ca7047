"""One optimiser step: AdamW under a one-cycle schedule, in any precision, over any processes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from histill.core.errors import WorkFailedError
from histill.distill.averaging import average_of
from histill.distill.reasons import DIVERGED

if TYPE_CHECKING:
    from torch import Tensor

    from histill.core.specs import TrainingSpec
    from histill.distill.devices import Place
    from histill.distill.objective import Objective, TensorBatch

_MAX_SKIPPED = 20  # steps in a row that overflow half precision
_CLIP = 5.0  # of the gradient's norm
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Trainer:
    """One network, its optimiser, and what a step consists of.

    Args:
        net: A ``Normalized`` network on the place's device.
        objective: The loss.
        training: The spec's numbers.
        place: This process.
    """

    def __init__(
        self, net: nn.Module, objective: Objective, *, training: TrainingSpec, place: Place
    ) -> None:
        self._training, self._place, self._objective = training, place, objective
        self._layout = torch.channels_last if training.channels_last else torch.contiguous_format
        self.net = net.to(memory_format=self._layout)  # type: ignore[call-overload]
        self._trained = place.distributed(net)
        self._dtype = _DTYPES[training.precision]
        self._scaler = torch.amp.GradScaler(
            place.device.type, enabled=training.precision == "float16"
        )
        self._optimizer = torch.optim.AdamW(
            net.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, max_lr=training.learning_rate, total_steps=training.steps + 1
        )
        self._skipped = 0
        self._average = None
        if training.ema_decay:
            self._average = average_of(net, training.ema_decay)

    @property
    def kept(self) -> nn.Module:
        """The network that is validated and kept: the average, if there is one."""
        return self.net if self._average is None else self._average.module

    def step(self, batches: list[TensorBatch], *, number: int) -> tuple[Tensor, dict[str, float]]:
        """One optimiser step over the mean loss of some batches.

        Args:
            batches: One, or several whose gradients are averaged.
            number: Of the step, from 1.

        Returns:
            Logits of the last batch; the terms, mean over batches.

        Raises:
            WorkFailedError: DIVERGED; loss or gradient is not finite.
        """
        self.net.train()
        self._optimizer.zero_grad(set_to_none=True)
        progress = (number - 1) / self._training.steps
        outputs, terms = zip(
            *(self._backward(batch, progress, of=len(batches)) for batch in batches), strict=True
        )
        means = {name: sum(each[name] for each in terms) / len(terms) for name in terms[0]}
        self._scaler.unscale_(self._optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.net.parameters(), _CLIP))
        # With loss scaling an overflow is met by a smaller scale and a skipped step.
        if not (
            math.isfinite(means["loss"]) and (math.isfinite(norm) or self._scaler.is_enabled())
        ):
            raise _diverged(means["loss"], norm, number)
        scale = self._scaler.get_scale()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._skipped = self._skipped + 1 if self._scaler.get_scale() < scale else 0
        if self._skipped > _MAX_SKIPPED:
            raise _diverged(means["loss"], norm, number)
        if not self._skipped:
            self._schedule.step()
            if self._average is not None:
                self._average.update_parameters(self.net)
        return outputs[-1], means

    def state(self) -> dict[str, Any]:
        """All that changes from step to step, as tensors and numbers."""
        return {
            "net": dict(self.net.state_dict()),
            "average": dict(self._average.state_dict()) if self._average is not None else None,
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "skipped": self._skipped,
        }

    def settle(self, batch: TensorBatch) -> None:
        """Has several processes agree on the order in which they add up gradients.

        They do so in their first pass, and a sum of three or more depends on the order. That
        pass counts in batch norms: it belongs before ``restore``.
        """
        if self._place.world > 1:
            self.net.train()
            self._backward(batch, 0.0, of=1)

    def restore(self, state: dict[str, Any]) -> None:
        """Becomes what a state says."""
        self.net.load_state_dict(state["net"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        for parameter, moments in self._optimizer.state.items():
            for name, value in moments.items():
                if value.shape == parameter.shape:
                    # In the parameter's order in memory, as the optimiser made it: loops over
                    # another order may round otherwise.
                    moments[name] = torch.empty_like(parameter).copy_(value).detach()
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        self._skipped = state["skipped"]

    def _backward(
        self, batch: TensorBatch, progress: float, *, of: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Adds the gradient of one of some batches; its logits and terms."""
        half = self._dtype is not torch.float32
        with torch.autocast(self._place.device.type, dtype=self._dtype, enabled=half):
            logits = self._trained(batch.image.contiguous(memory_format=self._layout))
        terms = self._objective(logits, batch, progress=progress, total=self._place.total)
        torch.autograd.backward(self._scaler.scale(terms["loss"] / of))
        return logits.detach(), {name: float(value.detach()) for name, value in terms.items()}


def _diverged(loss: float, norm: float, number: int) -> WorkFailedError:
    return WorkFailedError(
        f"the loss is {loss} and the gradient's norm {norm} at step {number}",
        reason=DIVERGED,
        hint="Lower training.learning_rate, or the boundary's beta.",
    )

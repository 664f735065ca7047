"""All that a training depends on between two steps, as one tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from histill.distill.run_checkpoint import random_state, restore_random

if TYPE_CHECKING:
    from histill.distill.dead_start import Watch
    from histill.distill.devices import Place
    from histill.distill.history import History
    from histill.distill.run_checkpoint import Saved
    from histill.distill.stepping import Trainer
    from histill.distill.validations import Validations


@dataclass
class TrainingState:
    """A training where it is.

    Batches are a function of seed and step, so that of sampler and prefetching nothing
    needs to be kept but the step.

    Attributes:
        trainer: Network, average, optimiser, schedule.
        history: Curves.
        validations: Best weights and patience.
        watch: What was seen of the last outputs.
        place: This process.
        start: Dead starts before this one.
        step: Steps done.
        seconds: Spent on them, in earlier attempts too.
    """

    trainer: Trainer
    history: History
    validations: Validations
    watch: Watch
    place: Place
    start: int = 0
    step: int = 0
    seconds: float = 0.0

    def shared(self) -> dict[str, Any]:
        """What is the same in all processes, or matters in the first alone."""
        return {
            "start": self.start,
            "step": self.step,
            "seconds": self.seconds,
            "trainer": self.trainer.state(),
            "history": self.history.state(),
            "validations": self.validations.state(),
        }

    def own(self) -> dict[str, Any]:
        """What each process has of its own."""
        return {"watch": self.watch.state(), "random": random_state(self.place.device)}

    def restore(self, saved: Saved) -> None:
        """Becomes what was saved."""
        self.start, self.step = saved.shared["start"], saved.shared["step"]
        self.seconds = saved.shared["seconds"]
        self.trainer.restore(saved.shared["trainer"])
        self.history.restore(saved.shared["history"])
        self.history.earlier_s = self.seconds
        if self.place.first:  # the others never validate
            self.validations.restore(saved.shared["validations"])
        self.watch.restore(saved.own["watch"])
        restore_random(saved.own["random"], self.place.device)

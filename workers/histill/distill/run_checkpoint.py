"""When a run writes its state down, and what it finds of an earlier attempt.

One file holds the state of all processes of a run: what they share, and what each has of
its own. A file that does not fit the run is left alone, and the run starts anew.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
import torch
from safetensors import SafetensorError

from histill.distill import checkpoint_file
from histill.distill.workdir import CHECKPOINT_WANTED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from histill.distill.devices import Place
    from histill.distill.workdir import Order

log = structlog.get_logger()

FORMAT = 2  # to be raised with every change of what a state consists of
# What changes neither the student nor the way to it.
_WITHOUT_EFFECT = frozenset({"attempt", "checkpoint_s", "teacher_cache", "teacher_cache_bytes"})


def identity_of(order: Order, world: int) -> str:
    """What a checkpoint must agree in: spec, dataset and teachers with their digests, format.

    Args:
        order: Of the run.
        world: Its processes, each of which has a state of its own.
    """
    told = order.model_dump_json(exclude=set(_WITHOUT_EFFECT))
    return f"{FORMAT}:{world}:{hashlib.sha256(told.encode()).hexdigest()}"


@dataclass(frozen=True)
class Saved:
    """A state as it was written.

    Attributes:
        shared: That of all processes.
        own: That of this process.
    """

    shared: dict[str, Any]
    own: dict[str, Any]


@dataclass
class RunCheckpoint:
    """The checkpoint of one run. All processes must ask each thing at the same point.

    Attributes:
        path: Of the file; the first process writes it, and the others their parts beside it.
        identity: Of the order; a checkpoint of another one is left alone.
        place: This process.
        every_s: Seconds between two.
        clock: Seconds, monotonic.
    """

    path: Path
    identity: str
    place: Place
    every_s: float = 60.0
    clock: Callable[[], float] = time.monotonic
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        """The first is due after the interval, like every other."""
        self._last = self.clock()

    def read(self) -> Saved | None:
        """What was saved, if all processes can read it and it is of this order."""
        found = self._found() if self.path.exists() else None
        if not self.place.everywhere(fact=found is not None) or found is None:
            return None
        return Saved(found["shared"], found["own"][self.place.rank])

    def _found(self) -> dict[str, Any] | None:
        try:
            tree = checkpoint_file.load(self.path)
        except (ValueError, OSError, SafetensorError) as exc:
            self._warn("checkpoint_unreadable", why=str(exc), text="the run starts again")
            return None
        if not isinstance(tree, dict) or tree.get("identity") != self.identity:
            self._warn("checkpoint_of_another_order", text="the run starts again")
            return None
        return tree

    def due(self) -> bool:
        """Whether the interval is over, or somebody waits, as the first process sees it."""
        over = self.clock() - self._last >= self.every_s or self._wanted.exists()
        return self.place.anywhere(fact=self.place.first and over)

    def write(self, shared: dict[str, Any], own: dict[str, Any]) -> None:
        """Replaces the file; where that fails the run goes on, and the old file stays.

        Args:
            shared: State of all processes; that of the first is written.
            own: State of this process.
        """
        self._last = self.clock()
        if self.place.first:
            self._wanted.unlink(missing_ok=True)
        try:
            if not self.place.first:
                checkpoint_file.save(self._part(self.place.rank), own)
        except (OSError, SafetensorError) as exc:
            self._warn("checkpoint_not_written", why=str(exc))
            self.place.everywhere(fact=False)
            return
        if not self.place.everywhere(fact=True) or not self.place.first:
            return
        try:
            others = [checkpoint_file.load(self._part(k)) for k in range(1, self.place.world)]
            tree = {"identity": self.identity, "shared": shared, "own": [own, *others]}
            checkpoint_file.save(self.path, tree)
            for rank in range(1, self.place.world):
                self._part(rank).unlink()
        except (ValueError, OSError, SafetensorError) as exc:
            self._warn("checkpoint_not_written", why=str(exc))

    @property
    def _wanted(self) -> Path:
        """Made by a supervisor that has to stop soon."""
        return self.path.with_name(CHECKPOINT_WANTED)

    def _part(self, rank: int) -> Path:
        return self.path.with_name(f"{self.path.stem}-{rank}.safetensors")

    def _warn(self, event: str, **facts: str) -> None:
        """Once, not once a process; but who cannot write is alone in that."""
        if self.place.first or event == "checkpoint_not_written":
            log.warning(event, **facts)


def random_state(device: torch.device) -> dict[str, Any]:
    """The states of torch's global generators: the CPU's, and a GPU's."""
    gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"cpu": torch.get_rng_state(), "cuda": gpu}


def restore_random(state: dict[str, Any], device: torch.device) -> None:
    """Sets them to what ``random_state`` gave."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)

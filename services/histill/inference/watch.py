"""Seconds of one request by stage, and the runs of the network that it took."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from histill.inference import measures

if TYPE_CHECKING:
    from collections.abc import Iterator

STAGES = ("decode", "queue", "compute", "encode")


@dataclass
class Watch:
    """Adds up what each stage of a request takes; a stage may come more than once.

    Attributes:
        seconds: By stage.
        runs: Of the network: images or tiles at once, and seconds.
        started: ``time.monotonic()``.
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    runs: list[tuple[int, float]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """Seconds since the request came."""
        return time.monotonic() - self.started

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a block."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - started

    def report(self, project: str, model: str) -> None:
        """Hands the sums to the metrics, under the model's name."""
        for name, seconds in self.seconds.items():
            measures.STAGE_SECONDS.labels(project, model, name).observe(seconds)
        for size, _ in self.runs:
            measures.BATCH_SIZE.labels(project, model).observe(size)

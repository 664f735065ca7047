"""Seconds of one request by stage, and the runs of the network that it took."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from histill.inference import measures
from histill.inference.stages import stages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histill.inference.models import LoadedModel
    from histill.inference.stages import Stages

STAGES = ("decode", "queue", "compute", "encode")


@dataclass
class Watch:
    """Adds up what each stage of a request takes; a stage may come more than once.

    Attributes:
        seconds: By stage.
        runs: Of the network: images or tiles at once, and seconds.
        started: ``time.monotonic()``.
        stages: Of a request that is traced.
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    runs: list[tuple[int, float]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    stages: Stages | None = field(default_factory=stages)

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
            self.spent(name, started, time.monotonic())

    def spent(self, name: str, began: float, ended: float) -> None:
        """Adds some time of a stage, as ``time.monotonic()`` tells it."""
        self.seconds[name] += ended - began
        if self.stages is not None:
            self.stages.spent(name, began, ended)

    def unanswered(self, asked: float, began: float | None) -> None:
        """Adds a run that ends now without an answer for this request.

        Args:
            asked: When it was asked for, as ``time.monotonic()`` tells it.
            began: When its turn came; ``None``: it has not.
        """
        now = time.monotonic()
        self.spent("queue", asked, now if began is None else began)
        if began is not None:
            self.spent("compute", began, now)

    def ran(self, images: int, seconds: float) -> None:
        """Adds a run of the network, for this request alone."""
        self.runs.append((images, seconds))
        if self.stages is not None:
            self.stages.ran(images)

    def trace(self, model: LoadedModel) -> None:
        """Makes the spans of a request that is traced, when it has ended, well or not."""
        if self.stages is not None:
            self.stages.tell(model)

    def report(self, project: str, model: str) -> None:
        """Hands the sums to the metrics, under the model's name."""
        for name, seconds in self.seconds.items():
            measures.STAGE_SECONDS.labels(project, model, name).observe(seconds)
        for size, _ in self.runs:
            measures.BATCH_SIZE.labels(project, model).observe(size)

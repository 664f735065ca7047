"""What was asked of each version since the process started, as Triton's clients ask for it."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from histill.inference.owned import Owned
    from histill.inference.watch import Watch

# Their names for our stages.
STAGES = {
    "queue": "queue",
    "compute_input": "decode",
    "compute_infer": "compute",
    "compute_output": "encode",
}


@dataclass
class Duration:
    """How often something was done, and seconds of all of them together."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Once more."""
        self.count += 1
        self.seconds += seconds


@dataclass
class Counts:
    """Of one version.

    Attributes:
        durations: Of ``success``, ``fail`` and the names in ``STAGES``.
        runs: Of the network, by how many images or tiles it was given at once.
        images: That were segmented.
        last: When it was last asked, seconds since 1970.
    """

    durations: defaultdict[str, Duration] = field(default_factory=lambda: defaultdict(Duration))
    runs: defaultdict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))
    images: int = 0
    last: float = 0.0

    def answered(self, watch: Watch, *, images: int) -> None:
        """Counts a request that was answered."""
        self.images += images
        self.durations["success"].add(watch.age)
        for name, stage in STAGES.items():
            self.durations[name].add(watch.seconds[stage])
        self._ran(watch)

    def failed(self, watch: Watch) -> None:
        """Counts a request that was not, or that its caller gave up."""
        self.durations["fail"].add(watch.age)
        self._ran(watch)

    def _ran(self, watch: Watch) -> None:
        self.last = time.time()
        for size, seconds in watch.runs:
            self.runs[size].add(seconds)


class Statistics:
    """The counts of every version that was asked, of each project apart."""

    def __init__(self) -> None:
        self._counts: defaultdict[Owned, Counts] = defaultdict(Counts)

    def of(self, version: Owned) -> Counts:
        """Of ``name@version``, to count with."""
        return self._counts[version]

    def peek(self, version: Owned) -> Counts:
        """Of ``name@version``, to read; all zero where nothing was asked."""
        return self._counts.get(version, Counts())

    def references(self, project: str, name: str = "") -> list[str]:
        """Versions of a project that were asked, of one model or of all."""
        return sorted(
            each.reference
            for each in self._counts
            if each.project == project and name in {"", each.name}
        )

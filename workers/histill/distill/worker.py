"""What an attempt at a job needs; built once in ``bootstrap``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from histill.core.projects import numbered, scoped
from histill.distill.inputs import Source
from histill.distill.vitals import Vitals

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from histill.core.clock import Clock
    from histill.core.job_store import JobStore
    from histill.core.ports import LiveState, ObjectStore, VersionCounter
    from histill.core.signing import Signing
    from histill.distill.settings import WorkerPart
    from histill.distill.workdir import Workdir


@dataclass(frozen=True)
class Worker:
    """The stores, the settings, and the command that starts a trainer."""

    objects: ObjectStore
    versions: VersionCounter
    jobs: JobStore
    live: LiveState
    settings: WorkerPart
    scratch: Path
    clock: Clock
    draining: threading.Event
    command: Callable[[Workdir], list[str]]
    signing: Signing
    vitals: Vitals = field(default_factory=Vitals)

    def objects_of(self, project: str) -> ObjectStore:
        """Models and datasets of a project."""
        return scoped(self.objects, project)

    def source_of(self, project: str) -> Source:
        """Where a job of a project gets what it trains on."""
        return Source(self.objects_of(project), project, self.signing.verifier)

    def versions_of(self, project: str) -> VersionCounter:
        """Version numbers of a project."""
        return numbered(self.versions, project)

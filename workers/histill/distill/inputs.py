"""Fetches what a job trains on into its work folder, and writes the order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from histill.core import catalog
from histill.core.catalog import DATASETS, MODELS
from histill.core.manifests import STATISTICS, TORCHSCRIPT, WEIGHTS
from histill.core.specs import DataFreeSpec, MultiTeacherSpec
from histill.core.trust import check_signature
from histill.distill.teacher_cache import cache_folder
from histill.distill.workdir import DataFreeOrder, RunOrder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from histill.core.catalog import M, Shelf
    from histill.core.jobs import Job
    from histill.core.manifests import ModelManifest
    from histill.core.ports import ObjectStore
    from histill.core.signing import Verifier
    from histill.distill.settings import WorkerPart
    from histill.distill.stops import Stop
    from histill.distill.workdir import Order, Workdir


@dataclass(frozen=True)
class Source:
    """Where a job's inputs come from, and whose signature they must bear.

    Attributes:
        objects: Of the job's project.
        project: That they belong to; part of what is signed.
        verifier: Knows whom we trust; ``None`` trusts everybody.
    """

    objects: ObjectStore
    project: str
    verifier: Verifier | None

    def find(self, shelf: Shelf[M], reference: str) -> M:
        """A version that may be used.

        Raises:
            NotFoundError: It was deleted.
            UntrustedArtifactError: It is not signed by somebody whom we trust.
        """
        found = catalog.find(self.objects, shelf, reference)
        check_signature(self.objects, shelf, found, self.verifier, project=self.project)
        return found


def fetch_inputs(
    job: Job, folder: Workdir, *, source: Source, settings: WorkerPart, stop: Stop
) -> Order:
    """Fetches dataset and teachers, checking digests, and writes the order.

    Args:
        job: What is to be done.
        folder: Where to.
        source: Where from.
        settings: For the teachers' cache and the time between checkpoints.
        stop: Looked at between chunks.

    Raises:
        NotFoundError: The dataset or a teacher was deleted.
        CorruptArtifactError: A file differs from its manifest.
        UntrustedArtifactError: One is not signed by somebody whom we trust.
        StoppedError: ``stop`` was set.
    """
    spec = job.spec
    if isinstance(spec, DataFreeSpec):
        order: Order = DataFreeOrder(
            job=job.name,
            attempt=job.attempt,
            spec=spec,
            teachers=_fetch_teachers(spec.teachers, folder, source, stop),
            checkpoint_s=settings.checkpoint_s,
        )
    else:
        dataset = source.find(DATASETS, spec.dataset)
        for _ in catalog.fetch(source.objects, DATASETS, dataset, folder.dataset):
            stop.check()
        references = spec.teachers if isinstance(spec, MultiTeacherSpec) else ()
        order = RunOrder(
            job=job.name,
            attempt=job.attempt,
            spec=spec,
            dataset=dataset,
            teachers=_fetch_teachers(references, folder, source, stop),
            teacher_cache=cache_folder(
                settings.teacher_cache, project=job.project, dataset=dataset.reference
            ),
            teacher_cache_bytes=settings.teacher_cache_bytes,
            checkpoint_s=settings.checkpoint_s,
        )
    folder.write_order(order)
    return order


def _fetch_teachers(
    references: Sequence[str], folder: Workdir, source: Source, stop: Stop
) -> tuple[ModelManifest, ...]:
    teachers = tuple(source.find(MODELS, reference) for reference in references)
    for index, teacher in enumerate(teachers):
        only = (WEIGHTS if teacher.network else TORCHSCRIPT, STATISTICS)
        fetched = catalog.fetch(source.objects, MODELS, teacher, folder.teacher(index), only=only)
        for _ in fetched:
            stop.check()
    return teachers

"""What a removal concerns: a job, or a version of a dataset with all that was made of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from histill.core import catalog
from histill.core.catalog import DATASETS, MODELS
from histill.core.errors import (
    CorruptArtifactError,
    FailedPreconditionError,
    NotFoundError,
)
from histill.core.names import parse_reference
from histill.core.projects import scoped
from histill.core.results import result_name
from histill.core.specs import DataFreeSpec
from histill.jobs.purge_subject import Note

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from histill.core.job_store import JobStore
    from histill.core.jobs import Job
    from histill.core.manifests import DatasetManifest, ModelManifest
    from histill.core.ports import ObjectStore
    from histill.jobs.purge_subject import Subject

_AT_ONCE = 8
log = structlog.get_logger()


@dataclass(frozen=True)
class Plan:
    """What is there of a subject.

    Attributes:
        note: The jobs and models it concerns, with those of a removal that broke off.
        begun: Whether an earlier removal broke off.
        dataset: Manifest of the dataset, if it is there.
        whole: Those of its models that are there, and not half removed.
        namesake: Whether a model has the name of the dataset, which makes words ambiguous.
        open: Names of its jobs that have not ended.
        aliases: Aliases of its models, ``name@alias``.
        descendants: Models that were distilled from its models and do not belong to it.
    """

    note: Note
    begun: bool
    dataset: DatasetManifest | None
    whole: frozenset[str]
    namesake: bool
    open: tuple[str, ...]
    aliases: tuple[str, ...]
    descendants: tuple[str, ...]

    def going(self, *, keep_models: bool) -> tuple[str, ...]:
        """The models that go: all of its own, or those of which half is gone already."""
        return tuple(m for m in self.note.models if not (keep_models and m in self.whole))

    def check(self, *, keep_models: bool) -> None:
        """Refuses what must not be removed yet.

        Raises:
            FailedPreconditionError: A job has not ended, or an alias points at a model that
                would go; names them.
        """
        if self.open:
            raise FailedPreconditionError(f"not ended: {', '.join(self.open)}; cancel it first")
        if self.aliases and not keep_models:
            raise FailedPreconditionError(
                f"{', '.join(self.aliases)} points at a model that would go; point it elsewhere "
                "first, or keep the models"
            )


def find(subject: Subject, *, project: str, objects: ObjectStore, jobs: JobStore) -> Plan:
    """Looks through every record of a job and every manifest of a model in S3.

    Args:
        subject: What is to be removed.
        project: Of the caller; jobs of others are passed over.
        objects: All of the store.
        jobs: Of all projects.

    Raises:
        NotFoundError: The job is not there, and no removal of it broke off.
    """
    own = scoped(objects, project)
    begun, broke_off = _begun(own, subject)
    models = list(catalog.iterate(own, MODELS))
    dataset = _dataset(own, subject)
    concerned = list(_jobs(subject, project, dataset, models, own, jobs))
    if subject.job_id and not concerned and not broke_off:
        raise NotFoundError(f"jobs/{subject.job_id} does not exist")
    names = {job.name for job in concerned}
    results = {job.result_model for job in concerned if job.result_model}
    of_it = [
        each
        for each in models
        if each.job in names
        or result_name(each.reference) in results
        or (subject.dataset and each.dataset == subject.dataset)
        or each.reference in begun.models
    ]
    note = begun.with_more([job.id for job in concerned], [each.reference for each in of_it])
    return Plan(
        note=note,
        begun=broke_off,
        dataset=dataset,
        whole=frozenset(each.reference for each in of_it),
        namesake=bool(catalog.versions(own, MODELS, subject.dataset.partition("@")[0])),
        open=tuple(job.name for job in concerned if not job.state.final),
        aliases=tuple(_aliases(own, of_it)),
        descendants=_descendants(models, set(note.models)),
    )


def _begun(own: ObjectStore, subject: Subject) -> tuple[Note, bool]:
    try:
        return Note.model_validate_json(own.get(subject.note_key)), True
    except NotFoundError:
        return Note(), False


def _dataset(own: ObjectStore, subject: Subject) -> DatasetManifest | None:
    if not subject.dataset:
        return None
    try:
        return catalog.find(own, DATASETS, subject.dataset)
    except NotFoundError:
        return None
    except CorruptArtifactError as exc:
        log.warning("manifest_damaged", why=str(exc))
        return None  # it goes all the same


def _jobs(
    subject: Subject,
    project: str,
    dataset: DatasetManifest | None,
    models: Sequence[ModelManifest],
    own: ObjectStore,
    jobs: JobStore,
) -> Iterator[Job]:
    """The jobs of a subject, in the order of their ids."""
    if subject.job_id:
        job = _stored(jobs, subject.job_id)
        if job and job.project == project:
            yield job
        return
    name = subject.dataset.partition("@")[0]
    made = {each.job: each.dataset for each in models if each.job}
    others = list(catalog.iterate(own, DATASETS, name=name))
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="purge") as pool:
        for job in pool.map(lambda job_id: _stored(jobs, job_id), jobs.stored_ids()):
            if job and job.project == project and _named(job, subject, dataset, made, others):
                yield job


def _stored(jobs: JobStore, job_id: str) -> Job | None:
    try:
        return jobs.stored(job_id)
    except NotFoundError:
        return None
    except CorruptArtifactError as exc:
        log.warning("job_record_damaged", job=job_id, why=str(exc))
        return None


def _named(
    job: Job,
    subject: Subject,
    dataset: DatasetManifest | None,
    made: dict[str, str],
    others: Sequence[DatasetManifest],
) -> bool:
    """Whether a job trained on the version, or may have.

    One that named no version took the latest; which that was tells its model, or, where it
    made none, the times of the versions that are there.
    """
    if isinstance(job.spec, DataFreeSpec):
        return False
    asked = parse_reference(job.spec.dataset, field="dataset")
    wanted = parse_reference(subject.dataset, field="dataset")
    if asked.name != wanted.name or asked.version is not None:
        return asked == wanted
    if job.name in made:
        return made[job.name] == subject.dataset
    if dataset and job.end_time and dataset.create_time > job.end_time:
        return False
    newer = [each for each in others if each.version > (wanted.version or 0)]
    return not any(each.create_time <= job.create_time for each in newer)


def _aliases(own: ObjectStore, models: Sequence[ModelManifest]) -> Iterator[str]:
    for model in models:
        for alias, version in catalog.aliases(own, model.name).items():
            if version == model.version:
                yield f"{model.name}@{alias}"


def _descendants(models: Sequence[ModelManifest], gone: set[str]) -> tuple[str, ...]:
    """Models that learnt from models that go, or from such models in turn."""
    reached = set(gone)
    while more := {
        each.reference
        for each in models
        if each.reference not in reached and not reached.isdisjoint(each.teachers)
    }:
        reached |= more
    return tuple(sorted(reached - gone))

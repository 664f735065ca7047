"""What a job must fulfil before it is accepted."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from histill.core import messages
from histill.core.catalog import DATASETS, MODELS
from histill.core.class_maps import class_index
from histill.core.errors import FieldViolation, InvalidArgumentError, NotFoundError
from histill.core.jobs import Job
from histill.core.manifests import DatasetManifest, ModelManifest
from histill.core.names import new_job_id
from histill.core.samples import MAX_MEMORY_BYTES, memory_bytes, sample_side
from histill.core.specs import MAX_SAMPLE_SIDE, SAMPLE_STRIDE, DataFreeSpec, MultiTeacherSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from histill.api.distillation.v1 import job_pb2
    from histill.core.catalog import Shelf
    from histill.core.clock import Clock
    from histill.core.specs import JobSpec, SupervisedSpec

T = TypeVar("T")
M = TypeVar("M", ModelManifest, DatasetManifest)
MAX_PRIORITY = 9
_MAX_DISPLAY_NAME = 200
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{0,64}")
_OUTPUT_ONLY = (
    "name", "kind", "state", "attempt", "create_time", "start_time", "end_time", "progress",
    "metrics", "error", "result_model", "request_id", "cancel_requested",
)  # fmt: skip


class Find(Protocol):
    """Finds a manifest by its reference."""

    def __call__(self, shelf: Shelf[M], reference: str) -> M:  # pyright: ignore[reportReturnType]
        """May raise NotFoundError."""


def accepted(
    message: job_pb2.Job,
    request_id: str,
    *,
    project: str,
    pools: Sequence[str],
    find: Find,
    clock: Clock,
) -> Job:
    """The job that a request asks for, with every field checked.

    Args:
        message: What is asked for.
        request_id: Its idempotency key, or empty.
        project: Whose job it is to be.
        pools: Of workers, that it may name; the first is taken when it names none.
        find: Finds a manifest of that project by its reference.
        clock: For the time of its creation.

    Raises:
        InvalidArgumentError: Names each field that is wrong.
        NotFoundError: The dataset or a teacher does not exist.
    """
    found = list(_wrong_fields(message, request_id, pools))
    try:
        spec = messages.spec_of(message)
    except InvalidArgumentError as exc:
        raise InvalidArgumentError(*exc.violations, *found) from exc
    if found:
        raise InvalidArgumentError(*found)
    _check_references(spec, f"job.{message.WhichOneof('spec')}", find)
    return Job(
        id=new_job_id(),
        spec=spec,
        create_time=clock(),
        project=project,
        display_name=message.display_name,
        priority=message.priority,
        pool=message.pool or pools[0],
        request_id=request_id,
    )


def _wrong_fields(
    message: job_pb2.Job, request_id: str, pools: Sequence[str]
) -> Iterator[FieldViolation]:
    set_fields = {field.name for field, _ in message.ListFields()}
    for name in _OUTPUT_ONLY:
        if name in set_fields:
            yield FieldViolation(f"job.{name}", "is set by the service; leave it out")
    if not 0 <= message.priority <= MAX_PRIORITY:
        yield FieldViolation("job.priority", f"must be from 0 to 9; it is {message.priority}")
    if message.pool and message.pool not in pools:
        words = f"there is no such pool of workers; there are {', '.join(pools)}"
        yield FieldViolation("job.pool", words)
    if len(message.display_name) > _MAX_DISPLAY_NAME:
        yield FieldViolation("job.display_name", f"is longer than {_MAX_DISPLAY_NAME} characters")
    if not _REQUEST_ID.fullmatch(request_id):
        yield FieldViolation("request_id", "must be up to 64 of A-Z, a-z, 0-9, - and _")


def _check_references(spec: JobSpec, path: str, find: Find) -> None:
    found: list[FieldViolation] = []
    if isinstance(spec, DataFreeSpec):
        found += _unlike(spec, path, _teachers(spec, path, find))
    else:
        found += _check_dataset(spec, path, find)
    if found:
        raise InvalidArgumentError(*found)


def _teachers(spec: MultiTeacherSpec | DataFreeSpec, path: str, find: Find) -> list[ModelManifest]:
    return [
        _named(f"{path}.teachers[{index}]", partial(find, MODELS, reference))
        for index, reference in enumerate(spec.teachers)
    ]


def _check_dataset(
    spec: SupervisedSpec | MultiTeacherSpec, path: str, find: Find
) -> Iterator[FieldViolation]:
    dataset = _named(f"{path}.dataset", lambda: find(DATASETS, spec.dataset))
    if spec.boundary.unit == "mm" and not dataset.pixel_size_mm:
        words = f"is mm, but {dataset.reference} has no pixel size; push it with --pixel-size-mm"
        yield FieldViolation(f"{path}.boundary.unit", words)
    if spec.network.task != "segmentation":
        field = "student" if isinstance(spec, MultiTeacherSpec) else "network"
        words = f"{spec.network.architecture} classifies; datasets are for segmentation"
        yield FieldViolation(f"{path}.{field}.architecture", words)
    if isinstance(spec, MultiTeacherSpec):
        yield from _misfits(spec, path, dataset, _teachers(spec, path, find))


def _unlike(
    spec: DataFreeSpec, path: str, teachers: Sequence[ModelManifest]
) -> Iterator[FieldViolation]:
    """What keeps teachers from guiding one student without data."""
    first, task = teachers[0], spec.student.task
    for index, teacher in enumerate(teachers):
        own = f"{path}.teachers[{index}]"
        if teacher.task != task:
            words = f"is for {teacher.task}, the student for {task}"
            yield FieldViolation(own, f"{teacher.reference} {words}")
        for name in ("classes", "channels"):
            if getattr(teacher, name) != getattr(first, name):
                words = f"has other {name} than {first.reference}; without data they must be equal"
                yield FieldViolation(own, f"{teacher.reference} {words}")
    if all(teacher.task == task for teacher in teachers):
        sizes = _wrong_images if task == "classification" else _wrong_samples
        yield from sizes(spec, path, teachers)
    for name in spec.class_shares:
        if name not in first.classes[1:]:
            words = f"is no foreground class of {first.reference}: {', '.join(first.classes[1:])}"
            yield FieldViolation(f"{path}.class_shares.{name}", words)
    if sum({**first.class_shares, **spec.class_shares}.values()) >= 1:
        words = f"leave no background, with those that {first.reference} brings; give all of them"
        yield FieldViolation(f"{path}.class_shares", words)
    if (needed := memory_bytes(spec, teachers)) > MAX_MEMORY_BYTES:
        words = f"would take {needed / 1e9:.1f} GB at this size of samples; the most is 4.3 GB"
        yield FieldViolation(f"{path}.samples.memory", words)


def _wrong_images(
    spec: DataFreeSpec, path: str, teachers: Sequence[ModelManifest]
) -> Iterator[FieldViolation]:
    """Classifiers that take images of another side than the student."""
    # The spec has made sure that no other side is asked for.
    side = spec.student.stride
    for index, teacher in enumerate(teachers):
        if teacher.image_size != side:
            words = f"{teacher.reference} takes images of {teacher.image_size} pixels a side"
            student = f"{spec.student.architecture} of {side}"
            yield FieldViolation(f"{path}.teachers[{index}]", f"{words}, the student {student}")


def _wrong_samples(
    spec: DataFreeSpec, path: str, teachers: Sequence[ModelManifest]
) -> Iterator[FieldViolation]:
    """Samples whose sides a teacher does not take."""
    field = f"{path}.training.image_size"
    side = sample_side(spec, teachers)
    for teacher in teachers:
        if side % teacher.stride:
            words = f"must be a multiple of {teacher.stride} for {teacher.reference}; it is {side}"
            yield FieldViolation(field, words)
    if side > MAX_SAMPLE_SIDE:
        strides = ", ".join(f"{teacher.stride} ({teacher.reference})" for teacher in teachers)
        words = (
            f"would have to be {side}, a multiple of {SAMPLE_STRIDE}, {spec.student.stride} (the "
            f"student) and {strides}; the most is {MAX_SAMPLE_SIDE}"
        )
        yield FieldViolation(field, words)


def _misfits(
    spec: MultiTeacherSpec, path: str, dataset: DatasetManifest, teachers: Sequence[ModelManifest]
) -> Iterator[FieldViolation]:
    known: set[int] = {0}
    whole = True
    for index, (reference, teacher) in enumerate(zip(spec.teachers, teachers, strict=True)):
        own = f"{path}.teachers[{index}]"
        if teacher.task != "segmentation":
            words = f"is for {teacher.task}; datasets are for segmentation"
            yield FieldViolation(own, f"{teacher.reference} {words}")
        if teacher.channels != dataset.channels:
            words = f"takes {teacher.channels} channels; {dataset.reference} has {dataset.channels}"
            yield FieldViolation(own, words)
        mapped = spec.class_maps.get(reference)
        try:
            known |= {
                *class_index(teacher.classes, dataset.classes, mapped.classes if mapped else None)
            }
        except InvalidArgumentError as exc:
            whole = False
            where = f"{path}.class_maps.{reference}" if mapped else own
            words = "; ".join(violation.description for violation in exc.violations)
            yield FieldViolation(where, f"{teacher.reference}: {words}")
    unknown = [name for index, name in enumerate(dataset.classes) if index not in known]
    if whole and unknown:
        words = (
            f"none of them knows {', '.join(unknown)}, which the student would then unlearn; add a "
            "teacher that does, or a dataset without"
        )
        yield FieldViolation(f"{path}.teachers", words)


def _named(path: str, find: Callable[[], T]) -> T:
    try:
        return find()
    except NotFoundError as exc:
        raise NotFoundError(f"{path}: {exc}") from exc

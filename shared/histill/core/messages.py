"""The domain as protobuf messages, and back. The only place that knows both."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

from google.protobuf import any_pb2
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, error_details_pb2, status_pb2
from pydantic import ValidationError

from histill.api.distillation.v1 import job_pb2, spec_pb2
from histill.api.registry.v1 import dataset_pb2, model_pb2
from histill.core.errors import FieldViolation, InvalidArgumentError
from histill.core.jobs import JobState
from histill.core.manifests import (
    ArtifactFile,
    DatasetManifest,
    LabelKind,
    ModelManifest,
    ModelRole,
)
from histill.core.specs import DataFreeSpec, JobSpec, MultiTeacherSpec, SupervisedSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from google.protobuf.descriptor import Descriptor

    from histill.core.events import JobEvent
    from histill.core.jobs import Job, JobError, JobKind, Progress

_SPECS: dict[str, type[JobSpec]] = {
    "supervised": SupervisedSpec,
    "multi_teacher": MultiTeacherSpec,
    "data_free": DataFreeSpec,
}
_SHORT, _MOST_WORDS = reprlib.Repr(), 200
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 100
# What people write who are used to the other kinds of jobs.
_DATA_FIELDS = frozenset({"dataset", "data", "images"})


def job_from_yaml(values: Mapping[str, Any]) -> job_pb2.Job:
    """A job as nested mappings, with the names of the API.

    Raises:
        InvalidArgumentError: A name is unknown or a value is of the wrong type; names
            the path of each.
    """
    job = job_pb2.Job()
    found = list(_misfits(values, job.DESCRIPTOR, "job"))
    if len(several := [name for name in _SPECS if name in values]) > 1:
        found.append(FieldViolation("job.spec", f"set one of {', '.join(several)}, not all"))
    if found:
        raise InvalidArgumentError(*found)
    return ParseDict(dict(values), job)


def _misfits(values: Any, kind: Descriptor, path: str) -> Iterator[FieldViolation]:
    if not isinstance(values, dict):
        yield FieldViolation(path, f"must be a mapping; it is {_short(values)}")
        return
    for name, value in values.items():
        field = kind.fields_by_name.get(name)
        if field is None:
            known = ", ".join(sorted(kind.fields_by_name))
            words = f"is not a field; there are {known}"
            if name in _DATA_FIELDS and kind is spec_pb2.DataFreeSpec.DESCRIPTOR:
                words = f"is not a field: a data-free job takes no data; there are {known}"
            yield FieldViolation(f"{path}.{name}", words)
        elif field.message_type and not field.is_repeated:
            yield from _misfits(value, field.message_type, f"{path}.{name}")
        else:
            try:
                ParseDict({name: value}, GetMessageClass(kind)())
            except ParseError:
                yield FieldViolation(
                    f"{path}.{name}", f"is of the wrong type; it is {_short(value)}"
                )


def _short(value: Any) -> str:
    """The beginning of what was given: aliases in YAML can make a few lines endless."""
    return _SHORT.repr(value)[:_MOST_WORDS]


def spec_of(job: job_pb2.Job) -> JobSpec:
    """The job's spec with its defaults, every number checked.

    Raises:
        InvalidArgumentError: Names the path of every bad field.
    """
    which = job.WhichOneof("spec")
    if which is None:
        raise InvalidArgumentError.of("job.spec", f"set one of {', '.join(_SPECS)}")
    values = MessageToDict(getattr(job, which), preserving_proto_field_name=True)
    try:
        return _SPECS[which].model_validate(values)
    except ValidationError as exc:
        raise InvalidArgumentError(*violations(exc, f"job.{which}")) from exc


def violations(exc: ValidationError, prefix: str) -> list[FieldViolation]:
    """What pydantic found wrong, as field paths under a prefix."""
    found = []
    for error in exc.errors():
        path = prefix
        for step in error["loc"]:
            path += f"[{step}]" if isinstance(step, int) else f".{step}"
        words = error["msg"][0].lower() + error["msg"][1:]
        if error["type"] == "string_pattern_mismatch":
            words = "should be a name like nuclei, nuclei@3 or nuclei@production (a-z, 0-9 and -)"
        if error["type"] == "value_error":  # of several fields together, which it names
            words = words.removeprefix("value error, ")
        elif error["type"] != "missing":
            words += f"; it is {_short(error['input'])}"
        found.append(FieldViolation(path, words))
    return found


def job_message(job: Job) -> job_pb2.Job:
    """A job as a message."""
    message = job_pb2.Job(
        name=job.name,
        display_name=job.display_name,
        kind=kind_message(job.kind),
        priority=job.priority,
        state=state_message(job.state),
        attempt=job.attempt,
        create_time=timestamp(job.create_time),
        start_time=timestamp(job.start_time),
        end_time=timestamp(job.end_time),
        progress=progress_message(job.progress) if job.progress else None,
        metrics=job.metrics,
        error=error_message(job.error) if job.error else None,
        result_model=job.result_model,
        request_id=job.request_id,
        cancel_requested=job.cancel_requested,
        pool=job.pool,
    )
    name = next(name for name, kind in _SPECS.items() if isinstance(job.spec, kind))
    ParseDict(job.spec.model_dump(mode="json"), getattr(message, name))
    return message


def state_message(state: JobState) -> job_pb2.JobState.ValueType:
    """A state as the API's enum."""
    return job_pb2.JobState.Value(f"JOB_STATE_{state}")


def states_of(values: Iterable[job_pb2.JobState.ValueType], *, field: str) -> frozenset[JobState]:
    """States from the API's enum.

    Raises:
        InvalidArgumentError: One is not set, or unknown.
    """
    known = {state_message(state): state for state in JobState}
    try:
        return frozenset(known[value] for value in values)
    except KeyError as exc:
        raise InvalidArgumentError.of(field, f"has {exc}, which is no state of a job") from None


def kind_message(kind: JobKind) -> job_pb2.JobKind.ValueType:
    """A kind as the API's enum."""
    return job_pb2.JobKind.Value(f"JOB_KIND_{kind}")


def progress_message(progress: Progress) -> job_pb2.Progress:
    """Progress as a message."""
    return job_pb2.Progress(
        stage=progress.stage,
        step=progress.step,
        steps=progress.steps,
        eta_seconds=progress.eta_seconds,
    )


def event_message(event: JobEvent) -> job_pb2.JobEvent:
    """An event as a message."""
    message = job_pb2.JobEvent(
        event_id=event.id,
        time=timestamp(event.time),
        attempt=event.attempt,
        metrics=event.metrics,
    )
    if event.state is not None:
        message.state = state_message(event.state)
    elif event.progress is not None:
        message.progress.CopyFrom(progress_message(event.progress))
    elif event.log is not None:
        message.log = event.log
    return message


def error_message(error: JobError) -> status_pb2.Status:
    """Why a job failed, with the hint and the end of the log in an ErrorInfo."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain="histill")
    info.metadata["hint"] = error.hint
    info.metadata["log_tail"] = "\n".join(error.log_tail)
    packed = any_pb2.Any()
    packed.Pack(info)
    return status_pb2.Status(code=code_pb2.ABORTED, message=error.message, details=[packed])


def timestamp(time: datetime | None) -> Timestamp | None:
    """A time as a message; ``None`` stays unset."""
    if time is None:
        return None
    message = Timestamp()
    message.FromDatetime(time)
    return message


def model_message(manifest: ModelManifest, aliases: Mapping[str, int]) -> model_pb2.Model:
    """A model as a message.

    Args:
        manifest: The version.
        aliases: All aliases of the model with the versions they point at.
    """
    return model_pb2.Model(
        name=f"models/{manifest.name}/versions/{manifest.version}",
        reference=manifest.reference,
        aliases=[alias for alias, at in sorted(aliases.items()) if at == manifest.version],
        role=model_pb2.ModelRole.Value(f"MODEL_ROLE_{manifest.role}"),
        architecture=manifest.network.architecture if manifest.network else "torchscript",
        channels=manifest.channels,
        classes=manifest.classes,
        parameters=manifest.parameters,
        size_bytes=sum(file.size for file in manifest.files),
        metrics=manifest.metrics,
        teachers=manifest.teachers,
        dataset=manifest.dataset,
        job=manifest.job,
        files=files_message(manifest.files),
        create_time=timestamp(manifest.create_time),
        servable=manifest.servable,
        task=manifest.task,
        dp_epsilon=manifest.privacy.epsilon if manifest.privacy else 0.0,
        dp_delta=manifest.privacy.delta if manifest.privacy else 0.0,
    )


def dataset_message(manifest: DatasetManifest) -> dataset_pb2.Dataset:
    """A dataset as a message."""
    return dataset_pb2.Dataset(
        name=f"datasets/{manifest.name}/versions/{manifest.version}",
        reference=manifest.reference,
        classes=manifest.classes,
        channels=manifest.channels,
        label_kind=dataset_pb2.LabelKind.Value(f"LABEL_KIND_{manifest.label_kind}"),
        splits=manifest.splits,
        pixel_size_mm=manifest.pixel_size_mm,
        description=manifest.description,
        size_bytes=sum(file.size for file in manifest.files),
        files=files_message(manifest.files),
        create_time=timestamp(manifest.create_time),
    )


def files_message(files: Sequence[ArtifactFile]) -> list[model_pb2.ArtifactFile]:
    """Files of a manifest as messages."""
    return [
        model_pb2.ArtifactFile(path=file.path, size_bytes=file.size, sha256=file.sha256)
        for file in files
    ]


def role_of(value: model_pb2.ModelRole.ValueType, *, field: str) -> ModelRole:
    """A role from the API's enum.

    Raises:
        InvalidArgumentError: It is not set, or unknown.
    """
    try:
        return ModelRole(model_pb2.ModelRole.Name(value).removeprefix("MODEL_ROLE_"))
    except ValueError:
        raise InvalidArgumentError.of(field, "must be a teacher or a student") from None


def label_kind_of(value: dataset_pb2.LabelKind.ValueType, *, field: str) -> LabelKind:
    """A label kind from the API's enum.

    Raises:
        InvalidArgumentError: It is not set, or unknown.
    """
    try:
        return LabelKind(dataset_pb2.LabelKind.Name(value).removeprefix("LABEL_KIND_"))
    except ValueError:
        raise InvalidArgumentError.of(field, "must be semantic or instance") from None

"""The domain as protobuf messages."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from google.rpc import error_details_pb2
from pydantic import ValidationError

from histill.api.distillation.v1 import job_pb2
from histill.core import messages
from histill.core.errors import InvalidArgumentError
from histill.core.events import JobEvent
from histill.core.jobs import Job, JobError, JobKind, JobState, Progress
from histill.core.specs import DataFreeSpec, JobSpec, MultiTeacherSpec, SupervisedSpec

NOW = datetime(2026, 5, 4, 3, 2, 1, 500_000, tzinfo=UTC)
EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
SPECS = [
    SupervisedSpec(dataset="d", output_model="m"),
    MultiTeacherSpec(dataset="d@2", output_model="m", teachers=("t@production", "u@7")),
    DataFreeSpec(output_model="m", teachers=("t@3",), class_shares={"gland": 0.2}),
]


@pytest.mark.parametrize("spec", SPECS)
def test_a_spec_survives_its_message_and_its_record(spec: JobSpec) -> None:
    """Spec to message and back changes nothing, nor does the stored job."""
    job = Job(id="a" * 20, spec=spec, create_time=NOW)
    assert messages.spec_of(messages.job_message(job)) == spec
    assert Job.model_validate_json(job.model_dump_json()) == job


@pytest.mark.parametrize("state", JobState)
def test_every_state_has_its_enum_value(state: JobState) -> None:
    """No state is without a name in the API."""
    assert job_pb2.JobState.Name(messages.state_message(state)) == f"JOB_STATE_{state}"


@pytest.mark.parametrize("kind", JobKind)
def test_every_kind_has_its_enum_value(kind: JobKind) -> None:
    """No kind is without a name in the API."""
    assert job_pb2.JobKind.Name(messages.kind_message(kind)) == f"JOB_KIND_{kind}"


def test_an_error_carries_hint_and_log() -> None:
    """A failed job's status holds what helps and the end of the log."""
    error = JobError(reason="DIVERGED", message="NaN", hint="lower it", log_tail=("a", "b"))
    status = messages.error_message(error)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.message, info.reason) == ("NaN", "DIVERGED")
    assert (info.metadata["hint"], info.metadata["log_tail"]) == ("lower it", "a\nb")


def test_events_hold_exactly_what_happened() -> None:
    """State, progress and log are one of; an empty log line is still one."""
    which = [
        messages.event_message(event).WhichOneof("event")
        for event in (
            JobEvent(time=NOW, state=JobState.QUEUED),
            JobEvent(time=NOW, progress=Progress(stage="training")),
            JobEvent(time=NOW, log=""),
        )
    ]
    assert which == ["state", "progress", "log"]
    assert messages.event_message(JobEvent(time=NOW, log="")).time.ToDatetime(UTC) == NOW


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_a_valid_job(path: Path) -> None:
    """The shipped YAML files parse and keep their ranges."""
    assert messages.spec_of(messages.job_from_yaml(yaml.safe_load(path.read_text())))


def test_unknown_and_mistyped_fields_are_named_by_path() -> None:
    """Every misfit of a YAML file is told at once, with what would be right."""
    with pytest.raises(InvalidArgumentError) as caught:
        messages.job_from_yaml(
            {"supervised": {"training": {"stepz": 1, "steps": "many"}}, "priority": {}}
        )
    assert [violation.field for violation in caught.value.violations] == [
        "job.supervised.training.stepz",
        "job.supervised.training.steps",
        "job.priority",
    ]
    assert "steps" in caught.value.violations[0].description


def test_a_data_free_job_is_read_from_yaml_and_written_back() -> None:
    """What is set is kept, what is not has its default, and the kind is told."""
    text = """
    data_free:
      output_model: m
      teachers: [t@production]
      student: {architecture: lenet5, width: 3}
      training: {steps: 10, student_steps: 2}
      generators: {mode: separate, adversary: plain}
      samples: {rule: fixed, memory: 0}
      keep_generators: true
    """
    spec = messages.spec_of(messages.job_from_yaml(yaml.safe_load(text)))
    assert isinstance(spec, DataFreeSpec)
    assert (spec.student.width, spec.training.steps, spec.samples.memory) == (3, 10, 0)
    assert (spec.generators.mode, spec.generators.decay) == ("separate", 0.95)
    message = messages.job_message(Job(id="a" * 20, spec=spec, create_time=NOW))
    assert message.kind == job_pb2.JOB_KIND_DATA_FREE
    assert message.data_free.student.architecture == "lenet5"
    assert messages.spec_of(message) == spec


@pytest.mark.parametrize("field", ["dataset", "data", "images"])
def test_a_data_free_job_takes_no_data(field: str) -> None:
    """Whoever names data is told by the field's path that there is no place for it."""
    values = {"output_model": "m", "teachers": ["t"], field: "d@1"}
    with pytest.raises(InvalidArgumentError) as caught:
        messages.job_from_yaml({"data_free": values})
    (violation,) = caught.value.violations
    assert violation.field == f"job.data_free.{field}"
    assert "a data-free job takes no data" in violation.description


def test_other_jobs_are_not_told_about_data() -> None:
    """Where data belongs, a misspelt field is just a misspelt field."""
    with pytest.raises(InvalidArgumentError, match="images: is not a field; there are"):
        messages.job_from_yaml({"supervised": {"images": "d"}})


def test_values_out_of_range_are_named_with_the_range() -> None:
    """Lists show the index; numbers show the limit and the value."""
    job = messages.job_from_yaml(
        {
            "multi_teacher": {
                "dataset": "d",
                "output_model": "m",
                "teachers": ["ok", "Not Ok"],
                "temperature": 0.1,
            }
        }
    )
    with pytest.raises(InvalidArgumentError) as caught:
        messages.spec_of(job)
    found = {violation.field: violation.description for violation in caught.value.violations}
    assert set(found) == {"job.multi_teacher.teachers[1]", "job.multi_teacher.temperature"}
    assert "0.5" in found["job.multi_teacher.temperature"]


def test_two_specs_in_one_job_are_refused() -> None:
    """The error names both."""
    with pytest.raises(InvalidArgumentError, match="supervised, multi_teacher"):
        messages.job_from_yaml({"supervised": {}, "multi_teacher": {}})


def test_a_job_without_a_spec_says_what_to_set() -> None:
    """The error lists the kinds there are."""
    with pytest.raises(InvalidArgumentError, match="supervised, multi_teacher, data_free"):
        messages.spec_of(job_pb2.Job())


def test_what_a_later_version_records_breaks_no_message() -> None:
    """During an upgrade a record and its parts may say more than the API of before."""
    job = Job(
        id="a" * 20,
        spec=SPECS[0],
        create_time=NOW,
        state=JobState.FAILED,
        progress=Progress(stage="training", step=1, steps=2),
        error=JobError(reason="R", message="m", hint="h"),
    )
    record = json.loads(job.model_dump_json())
    for part in (record, record["progress"], record["error"]):
        part["later"] = 3
    read = Job.model_validate_json(json.dumps(record))
    assert messages.job_message(read) == messages.job_message(job)
    event = JobEvent(time=NOW, progress=job.progress)
    told = json.loads(event.model_dump_json())
    told["progress"]["later"] = 3
    later = JobEvent.model_validate_json(json.dumps(told))
    assert messages.event_message(later) == messages.event_message(event)


@pytest.mark.parametrize(
    "changes",
    [
        {"step": 2**31},
        {"step": -1},
        {"steps": 10**400},
        {"eta_seconds": float("inf")},
        {"eta_seconds": float("nan")},
        {"stage": "s" * 101},
    ],
    ids=str,
)
def test_progress_that_the_api_cannot_tell_is_none(changes: dict[str, object]) -> None:
    """A trainer runs foreign programs: what it says must not break those who read it."""
    with pytest.raises(ValidationError):
        Progress.model_validate({"stage": "training", **changes})

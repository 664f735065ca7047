"""What keeps a job from being accepted."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import manifests
from fakes import MemoryObjects
from histill.core.catalog import DATASETS, MODELS
from histill.core.errors import InvalidArgumentError, NotFoundError
from histill.core.jobs import JobKind
from histill.core.messages import job_from_yaml
from histill.jobs.admission import accepted
from histill.jobs.known import Known

if TYPE_CHECKING:
    from histill.core.jobs import Job
    from histill.core.manifests import ModelManifest

POOLS = ("cpu", "gpu")
LENET = {"architecture": "lenet5", "width": 3}


def teacher(name: str, **changes: Any) -> ModelManifest:
    return manifests.model(name=name, network=None, **changes)


def ask(spec: dict[str, Any], *teachers: ModelManifest) -> Job:
    objects = MemoryObjects()
    for each in teachers:
        objects.put(MODELS.manifest_key(each.name, 1), each.model_dump_json().encode())
    blobs = manifests.dataset().model_dump_json().encode()
    objects.put(DATASETS.manifest_key("blobs", 1), blobs)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return accepted(
        job_from_yaml(spec),
        "",
        project="default",
        pools=POOLS,
        find=partial(Known(objects).find, "default"),
        clock=lambda: now,
    )


def free(*teachers: ModelManifest, **changes: Any) -> Job:
    names = [each.name for each in teachers]
    return ask({"data_free": {"output_model": "m", "teachers": names} | changes}, *teachers)


def refused(*teachers: ModelManifest, **changes: Any) -> dict[str, str]:
    with pytest.raises(InvalidArgumentError) as caught:
        free(*teachers, **changes)
    return {each.field: each.description for each in caught.value.violations}


def test_like_teachers_are_accepted_without_data() -> None:
    """Of either task; programs and networks may be mixed, as may strides."""
    shares = {"blob": 0.2}
    job = free(manifests.model(name="a"), teacher("b", multiple_of=12), class_shares=shares)
    assert job.kind is JobKind.DATA_FREE
    program = manifests.classifier(name="b", network=None)
    assert free(manifests.classifier(name="a"), program, student=LENET)


def test_a_job_goes_to_the_pool_that_it_names_or_to_the_first() -> None:
    """One that is not there is refused, with those that are."""
    spec = {"data_free": {"output_model": "m", "teachers": ["a"]}}
    assert ask(spec, teacher("a")).pool == "cpu"
    assert ask(spec | {"pool": "gpu"}, teacher("a")).pool == "gpu"
    with pytest.raises(InvalidArgumentError) as caught:
        ask(spec | {"pool": "default"}, teacher("a"))
    (violation,) = caught.value.violations
    assert violation.field == "job.pool"
    assert violation.description == "there is no such pool of workers; there are cpu, gpu"


def test_a_missing_teacher_is_named() -> None:
    """By the path of its reference."""
    with pytest.raises(NotFoundError, match=r"job\.data_free\.teachers\[1\]: model x"):
        ask({"data_free": {"output_model": "m", "teachers": ["a", "x"]}}, teacher("a"))


def test_teachers_of_another_task_are_named() -> None:
    """And nothing is said about sizes, which would only follow from it."""
    found = refused(manifests.classifier(name="a"))
    assert found == {
        "job.data_free.teachers[0]": "a@1 is for classification, the student for segmentation"
    }
    found = refused(teacher("a"), student=LENET)
    assert "is for segmentation, the student for classification" in found[
        "job.data_free.teachers[0]"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("classes", {"classes": ("background", "gland")}),
        ("channels", {"channels": 3, "normalization": {"mean": (0,) * 3, "std": (1,) * 3}}),
    ],
)
def test_teachers_that_differ_are_named(name: str, changes: dict[str, Any]) -> None:
    """Without data there is nothing to translate classes or channels by."""
    found = refused(teacher("a"), teacher("b", **changes))
    assert set(found) == {"job.data_free.teachers[1]"}
    assert f"b@1 has other {name} than a@1" in found["job.data_free.teachers[1]"]


def test_samples_must_suit_every_teacher() -> None:
    """The size that was asked for is named, or that which would be needed."""
    found = refused(teacher("a", multiple_of=48), training={"image_size": 64})
    assert found == {
        "job.data_free.training.image_size": "must be a multiple of 48 for a@1; it is 64"
    }
    found = refused(teacher("a", multiple_of=1000), teacher("b", multiple_of=999))
    assert "would have to be 999000" in found["job.data_free.training.image_size"]
    assert "the most is 1024" in found["job.data_free.training.image_size"]


def test_classifiers_must_take_what_the_student_takes() -> None:
    """LeNet-5 takes one size only."""
    found = refused(manifests.classifier(name="a", network=None, image_size=28), student=LENET)
    assert found == {
        "job.data_free.teachers[0]": (
            "a@1 takes images of 28 pixels a side, the student lenet5 of 32"
        )
    }


def test_shares_are_of_the_teachers_classes() -> None:
    """Background has what is left, and other names mean nothing."""
    found = refused(teacher("a"), class_shares={"background": 0.2, "gland": 0.1})
    assert set(found) == {
        "job.data_free.class_shares.background", "job.data_free.class_shares.gland"
    }  # fmt: skip
    assert "is no foreground class of a@1: blob" in found["job.data_free.class_shares.gland"]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"supervised": {"network": LENET}}, "job.supervised.network.architecture"),
        (
            {"multi_teacher": {"teachers": ["a"], "student": LENET}},
            "job.multi_teacher.student.architecture",
        ),
    ],
)
def test_datasets_train_no_classifier(spec: dict[str, Any], field: str) -> None:
    """Their labels are of pixels."""
    ((kind, values),) = spec.items()
    values = values | {"dataset": "blobs", "output_model": "m"}
    with pytest.raises(InvalidArgumentError, match="lenet5 classifies") as caught:
        ask({kind: values}, teacher("a"))
    assert [each.field for each in caught.value.violations] == [field]


def test_a_classifier_teaches_no_segmentation() -> None:
    """A teacher with data must speak about pixels, whatever its classes are called."""
    values = {"dataset": "blobs", "output_model": "m", "teachers": ["a"]}
    classifier = manifests.classifier(name="a", classes=("background", "blob"))
    with pytest.raises(InvalidArgumentError, match=r"teachers\[0\]: a@1 is for classification"):
        ask({"multi_teacher": values}, classifier)


def test_a_memory_that_no_machine_holds_is_refused() -> None:
    """With its size in words, before anything is trained."""
    found = refused(teacher("a"), training={"image_size": 1024}, samples={"memory": 4096})
    assert list(found) == ["job.data_free.samples.memory"]
    assert "GB" in found["job.data_free.samples.memory"]


def test_shares_that_leave_no_background_are_refused() -> None:
    """Also where the teacher's manifest brings a part of them."""
    brings = teacher("a", classes=("background", "blob", "rim"), class_shares={"rim": 0.6})
    found = refused(brings, class_shares={"blob": 0.5})
    assert list(found) == ["job.data_free.class_shares"]

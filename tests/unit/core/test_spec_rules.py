"""What a spec's fields must fulfil together."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

import manifests
from histill.core.errors import InvalidArgumentError
from histill.core.messages import job_from_yaml, spec_of
from histill.core.samples import memory_bytes, sample_side
from histill.core.specs import DataFreeSpec, NetworkSpec

MULTI = {"dataset": "d", "output_model": "m", "teachers": ["a", "b"]}
FREE = {"output_model": "m", "teachers": ["a", "b"]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teachers": ["a", "a"]}, "job.multi_teacher: teachers names one twice"),
        (
            {"supervised_weight": 0, "distillation_weight": 0, "overlap_weight": 0},
            "are all 0: there is nothing to learn",
        ),
        ({"class_maps": {"c": {"classes": {"x": "y"}}}}, "class_maps names c, which is no teacher"),
        (
            {"training": {"patience": 2, "validations": 0}},
            "job.multi_teacher.training: patience needs validations",
        ),
        (
            {"edge_ramp": {"after": 0.5, "until": 0.2}},
            "job.multi_teacher.edge_ramp: until must not",
        ),
    ],
)
def test_fields_that_do_not_go_together_are_told(changes: dict[str, Any], words: str) -> None:
    """The message names the fields, and does not repeat the whole spec."""
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        spec_of(job_from_yaml({"multi_teacher": MULTI | changes}))
    assert "output_model" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teachers": ["a", "a"]}, "job.data_free: teachers names one twice"),
        (
            {"training": {"image_size": 60}},
            "job.data_free: training.image_size must be a multiple of 8, .*; it is 60",
        ),
        (
            {"training": {"image_size": 40}, "student": {"depth": 5}},
            "training.image_size must be a multiple of 16",
        ),
        (
            {"training": {"image_size": 64}, "student": {"architecture": "lenet5"}},
            "training.image_size must be 32 for a student that is lenet5; it is 64",
        ),
        (
            {"class_shares": {"x": 0.1}, "student": {"architecture": "lenet5"}},
            "class_shares are shares of pixels; the student classifies images",
        ),
        ({"class_shares": {"x": 0.5, "y": 0.5}}, "class_shares sum to 1 or more"),
        (
            {"student": {"architecture": "lenet5", "norm": "instance"}},
            "job.data_free.student: norm instance is not for lenet5",
        ),
        ({"class_shares": {"x": 0.0}}, "job.data_free.class_shares.x: .*0.0001"),
        ({"teachers": []}, "job.data_free.teachers: field required"),
        ({"student": {"width": 2}}, "job.data_free.student.width: .*greater than or equal to 3"),
    ],
)
def test_data_free_fields_that_do_not_go_together_are_told(
    changes: dict[str, Any], words: str
) -> None:
    """The message names the field and what it would have to be."""
    with pytest.raises(InvalidArgumentError, match=words):
        spec_of(job_from_yaml({"data_free": FREE | changes}))


def test_a_family_has_its_task_and_stride() -> None:
    """LeNet-5 classifies images of one side; the others segment multiples of their stride."""
    lenet = NetworkSpec(architecture="lenet5", width=3, depth=2)
    assert (lenet.task, lenet.stride) == ("classification", 32)
    unet = NetworkSpec(width=3, depth=5)
    assert (unet.task, unet.stride) == ("segmentation", 16)


@pytest.mark.parametrize(
    ("asked", "strides", "side"),
    [(0, [1], 64), (0, [8, 128], 128), (0, [12, 1], 72), (96, [1], 96)],
)
def test_samples_are_as_large_as_all_networks_take(
    asked: int, strides: list[int], side: int
) -> None:
    """As asked for; else the least multiple of every stride from 64 on."""
    spec = DataFreeSpec.model_validate(FREE | {"training": {"image_size": asked}})
    teachers = [manifests.model(network=None, multiple_of=stride) for stride in strides]
    assert sample_side(spec, teachers) == side


def test_samples_for_classifiers_are_as_large_as_their_images() -> None:
    """The side that the teacher was trained on, of which there is no choice."""
    lenet = NetworkSpec(architecture="lenet5")
    spec = DataFreeSpec.model_validate(FREE | {"student": lenet})
    assert sample_side(spec, [manifests.classifier()]) == 32


@pytest.mark.parametrize(("memory", "fits"), [(0, True), (31, False), (32, True)])
def test_a_memory_holds_a_batch_or_nothing(memory: int, *, fits: bool) -> None:
    """A smaller one could never be drawn from."""
    values = FREE | {"samples": {"memory": memory}, "training": {"batch_size": 32}}
    if fits:
        assert DataFreeSpec.model_validate(values)
    else:
        with pytest.raises(ValidationError, match=r"samples\.memory must be 0 or at least"):
            DataFreeSpec.model_validate(values)


def test_remembered_samples_are_weighed_as_they_are_kept() -> None:
    """A byte a channel and pixel, two for each of the teacher's answers."""
    spec = DataFreeSpec.model_validate(FREE | {"samples": {"memory": 100}})
    teacher = manifests.model(network=None, channels=3)
    assert memory_bytes(spec, [teacher]) == 100 * 64 * 64 * (3 + 2 * len(teacher.classes))
    lenet = DataFreeSpec.model_validate(FREE | {"student": NetworkSpec(architecture="lenet5")})
    classes = len(manifests.classifier().classes)
    per_sample = manifests.classifier().channels * 32 * 32 + 2 * classes
    assert memory_bytes(lenet, [manifests.classifier()]) == 4096 * per_sample

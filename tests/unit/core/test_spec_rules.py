"""What a spec's fields must fulfil together."""

from __future__ import annotations

from typing import Any

import pytest

from histill.core.errors import InvalidArgumentError
from histill.core.messages import job_from_yaml, spec_of

MULTI = {"dataset": "d", "output_model": "m", "teachers": ["a", "b"]}


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

"""The API's comments tell the defaults and ranges that the code enforces."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from histill.core import specs

PROTO = Path(__file__).parents[3] / "protos/histill/api/distillation/v1/spec.proto"
MODELS: list[type[BaseModel]] = [
    specs.NetworkSpec,
    specs.TrainingSpec,
    specs.Ramp,
    specs.BoundaryWeighting,
    specs.TeacherWeighting,
    specs.ClassMap,
    specs.SupervisedSpec,
    specs.MultiTeacherSpec,
    specs.DataFreeTraining,
    specs.GeneratorsSpec,
    specs.SampleSharing,
    specs.DataFreeSpec,
]


def documented(message: str) -> dict[str, str]:
    """The "Default: … Range: …" line of each field of a message that has one."""
    body = re.search(
        rf"^message {message} {{\n(.*?)^}}", PROTO.read_text(), re.MULTILINE | re.DOTALL
    )
    assert body is not None
    found, comment = {}, ""
    for line in body[1].splitlines():
        if line.strip().startswith("//"):
            comment += line.strip().removeprefix("//") + "\n"
        elif field := re.search(r"(\w+) = \d+;", line):
            stated = re.search(r"^ (Default: .*)$", comment, re.MULTILINE)
            found[field[1]] = stated[1] if stated else ""
            comment = ""
    return found


def enforced(model: type[BaseModel]) -> dict[str, str]:
    """The same line as the code would write it."""
    lines = {}
    for name, field in model.model_fields.items():
        if field.is_required() or isinstance(field.default, BaseModel | dict):
            lines[name] = ""
            continue
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        limits = {
            key: getattr(rule, key)
            for rule in field.metadata
            for key in ("ge", "le")
            if hasattr(rule, key)
        }
        span = f" Range: [{limits['ge']}, {limits['le']}]." if limits else ""
        lines[name] = f"Default: {default}.{span}"
    return lines


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_comments_state_what_is_enforced(model: type[BaseModel]) -> None:
    """Field for field, the documented default and range are those of the code."""
    assert documented(model.__name__) == enforced(model)

"""Which calls the audit log tells of, and in which form a fact may stand in it.

Fields are a closed set with a form each: a value of another form, be it a file's name or a
patient's, is replaced by ``(other)``.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from histill.core.names import ALIAS_PATTERN, NAME_PATTERN
from histill.rpc.roles import OPEN_PREFIXES

Kind = Literal["write", "inference", "export"]
# Every other method changes something: one that is new is recorded before anybody thinks of it.
_READS = re.compile(
    r"(Get|List|Watch|Server)\w*|Model(Ready|Metadata|Config|Statistics)|RepositoryIndex"
)
_INFERENCES = frozenset({"Segment", "SegmentLarge", "ModelInfer", "ModelStreamInfer"})
# They change nothing, but take something out of the house.
_EXPORTS = frozenset({"DownloadModel", "GetSamples"})

_OTHER = "(other)"
# No name is longer, and a caller must not write megabytes into the log.
_LONGEST = 200
_RESOURCE = re.compile(rf"([a-z]{{1,20}}/){{0,4}}{NAME_PATTERN}(@({ALIAS_PATTERN}|[0-9]{{1,9}}))?")
_ID = re.compile(r"[A-Za-z0-9._:@/|+=-]{0,128}")
_FORMS = {
    "resource": _RESOURCE,
    "model": _RESOURCE,
    "alias": re.compile(ALIAS_PATTERN),
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "why": re.compile(r"[A-Za-z_]{1,60}"),
    "code": re.compile(r"[A-Z_]{1,30}"),
    "caller": _ID,
    "project": _RESOURCE,
    "role": re.compile(r"[a-z]{1,20}"),
    "request_id": _ID,
}


def kind_of(method: str) -> Kind | None:
    """What a method does, for the log; ``None`` for what is not recorded.

    Args:
        method: Full method, ``/package.Service/Method``.
    """
    if method.startswith(OPEN_PREFIXES):
        return None
    name = method.rpartition("/")[2]
    if name in _INFERENCES:
        return "inference"
    if name in _EXPORTS:
        return "export"
    return None if _READS.fullmatch(name) else "write"


def facts_of(message: Any) -> dict[str, object]:
    """What a message names: a job, a model, a dataset, an alias."""
    fields = message.DESCRIPTOR.fields_by_name
    for inner in ("header", "job", "dataset", "key"):
        if inner in fields and fields[inner].message_type and message.HasField(inner):
            return facts_of(getattr(message, inner))
    if "model" in fields and fields["model"].message_type:
        return facts_of(message.model)

    def text(*names: str) -> str:
        known = (getattr(message, name) for name in names if name in fields)
        return next((each for each in known if isinstance(each, str) and each), "")

    model = text("model", "model_name")
    if model and (at := text("model_version")):
        model = f"{model}@{at}"
    resource = text("name", "reference", "dataset_name", "key_id")
    return {"model": model, "resource": resource, "alias": text("alias")}


def formed(name: str, value: object) -> object:
    """A fact in its form; what is of another form is told as that, and not as it is."""
    if name not in _FORMS:
        return int(value) if isinstance(value, int) and name.startswith("bytes_") else _OTHER
    if not isinstance(value, str) or len(value) > _LONGEST:
        return _OTHER
    return value if _FORMS[name].fullmatch(value) else _OTHER

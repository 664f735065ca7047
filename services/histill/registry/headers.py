"""Headers of uploads as manifests, with every field checked."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from histill.core.errors import FieldViolation, InvalidArgumentError
from histill.core.manifests import ONNX, WEIGHTS, DatasetManifest, ModelManifest, Normalization
from histill.core.messages import label_kind_of, role_of, violations
from histill.core.names import check_name
from histill.core.specs import NetworkSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from histill.api.registry.v1 import registry_service_pb2 as pb
    from histill.core.manifests import ArtifactFile

M = TypeVar("M", ModelManifest, DatasetManifest)
MODEL_FILES = frozenset({WEIGHTS, ONNX, "model.int8.onnx", "card.md"})


def model_manifest(
    header: pb.ModelHeader, files: Sequence[ArtifactFile], *, now: datetime
) -> ModelManifest:
    """A model's header as a manifest without version and parameter count.

    Raises:
        InvalidArgumentError: Names each wrong field.
    """
    check_name(header.model_name, field="header.model_name")
    paths = {file.path for file in files}
    if WEIGHTS not in paths or not paths <= MODEL_FILES:
        raise InvalidArgumentError.of(
            "header.files", f"must hold {WEIGHTS} and may hold {', '.join(sorted(MODEL_FILES))}"
        )
    wrong = [
        FieldViolation(f"header.{name}", f"must hold {header.channels} values, one a channel")
        for name, values in (("mean", header.mean), ("std", header.std))
        if len(values) != header.channels
    ]
    if not all(value > 0 for value in header.std):
        wrong.append(FieldViolation("header.std", "must be positive"))
    for name, numbers in (
        ("mean", header.mean), ("std", header.std), ("metrics", header.metrics.values())
    ):  # fmt: skip
        if not all(map(math.isfinite, numbers)):
            wrong.append(FieldViolation(f"header.{name}", "must hold finite numbers"))
    if wrong:
        raise InvalidArgumentError(*wrong)
    return _built(
        ModelManifest,
        name=header.model_name,
        version=0,
        role=role_of(header.role, field="header.role"),
        network=_network(header.network_json),
        channels=header.channels,
        classes=list(header.classes),
        normalization=Normalization(mean=tuple(header.mean), std=tuple(header.std)),
        metrics=dict(header.metrics),
        create_time=now,
        files=files,
    )


def _network(text: str) -> NetworkSpec:
    try:
        return NetworkSpec.model_validate(json.loads(text or "{}"))
    except ValidationError as exc:
        raise InvalidArgumentError(*violations(exc, "header.network_json")) from exc
    except (ValueError, RecursionError) as exc:
        raise InvalidArgumentError.of("header.network_json", f"is not JSON: {exc}") from exc


def dataset_manifest(
    header: pb.DatasetHeader, files: Sequence[ArtifactFile], *, now: datetime
) -> DatasetManifest:
    """A dataset's header as a manifest without version.

    Raises:
        InvalidArgumentError: Names each wrong field.
    """
    check_name(header.dataset_name, field="header.dataset_name")
    for split in ("train", "val"):
        if header.splits.get(split, 0) < 1:
            raise InvalidArgumentError.of(f"header.splits.{split}", "must count at least one image")
    return _built(
        DatasetManifest,
        name=header.dataset_name,
        version=0,
        classes=list(header.classes),
        channels=header.channels,
        label_kind=label_kind_of(header.label_kind, field="header.label_kind"),
        splits=dict(header.splits),
        description=header.description,
        create_time=now,
        files=files,
    )


def _built(kind: type[M], **values: Any) -> M:
    try:
        return kind.model_validate(values)
    except ValidationError as exc:
        raise InvalidArgumentError(*violations(exc, "header")) from exc

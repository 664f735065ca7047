"""Upgrades from what was released: no field changes that Kubernetes refuses to change."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from deploy.immutable import forbidden_changes, is_hook
from deploy.render import CHART, VARIANTS, identity, read_all, rendered
from deploy.writing import RELEASED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deploy.render import Object

KEPT = sorted(RELEASED.glob("*/*.yaml"))


def read(path: Path) -> list[Object]:
    return read_all(path.read_text())


def test_the_chart_has_releases_to_upgrade_from() -> None:
    """Each release keeps a render of every variant that it had: scripts/chart release."""
    assert KEPT
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    newest = max(path.parent.name for path in KEPT)
    assert _number(version) >= _number(newest)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in version.split("-", maxsplit=1)[0].split("."))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_upgrade_changes_nothing_that_may_not_change(path: Path) -> None:
    """From every released version to this one, with the same values."""
    if path.stem in VARIANTS:
        assert forbidden_changes(read(path), rendered(path.stem).objects) == []


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_upgrade_keeps_every_volume(path: Path) -> None:
    """A StatefulSet of another name would start with empty disks, a claim would be removed."""
    if path.stem in VARIANTS:
        kinds = {"StatefulSet", "PersistentVolumeClaim"}
        before = {identity(each) for each in read(path) if each["kind"] in kinds}
        assert before <= {identity(each) for each in rendered(path.stem).objects}


def change(path: str, value: object) -> Callable[[dict[str, Any]], object]:
    """Sets a field, dots leading to it."""

    def apply(item: dict[str, Any]) -> None:
        *steps, last = path.split(".")
        for step in steps:
            item = item.setdefault(step, {})
        item[last] = value

    return apply


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", "spec.selector", {"matchLabels": {"other": "label"}}),
        ("StatefulSet", "spec.selector", {"matchLabels": {"other": "label"}}),
        ("StatefulSet", "spec.serviceName", "other"),
        ("StatefulSet", "spec.podManagementPolicy", "OrderedReady"),
        ("StatefulSet", "spec.volumeClaimTemplates", [{"metadata": {"name": "other"}}]),
        ("Service", "spec.clusterIP", "None"),
        ("Service", "spec.type", "ExternalName"),
        ("RoleBinding", "roleRef", {"kind": "Role", "name": "other"}),
        ("Secret", "type", "kubernetes.io/tls"),
    ],
)
def test_a_forbidden_change_of_the_chart_is_seen(kind: str, path: str, value: object) -> None:
    """Each change, made to an object of a render, is told with the object's name."""
    before = list(rendered("default").objects)
    at = next(
        at
        for at, each in enumerate(before)
        if each["kind"] == kind
        and not is_hook(each)
        and each.get("spec", {}).get("clusterIP") != "None"
    )
    after = copy.deepcopy(before)
    change(path, value)(after[at])
    assert forbidden_changes(before, before) == []
    found = forbidden_changes(before, after)
    assert len(found) == 1
    assert before[at]["metadata"]["name"] in found[0]


CLAIM = yaml.safe_load("""
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: disk}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}
""")
JOB = yaml.safe_load("""
apiVersion: batch/v1
kind: Job
metadata: {name: setup, annotations: {}}
spec: {template: {spec: {containers: [{name: setup, image: "histill/cli:1"}]}}}
""")
CONSTANT = yaml.safe_load("""
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
immutable: true
data: {a: b}
""")


@pytest.mark.parametrize(
    ("item", "path", "value", "refused"),
    [
        (CLAIM, "spec.storageClassName", "fast", True),
        (CLAIM, "spec.resources.requests.storage", "1Gi", True),
        (CLAIM, "spec.resources.requests.storage", "3000Mi", False),
        (JOB, "spec.template", {"spec": {"containers": []}}, True),
        (JOB, "spec.ttlSecondsAfterFinished", 60, False),
        (JOB, "metadata.labels", {"a": "b"}, False),
        (CONSTANT, "data.a", "c", True),
        (CONSTANT, "immutable", False, True),
        (CONSTANT, "metadata.labels", {"a": "b"}, False),
    ],
)
def test_each_kind_has_its_own_fixed_fields(
    item: Object, path: str, value: object, *, refused: bool
) -> None:
    """Claims grow and never shrink; a Job's pods and immutable data stay; labels may change."""
    after = copy.deepcopy(item)
    change(path, value)(after)
    assert bool(forbidden_changes([item], [after])) is refused


def test_hooks_are_made_anew() -> None:
    """Helm removes a hook before it makes it again, so that nothing of it is fixed."""
    hook = JOB | {"metadata": {"name": "setup", "annotations": {"helm.sh/hook": "pre-upgrade"}}}
    assert forbidden_changes([hook], [hook | {"spec": {"template": {}}}]) == []


def test_a_replica_count_an_image_and_a_grace_may_change() -> None:
    """What upgrades are for."""
    before = list(rendered("default").objects)
    after = copy.deepcopy(before)
    for each in after:
        if each["kind"] in {"Deployment", "StatefulSet"}:
            each["spec"]["replicas"] = 7
            each["spec"]["template"]["spec"]["containers"][0]["image"] = "histill/other:2"
            each["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 999
    assert forbidden_changes(before, after) == []

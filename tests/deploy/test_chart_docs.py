"""What docs/kubernetes.md says, against the chart."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from deploy.kinds import problems_of
from deploy.render import CHART, ROOT, VARIANTS, render, rendered
from deploy.workloads import workloads

if TYPE_CHECKING:
    from deploy.render import Object, Render

TEXT = (ROOT / "docs" / "kubernetes.md").read_text()
BLOCKS = [yaml.safe_load(each) for each in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
KIND_CPUS = 1.5
_UNITS = {"": 1.0, "m": 1e-3, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
_QUANTITY = re.compile(r"([\d.]+)(\D*)")


def _examples() -> list[Object]:
    return [each for each in BLOCKS if set(each) <= set(VALUES)]


def requested(found: Render) -> dict[str, float]:
    """What all pods that stay ask for, by resource."""
    sums: dict[str, float] = {}
    for workload in workloads(found.objects):
        if workload.owner["kind"] in {"Deployment", "StatefulSet"}:
            for container in workload.containers:
                for name, amount in container["resources"]["requests"].items():
                    pods = workload.owner["spec"].get("replicas", 1)
                    sums[name] = sums.get(name, 0.0) + pods * _amount(amount)
    return sums


def _amount(quantity: object) -> float:
    match = _QUANTITY.fullmatch(str(quantity))
    assert match, quantity
    return float(match[1]) * _UNITS[match[2]]


@pytest.mark.parametrize(("variant", "words"), [("default", " processors"), ("kind", "")])
def test_what_a_system_asks_for_is_told(variant: str, words: str) -> None:
    """Processors and memory of all pods: who has less sees some wait for ever."""
    sums = requested(rendered(variant))
    assert f"ask for {sums['cpu']:.3g}{words} and {sums['memory'] / 2**30:.1f} GiB" in TEXT


def test_the_example_for_a_laptop_fits_one() -> None:
    """It asks for less than two processors leave beside Kubernetes' own pods."""
    assert requested(rendered("kind"))["cpu"] <= KIND_CPUS


@pytest.mark.parametrize("values", _examples(), ids=lambda each: next(iter(each)))
def test_examples_of_values_are_values(values: Object) -> None:
    """Each is taken as it stands: by the schema, the templates and the schemas of kinds."""
    assert problems_of(render(values).objects, "1.29") == []


def test_examples_of_objects_are_what_their_kinds_may_be() -> None:
    """And the Services that they name are the chart's."""
    objects = [each for each in BLOCKS if "kind" in each]
    assert len(_examples()) + len(objects) == len(BLOCKS) - 1, "one is of prometheus-adapter"
    assert objects
    assert problems_of(objects, "1.29") == []
    found = render({}, release="histill", namespace="histill").of_kind("Service")
    services = {each["metadata"]["name"] for each in found}
    for each in objects:
        assert {target["name"] for target in each["spec"]["targetRefs"]} <= services
        assert each["spec"]["validation"]["hostname"].partition(".")[0] in services


def test_names_in_commands_are_those_of_a_release_called_histill() -> None:
    """Workloads and Secrets that kubectl is told, in the namespace of the examples."""
    found = [
        each
        for variant in VARIANTS
        for each in render(
            yaml.safe_load((CHART / "ci" / f"{variant}-values.yaml").read_text()) or {},
            release="histill",
            namespace="histill",
        ).objects
    ]
    names = {f"{each['kind'].lower()} {each['metadata']['name']}" for each in found}
    told = re.findall(r"\b(deployment|statefulset|secret)[/ ](histill-\S+?)(?=[\s`.,])", TEXT)
    assert len(told) > 2
    assert {" ".join(each) for each in told} <= names
    commands = re.findall(r"`?(kubectl [^`\n]+)", TEXT)
    outside = ("kubectl create namespace", "kubectl get --raw")
    assert [
        each for each in commands if " -n histill " not in each and not each.startswith(outside)
    ] == []

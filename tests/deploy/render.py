"""The one place where tests and ``scripts/chart`` render the chart, by Helm's own engine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "histill"
RELEASE, NAMESPACE = "demo", "clinic"
_NOTES = "NOTES.txt"

Object = dict[str, Any]
Values = dict[str, Any]


@dataclass(frozen=True)
class Render:
    """What one set of values gives.

    Attributes:
        objects: All manifests, hooks too, in the order of their templates' names.
        sources: The template of each.
        notes: What ``helm install`` prints at its end.
    """

    objects: tuple[Object, ...]
    sources: tuple[str, ...]
    notes: str

    def of_kind(self, *kinds: str) -> list[Object]:
        """The objects of some kinds."""
        return [each for each in self.objects if each["kind"] in kinds]


def variant_files(chart: Path = CHART) -> dict[str, Path]:
    """Files of values that are tested, by the variant's name."""
    return {path.name.removesuffix("-values.yaml"): path for path in _variant_paths(chart)}


def _variant_paths(chart: Path) -> list[Path]:
    return sorted(chart.glob("ci/*-values.yaml"))


def variants(chart: Path = CHART) -> dict[str, Values]:
    """Every tested set of values by name; ``default`` sets nothing."""
    read = {name: yaml.safe_load(path.read_text()) for name, path in variant_files(chart).items()}
    return {"default": {}} | {name: values or {} for name, values in read.items()}


VARIANTS = tuple(variants())


@cache
def rendered(variant: str) -> Render:
    """A variant of the chart, rendered once in each process."""
    return render(variants()[variant])


def render(values: Values, *, release: str = RELEASE, namespace: str = NAMESPACE) -> Render:
    """Renders the chart without any cluster.

    Raises:
        helm_python.HelmError: The values are refused, by the schema or by a template.
    """
    with helm_python.Chart.load(CHART) as loaded:
        # Rendering alone does not look at the schema; installing does, and so does this.
        loaded.validate_schema(loaded.merge_values(values))
        files = loaded.render(values, name=release, namespace=namespace)
    notes = "".join(text for name, text in files.items() if name.endswith(_NOTES))
    found = [
        (item, name.partition("/")[2])
        for name, text in sorted(files.items())
        if not name.endswith(_NOTES)
        for item in read_all(text)
    ]
    return Render(tuple(item for item, _ in found), tuple(name for _, name in found), notes)


def read_all(text: str) -> list[Object]:
    """Every manifest of a YAML text."""
    return [each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each is not None]


def identity(item: Object) -> tuple[str, str, str]:
    """What makes an object the same one over releases: group, kind and name."""
    group, slash, _ = item["apiVersion"].partition("/")
    return (group if slash else "", item["kind"], item["metadata"]["name"])


def told(item: Object) -> str:
    """An object's kind and name, for people."""
    return f"{item['kind']} {item['metadata']['name']}"

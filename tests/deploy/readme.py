"""The chart's README: an introduction by hand, and a table of every value."""

from __future__ import annotations

from itertools import groupby
from string import Template
from typing import TYPE_CHECKING

import yaml

from deploy.render import CHART, ROOT, variant_files
from deploy.values_file import Value, documented_values

if TYPE_CHECKING:
    from pathlib import Path

INTRODUCTION = ROOT / "scripts" / "chart-readme.md"
README = "README.md"


def readme(chart: Path = CHART) -> str:
    """The README that belongs to the chart as it is."""
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    values = documented_values((chart / "values.yaml").read_text())
    sections = [
        f"### {part or 'All parts'}\n{_table(list(found))}"
        for part, found in groupby(values, key=lambda each: "".join(each.path[:-1][:1]))
    ]
    variants = [f"| `ci/{path.name}` | {_first(path)} |" for path in variant_files(chart).values()]
    return Template(INTRODUCTION.read_text()).substitute(
        name=about["name"],
        description=about["description"].strip(),
        version=about["version"],
        app_version=about["appVersion"],
        kubernetes=about["kubeVersion"],
        variants="\n".join(["| values | what they show |", "|---|---|", *variants]),
        values="\n".join(sections),
    )


def _first(path: Path) -> str:
    """The comment at a file's beginning."""
    lines = path.read_text().splitlines()
    count = next((at for at, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.lstrip("#").strip() for line in lines[:count])


def _table(values: list[Value]) -> str:
    rows = [
        f"| `{'.'.join(each.path)}` | {each.kind} | `{_cell(each.default)}` | {_cell(each.about)} |"
        for each in values
    ]
    return "\n".join(["| key | type | default | what it does |", "|---|---|---|---|", *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

"""Rules, dashboards and runbooks as tests look at them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILES = ROOT / "deploy" / "helm" / "histill" / "files"
RULES = sorted((FILES / "prometheus").glob("*.yaml"))
CASES = sorted((Path(__file__).parent / "monitoring").glob("*.yaml"))
RUNBOOKS = ROOT / "docs" / "runbooks.md"
DASHBOARDS = sorted((FILES / "grafana").glob("*.json"))

_STRINGS = re.compile(r'"[^"]*"')
_GROUPINGS = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_RANGES = re.compile(r"\[[^\]]*\]")
_SELECTOR = re.compile(r"(?<![\w:\[.])([a-zA-Z_:][\w:]*)(\s*\{[^}]*\})?(?!\s*\(|[\w:])")
_WORDS = frozenset({"and", "or", "unless", "bool", "offset"})


@dataclass(frozen=True)
class Rule:
    """A rule of Prometheus; alerts have annotations.

    Attributes:
        wait: For how long an alert's condition must last.
    """

    name: str
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]
    alert: bool
    wait: str

    @property
    def key(self) -> str:
        """Its name, and of which objective it is, where several have one name."""
        slo = "" if self.alert else self.labels.get("slo", "")
        return f"{self.name} {slo}".strip()


def rules() -> list[Rule]:
    """All of them, in their order."""
    return [
        Rule(
            each.get("alert") or each["record"],
            each["expr"],
            each.get("labels", {}),
            each.get("annotations", {}),
            "alert" in each,
            each.get("for", ""),
        )
        for path in RULES
        for group in yaml.safe_load(path.read_text())["groups"]
        for each in group["rules"]
    ]


def alerts() -> list[Rule]:
    """Those that alert."""
    return [rule for rule in rules() if rule.alert]


def selectors(expr: str) -> list[str]:
    """The series that a query asks for: names, with what is asked of their labels."""
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(found[0])
        return f'"{len(kept) - 1}"'

    bare = _RANGES.sub("", _GROUPINGS.sub(" ", _STRINGS.sub(keep, expr)))
    found = [each for each in _SELECTOR.finditer(bare) if each[1] not in _WORDS]
    return [re.sub(r'"(\d+)"', lambda number: kept[int(number[1])], each[0]) for each in found]


def without_thresholds(expr: str) -> str:
    """What an alert looks at, whether it fires or not.

    Comparisons say 0 or 1 instead of leaving series out, what must be missing must be there, and
    windows that are looked at now and then are looked at every second.
    """
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(found[0])
        return f"@{len(kept) - 1}@"

    bare = re.sub(r"\{[^}]*\}", keep, expr)
    bare = re.sub(r"(?<![<>=!])(>=|<=|==|!=|>|<)", r"\1 bool ", bare)
    bare = re.sub(r"\bunless\b", "and", bare).replace("absent_over_time(", "last_over_time(")
    bare = re.sub(r":\d+m\]", ":1s]", bare)
    return re.sub(r"@(\d+)@", lambda number: kept[int(number[1])], bare)


def panels(path: Path) -> list[dict[str, Any]]:
    """The panels of a dashboard, without headings."""
    return [each for each in json.loads(path.read_text())["panels"] if each["type"] != "row"]

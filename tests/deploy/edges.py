"""Both sides of each threshold, played through by promtool, and rules that are wrong on purpose.

A case names series, and when for whom an alert fires or a recorded series has which value. It is
asked of the rule as it is, and of its wrong variants, which stand beside it in the file of rules
under names with numbers: a variant that no case tells from the rule is a threshold that nothing
looks at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from deploy.mutants import mutants

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deploy.monitored import Rule

_FOLDER = Path(__file__).parent / "monitoring" / "edges"
_SHARE = 0.04  # by which a recorded value may differ


@dataclass(frozen=True)
class Edge:
    """One case of a rule.

    Attributes:
        rule: Which; see ``Rule.key``.
        name: What happens.
        series: Values by series, as promtool writes them.
        silent: When it does not fire.
        fires: When it fires, and with which labels.
        values: When it has which values, by labels; of recording rules.
        interval: Between two values.
        evaluation: Between two looks; as ``interval`` if empty.
    """

    rule: str
    name: str
    series: Mapping[str, str]
    silent: Sequence[str] = ()
    fires: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    interval: str = "1m"
    evaluation: str = ""


def read() -> list[Edge]:
    """Those that are written down."""
    found = [
        Edge(rule, **case)
        for path in sorted(_FOLDER.glob("*.yaml"))
        for rule, cases in yaml.safe_load(path.read_text()).items()
        for case in cases
    ]
    # 0x10 is ten zeros for promtool, and a number for YAML unless it is quoted.
    numbers = [edge.name for edge in found if not all(map(_is_text, edge.series.values()))]
    assert not numbers, f"quote the values in {numbers}"
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str)


@dataclass(frozen=True)
class Played:
    """A rule with its variants and its cases, as files that promtool takes.

    Attributes:
        rules: The file of it and of its variants.
        tests: The files of cases.
        variants: What is wrong with each variant, by its number; 0 is the rule itself.
    """

    rule: Rule
    rules: Path
    tests: tuple[Path, ...]
    variants: Mapping[int, str]

    def name(self, number: int) -> str:
        """Of a variant."""
        return f"{self.rule.name}__{number}__"


def written(rule: Rule, edges: Sequence[Edge], folder: Path) -> Played:
    """Writes a rule, its variants and its cases into a folder."""
    wrong = list(mutants(rule))
    played = Played(
        rule,
        folder / "rules.yaml",
        tuple(folder / f"{place}.yaml" for place, _ in enumerate(edges)),
        dict(enumerate(["nothing", *(name for name, _ in wrong)])),
    )
    all_of_them = [rule, *(each for _, each in wrong)]
    made = [_rule(each, played.name(number)) for number, each in enumerate(all_of_them)]
    played.rules.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": made}]}))
    for path, edge in zip(played.tests, edges, strict=True):
        path.write_text(yaml.safe_dump(_file(edge, played)))
    return played


def _rule(rule: Rule, name: str) -> dict[str, Any]:
    kind = {"alert": name} if rule.alert else {"record": name}
    wait = {"for": rule.wait} if rule.wait else {}
    return kind | wait | {"expr": rule.expr, "labels": rule.labels}


def _file(edge: Edge, played: Played) -> dict[str, Any]:
    looks: list[dict[str, Any]] = []
    asked: list[dict[str, Any]] = []
    for number in played.variants:
        name = played.name(number)
        fired = {**dict.fromkeys(edge.silent, ()), **edge.fires}
        looks += [
            {
                "alertname": name,
                "eval_time": at,
                "exp_alerts": [
                    {"exp_labels": {**played.rule.labels, **labels}} for labels in firing
                ],
            }
            for at, firing in fired.items()
        ]
        asked += [
            {
                "expr": _is_about(f"{name}{labels}", value),
                "eval_time": at,
                "exp_samples": [{"value": 1}],
            }
            for at, values in edge.values.items()
            for labels, value in values.items()
        ]
    return {
        "rule_files": [str(played.rules)],
        "evaluation_interval": edge.evaluation or edge.interval,
        "tests": [
            {
                "name": edge.name,
                "interval": edge.interval,
                "input_series": [
                    {"series": series, "values": values} for series, values in edge.series.items()
                ],
                "alert_rule_test": looks,
                "promql_expr_test": asked,
            }
        ],
    }


def _is_about(series: str, value: float) -> str:
    """1 if the only series there is has this value, or nearly: ranges include an end or not."""
    low, high = sorted((value * (1 - _SHARE), value * (1 + _SHARE)))
    return f"sum({series} > bool {low}) * sum({series} < bool {high})"


def told_apart(words: str) -> set[tuple[str, int]]:
    """The variants that a run of promtool complains of, by name of the rule and number."""
    return {(name, int(number)) for name, number in re.findall(r"([\w:]+?)__(\d+)__", words)}

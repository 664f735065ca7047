"""Both sides of each threshold of each rule, and no threshold that could be another one."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from deploy.edges import Edge, read, told_apart, written
from deploy.monitored import Rule, rules
from deploy.mutants import mutants
from deploy.slo_edges import slo_edges

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.edges import Played

PROMTOOL = shutil.which("promtool")


def promtool(*words: str) -> str:
    """What it says."""
    assert PROMTOOL
    answer = subprocess.run([PROMTOOL, *words], capture_output=True, text=True, check=False)
    return answer.stdout + answer.stderr


@pytest.fixture(scope="module")
def edges() -> dict[str, list[Edge]]:
    """All cases, by rule."""
    found = defaultdict(list)
    for edge in [*read(), *slo_edges()]:
        found[edge.rule].append(edge)
    return found


@pytest.fixture(scope="module")
def played(
    edges: dict[str, list[Edge]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Played], str]:
    """Every rule with its variants, and what promtool says of all of them at once."""
    if PROMTOOL is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    made = [written(rule, edges[rule.key], tmp_path_factory.mktemp("rule")) for rule in rules()]
    checked = promtool("check", "rules", *(str(each.rules) for each in made))
    assert "FAILED" not in checked, checked
    words = promtool("test", "rules", *(str(path) for each in made for path in each.tests))
    assert "parse error" not in words, words[:4000]
    assert "unmarshal" not in words, words[:4000]
    return made, words


def test_each_rule_has_cases(edges: dict[str, list[Edge]]) -> None:
    """None is forgotten, and no case is of a rule that is gone."""
    assert set(edges) == {rule.key for rule in rules()}


def test_rules_are_right_on_both_sides_of_each_threshold(played: tuple[list[Played], str]) -> None:
    """Just above it they fire, or have their value; just below, or a look too soon, not."""
    _, words = played
    complaints = re.split(r"\n(?=\s*(?:alertname|expr): )", words)
    wrong = [each for each in complaints if "__0__" in each]
    assert not wrong, "\n".join(wrong)[:4000]


def test_no_threshold_could_be_another_one(played: tuple[list[Played], str]) -> None:
    """A number, a window, a wait or a choice that is changed makes a case fail."""
    made, words = played
    apart = told_apart(words)
    alike = [
        f"{each.rule.key}: {wrong}"
        for each in made
        for number, wrong in each.variants.items()
        if number and (each.rule.name, number) not in apart
    ]
    assert alike == []


def test_rules_are_made_wrong_in_each_place() -> None:
    """Waits, windows, numbers and choices; not names, nor a 0 that something is compared with."""
    rule = Rule(
        "X", 'sum(rate(a1{b=~"c|d"}[10m])) / 2 > 0.5 and e > 0', {}, {}, alert=True, wait="1h"
    )
    made = [(wrong.wait, wrong.expr) for _, wrong in mutants(rule)]
    assert made == [
        ("7200s", rule.expr),
        ("1800s", rule.expr),
        ("1h", rule.expr.replace("10m", "1200s")),
        ("1h", rule.expr.replace("10m", "300s")),
        ("1h", rule.expr.replace("/ 2", "/ 2.5")),
        ("1h", rule.expr.replace("/ 2", "/ 1.6")),
        ("1h", rule.expr.replace("0.5", "0.625")),
        ("1h", rule.expr.replace("0.5", "0.4")),
        ("1h", rule.expr.replace("c|d", "d")),
        ("1h", rule.expr.replace("c|d", "c")),
    ]


def test_complaints_name_the_variants(tmp_path: Path) -> None:
    """As promtool writes them, alerts and recorded series alike."""
    words = 'alertname: HistillX__12__, time: 1m\nexpr: "sum(histill_a:rate5m__3__{} > bool 1)"'
    assert told_apart(words) == {("HistillX", 12), ("histill_a:rate5m", 3)}
    rule = Rule("X", "vector(2)", {}, {}, alert=False, wait="")
    made = written(rule, [Edge("X", "it is two", {}, values={"1m": {"": 2}})], tmp_path)
    assert made.variants.keys() == {0, 1, 2}

"""Rules, dashboards and runbooks: each alert fires on its case and stays silent beside it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from deploy.monitored import (
    CASES,
    DASHBOARDS,
    ROOT,
    RULES,
    RUNBOOKS,
    alerts,
    panels,
    rules,
    selectors,
    without_thresholds,
)
from deploy.render import rendered
from histill.rpc import measures

if TYPE_CHECKING:
    from pathlib import Path

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)
# What a series may tell apart: nothing that grows with users, jobs or files.
BOUNDED = {
    "alertname", "alertstate", "grpc_code", "grpc_method", "grpc_service", "grpc_type", "instance",
    "job", "kind", "le", "method", "model", "namespace", "outcome", "pod", "pool", "process",
    "project", "reason", "route", "slo", "stage", "state", "status", "store", "use", "version",
}  # fmt: skip


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL
    return subprocess.run([PROMTOOL, *words], capture_output=True, text=True, check=False)


@needs_promtool
@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_rules_are_rules(path: Path) -> None:
    """Prometheus takes each file as it is, without a template around it."""
    found = promtool("check", "rules", str(path))
    assert found.returncode == 0, found.stdout + found.stderr


@needs_promtool
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_alerts_fire_when_they_should_and_only_then(path: Path) -> None:
    """Each case, played through by Prometheus' own engine, has the alerts that it says."""
    found = promtool("test", "rules", str(path))
    assert found.returncode == 0, found.stdout + found.stderr


def test_each_alert_has_a_case_and_a_near_miss() -> None:
    """No alert goes without a case in which it fires, and one in which it does not."""
    fires: defaultdict[bool, set[str]] = defaultdict(set)
    for path in CASES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for look in case.get("alert_rule_test", ()):
                fires[bool(look["exp_alerts"])].add(look["alertname"])
    names = {rule.name for rule in alerts()}
    assert len(names) == len(alerts())
    assert fires[True] == names
    assert fires[False] == names


def test_each_alert_says_what_to_do() -> None:
    """Severity, a summary, a description and the section of the runbooks that is its own."""
    for rule in alerts():
        assert rule.labels.keys() == {"severity"}, rule.name
        assert rule.labels["severity"] in {"page", "ticket"}, rule.name
        assert rule.annotations.keys() == {"summary", "description", "runbook"}, rule.name
        assert rule.annotations["runbook"] == f"docs/runbooks.md#{rule.name.lower()}"


def sections() -> dict[str, str]:
    """The text of each section of the runbooks, by its heading."""
    parts = re.split(r"^## (.+)$", RUNBOOKS.read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    """Neither is forgotten when the other comes or goes, and both have the same order."""
    found = [name for name in sections() if name.startswith("Histill")]
    assert found == [rule.name for rule in alerts()]


def test_runbooks_say_the_same_four_things() -> None:
    """What it means, what to look at with a command or a query, what to do, when to ignore it."""
    for name, text in sections().items():
        if name.startswith("Histill"):
            for part in ("**Means.**", "**Look.**", "**Do.**", "**Ignore**"):
                assert part in text, f"{name} lacks {part}"
            looks = text.split("**Look.**")[1].split("**Do.**")[0]
            assert "`" in looks, f"{name} names no command and no query to look with"


def test_runbooks_ask_for_whole_logs() -> None:
    """By labels kubectl shows ten lines of each pod, unless it is told otherwise."""
    found = re.findall(r"kubectl[^`|\n]* logs -l [^`|\n]*", RUNBOOKS.read_text())
    assert found
    assert [command for command in found if "--tail=-1" not in command] == []


def test_runbooks_name_the_bounds_of_the_histogram() -> None:
    """The second can be changed to one of them: those that the rules and the runbook know."""
    (histogram,) = measures.SECONDS.labels("unary", "x.Y", "Z").collect()
    bounds = [each.labels["le"] for each in histogram.samples if "le" in each.labels]
    text = " ".join(sections()["HistillInferenceSlowSlowly"].split())
    assert ", ".join(bounds[:-1]) in text
    asked = set(re.findall(r'le="([^"]+)"', "".join(rule.expr for rule in rules())))
    assert asked == {"1.0"}
    assert asked <= set(bounds)


def asked() -> list[str]:
    """Every expression of every rule and panel."""
    drawn = [
        target["expr"]
        for path in DASHBOARDS
        for panel in panels(path)
        for target in panel["targets"]
    ]
    return [rule.expr for rule in rules()] + drawn


def test_rules_and_dashboards_ask_for_metrics_that_exist() -> None:
    """Each name is one that our sources define, a recording rule, or the client library's."""
    sources = [
        path.read_text()
        for root in ("shared", "services", "workers")
        for path in (ROOT / root).rglob("measures.py")
    ]
    ours = set(re.findall(r'"((?:histill|grpc)_\w+)"', "\n".join(sources)))
    recorded = {rule.name for rule in rules() if not rule.alert}
    library = {
        "ALERTS", "up", "process_cpu_seconds_total", "process_max_fds", "process_open_fds",
        "process_resident_memory_bytes", "process_start_time_seconds",
    }  # fmt: skip
    for expr in asked():
        for selector in selectors(expr):
            name = re.split(r"[\s{]", selector)[0]
            bare = re.sub(r"_(bucket|count|sum)$", "", name)
            assert name in ours | recorded | library or bare in ours, f"{name} in {expr}"


def test_series_are_told_apart_by_bounded_labels_only() -> None:
    """No rule and no panel knows of a user, a job or a file."""
    for expr in asked():
        labels = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expr))
        for group in re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", expr):
            labels |= {each.strip() for each in group.split(",")} - {""}
        assert labels <= BOUNDED, f"{labels - BOUNDED} in {expr}"


def test_grpc_metrics_of_other_programs_are_left_out() -> None:
    """Their names are everybody's: each selector names our services."""
    for rule in rules():
        for selector in selectors(rule.expr):
            if selector.startswith("grpc_server_"):
                assert 'grpc_service=~"histill[.]api[.]' in selector, rule.name


def test_dashboards_are_what_the_code_writes(tmp_path: Path) -> None:
    """The files are those of scripts/dashboards.py, to the byte."""
    script = ROOT / "scripts" / "dashboards.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True)
    assert {path.name for path in DASHBOARDS} == {path.name for path in tmp_path.iterdir()}
    for path in DASHBOARDS:
        assert path.read_text() == (tmp_path / path.name).read_text(), (
            f"{path.name} differs; run python scripts/dashboards.py"
        )


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_say_what_they_show(path: Path) -> None:
    """Each has a title, a description, a unit, legends, and the data source that is chosen."""
    known = {rule.annotations["runbook"] for rule in alerts()}
    for panel in panels(path):
        title = panel["title"]
        assert title
        assert len(panel["description"]) > 5, title
        assert panel["fieldConfig"]["defaults"]["unit"], title
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], title
        assert panel["datasource"]["uid"] == "${datasource}", title
        assert panel["targets"], title
        for target in panel["targets"]:
            assert target["legendFormat"], title
            told_apart = target["legendFormat"].startswith("{{namespace}} ")
            assert told_apart is (panel["type"] != "stat"), title
            assert target["datasource"]["uid"] == "${datasource}", title
            assert 'namespace=~"$namespace"' in target["expr"], title
        named = set(re.findall(r"docs/runbooks\.md#\w+", panel["description"]))
        assert named <= known, title


def test_dashboards_of_the_chart_are_files_of_their_own() -> None:
    """Grafana's sidecar writes those of all charts into one folder, by key."""
    maps = [
        each
        for each in rendered("monitoring").of_kind("ConfigMap")
        if each["metadata"]["labels"]["app.kubernetes.io/component"] == "monitoring"
    ]
    keys = {key for each in maps for key in each["data"]}
    assert keys == {f"histill-{path.name}" for path in DASHBOARDS}
    assert all(json.loads(text) for each in maps for text in each["data"].values())


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_do_not_overlap(path: Path) -> None:
    """Each cell of the grid of 24 columns belongs to one panel at most, and ids differ."""
    page = json.loads(path.read_text())
    taken: dict[tuple[int, int], str] = {}
    for panel in page["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]
    numbers = [panel["id"] for panel in page["panels"]]
    assert len(set(numbers)) == len(numbers)
    tops = [panel["gridPos"]["y"] for panel in page["panels"]]
    assert all(above <= below for above, below in pairwise(tops))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_can_be_chosen_by_source_and_namespace(path: Path) -> None:
    """Stable uid, both variables, and All also where metrics carry no namespace."""
    page = json.loads(path.read_text())
    assert page["uid"] == f"histill-{path.stem}"
    variables: dict[str, Any] = {each["name"]: each for each in page["templating"]["list"]}
    assert list(variables) == ["datasource", "namespace"]
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["namespace"]["allValue"] == ".*"
    assert variables["namespace"]["current"]["value"] == "$__all"


def test_selectors_of_a_query_are_found() -> None:
    """Names and matchers, without functions, groupings, strings, ranges and numbers."""
    expr = 'sum by (a, b) (rate(x_total{c=~"d|{e}", f="up"}[5m])) / on (a) (y:z > 1e6) unless up'
    assert selectors(expr) == ['x_total{c=~"d|{e}", f="up"}', "y:z", "up"]


def test_thresholds_are_taken_out_of_a_query() -> None:
    """Comparisons become bool, and what must be missing must be there; matchers stay."""
    expr = 'max(x{a!="b"}) >= 3 and absent_over_time(y{c=~"d"}[3h]) unless z[1h:5m] == 0'
    assert without_thresholds(expr) == (
        'max(x{a!="b"}) >= bool  3 and last_over_time(y{c=~"d"}[3h]) and z[1h:1s] == bool  0'
    )

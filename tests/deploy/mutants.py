"""Rules of Prometheus that are wrong in one place."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.monitored import Rule

_STRING = re.compile(r'"[^"]*"')
_RANGE = re.compile(r"\[(\d+)([smhd])")
_NUMBER = re.compile(r"(?<![\w.:\[])(\d+(?:\.\d+)?)(?![\w.\]:])")
_COUNT = re.compile(r">=? $")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# What no number and no alternative is: by part of a rule's text.
_PARTS = {
    "HistillInferenceRefuses": ((" or rate(histill_inference_streamed_total[5m])", ""),),
    "HistillWebFails": (("5..", "503"), ("/api/.*", ".*")),
    "HistillNotReady": (("== 0", "== 1"), ('process!="worker"', "")),
    "HistillTargetDown": (("== 0", "== 1"),),
    "HistillNoWorkerTakesJobs": (
        ("histill_worker_demand) > 0", "histill_worker_demand) > 1"),
        ("by (namespace, pool) (histill_jobs_running)", "by (namespace) (histill_jobs_running)"),
    ),
    "HistillAuditDropped": (("> 0", "> 1.5"),),
}


def mutants(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """What is wrong, and the rule with it: numbers, windows, waits, alternatives."""
    if rule.wait:
        for wait in _scaled(rule.wait[:-1], rule.wait[-1]):
            yield f"waits for {wait}", replace(rule, wait=wait)
    for before, start, end, after in _edits(rule):
        expr = rule.expr[:start] + after + rule.expr[end:]
        where = " ".join(rule.expr[max(0, start - 60) : end + 20].split())
        yield f"{before} is {after or 'gone'} in …{where}…", replace(rule, expr=expr)


def _edits(rule: Rule) -> Iterator[tuple[str, int, int, str]]:
    # Of the same length, so that places stay what they are.
    bare = _STRING.sub(lambda found: '"' + "_" * (len(found[0]) - 2) + '"', rule.expr)
    for found in _RANGE.finditer(bare):
        for window in _scaled(found[1], found[2]):
            yield found[0][1:], found.start() + 1, found.end(), window
    for found in _NUMBER.finditer(bare):
        for number in _others(float(found[1]), counts=bool(_COUNT.search(bare[: found.start()]))):
            yield found[0], *found.span(), f"{number:.10g}"
    for found in _STRING.finditer(rule.expr):
        choices = found[0][1:-1].split("|")
        # Those within parentheses are one choice of a few.
        if len(choices) < 2 or "(" in found[0]:
            yield from _inner(found)
            continue
        for gone in choices:
            kept = "|".join(choice for choice in choices if choice != gone)
            yield gone, *found.span(), f'"{kept}"'
    for old, new in _PARTS.get(rule.name, ()):
        for found in re.finditer(re.escape(old), rule.expr):
            yield old, *found.span(), new


def _inner(string: re.Match[str]) -> Iterator[tuple[str, int, int, str]]:
    for group in re.finditer(r"\(([^()]*)\)", string[0]):
        choices = group[1].split("|")
        for gone in choices:
            kept = "|".join(choice for choice in choices if choice != gone)
            start = string.start() + group.start()
            yield gone, start, start + len(group[0]), f"({kept})"


def _scaled(number: str, unit: str) -> tuple[str, str]:
    """Twice as long, and half."""
    seconds = int(number) * _SECONDS[unit]
    return f"{2 * seconds}s", f"{seconds // 2}s"


def _others(number: float, *, counts: bool) -> tuple[float, ...]:
    if not number:
        return ()  # whether there is something at all
    if counts and number < 5 and number >= 1:
        return number + 1, number - 1  # of whole events
    return 1.25 * number, 0.8 * number

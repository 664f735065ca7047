"""Values: each is documented and typed, and what is misspelled or of a wrong type is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import helm_python
import pytest

from deploy.render import CHART, VARIANTS, variants
from deploy.values_file import Value, documented_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from deploy.render import Values

VALUES = documented_values((CHART / "values.yaml").read_text())
# Maps with keys of other people: Kubernetes' fields, and names that operators choose.
OPEN = frozenset(
    {
        "affinity",
        "annotations",
        "behavior",
        "commonLabels",
        "labels",
        "nodeSelector",
        "podAnnotations",
        "podLabels",
        "podSecurityContext",
        "pools",
        "roles",
        "securityContext",
        "settings",
    }
)
# Read by no template: Helm gives it to every chart that is part of another.
_HELMS_OWN = {"global"}


@pytest.fixture(scope="module")
def chart() -> Iterator[helm_python.Chart]:
    with helm_python.Chart.load(CHART) as loaded:
        yield loaded


_GROUP = "validation failed"  # and why follows, by the places within
_PLACE = re.compile(r"at '(.*?)': (.*)")


def refused(chart: helm_python.Chart, values: Values) -> dict[str, str]:
    """What the schema says, by the place it is about: ``/jobs/replicas``."""
    try:
        chart.validate_schema(chart.merge_values(values))
    except helm_python.HelmValuesError as exc:
        return {place: words for place, words in _PLACE.findall(str(exc)) if words != _GROUP}
    return {}


def nested(pairs: Iterable[tuple[tuple[str, ...], object]]) -> Values:
    """Values under keys that lead to them."""
    values: Values = {}
    for (*steps, last), value in pairs:
        inside = values
        for step in steps:
            inside = inside.setdefault(step, {})
        inside[last] = value
    return values


def maps(values: Values, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all maps, the outermost first."""
    yield path
    for key, value in values.items():
        if isinstance(value, dict):
            yield from maps(value, (*path, key))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_valid(variant: str, chart: helm_python.Chart) -> None:
    """The schema takes what is tested, and what nobody sets."""
    chart.validate_schema(chart.merge_values(variants()[variant]))


def test_every_value_is_documented() -> None:
    """Each has a comment that ends as a sentence does; README.md is made of them."""
    assert len(VALUES) > 100
    assert [each.path for each in VALUES if not each.about.endswith((".", ")"))] == []


def test_an_unknown_key_is_refused_at_any_depth(chart: helm_python.Chart) -> None:
    """A misspelled value would else be a default that nobody meant."""
    closed = [path for path in maps(chart.values) if not OPEN & set(path) - {"pools"}]
    closed = [path for path in closed if path[-1:] not in (("requests",), ("limits",), ("pools",))]
    assert len(closed) > 50
    found = refused(chart, nested(((*path, "tpyo"), 1) for path in closed))
    assert {f"/{'/'.join(path)}".rstrip("/") for path in closed} == set(found)
    assert all("'tpyo' not allowed" in words for words in found.values())


def _wrong(value: Value) -> list[object]:
    """Three values of other types, or numbers below any that makes sense."""
    match value.kind:
        case "bool":
            return ["yes", 1, [True]]
        case "int" | "float":
            return ["2", -5, True]
        case "list":
            return ["one", {"a": "b"}, 1]
        case "object":
            return ["one", ["one"], 1]
    return [["one"], {"a": ["b"]}, True]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_value_of_a_wrong_type_is_refused(chart: helm_python.Chart, which: int) -> None:
    """Also text in place of a number, and numbers below zero."""
    typed = [each for each in VALUES if not OPEN & set(each.path[:-1]) - {"pools"}]
    assert len(typed) > 200
    found = refused(chart, nested((each.path, _wrong(each)[which]) for each in typed))
    assert [each.path for each in typed if f"/{'/'.join(each.path)}" not in found] == []


@pytest.mark.parametrize(
    "values",
    [
        {"image": {"pullPolicy": "Sometimes"}},
        {"log": {"level": "loud"}},
        {"tracing": {"ratio": 1.5}},
        {"auth": {"mode": "apikey"}},
        {"auth": {"oidc": {"roles": {"it": "root"}}}},
        {"audit": {"whenFull": "wait"}},
        {"audit": {"existingClaims": {"worker": "x"}}},
        {"s3": {"endpoint": "https://s3.example.org"}},
        {"jobs": {"settings": {"REAPER__GRACE_S": 20}}},
        {"jobs": {"settings": {"HISTILL_REAPER__GRACE_S": "20"}}},
        {"jobs": {"image": {"digest": "sha256:short"}}},
        {"jobs": {"resources": {"limit": {"memory": "1Gi"}}}},
        {"jobs": {"resources": {"limits": {"memory": "1 GB"}}}},
        {"jobs": {"service": {"type": "Loadbalancer"}}},
        {"worker": {"pools": {"gpu": {"enabeld": True}}}},
        {"worker": {"pools": {"My_Pool": {"enabled": True}}}},
        {"worker": {"cache": {"whenScaled": "Keep"}}},
        {"networkPolicy": {"clients": {"podSelector": {}}}},
        {"networkPolicy": {"dnsPorts": []}},
        {"networkPolicy": {"s3Ports": [70000]}},
        {"bindHost": "localhost"},
        {"jobs": {"podDisruptionBudget": {"maxUnavailable": 0}}},
        {"jobs": {"podDisruptionBudget": {"maxUnavailable": "0%"}}},
        {"jobs": {"service": {"externalTrafficPolicy": "local"}}},
        {"worker": {"autoscaling": {"prometheus": {"authModes": "token"}}}},
    ],
    ids=str,
)
def test_what_only_looks_right_is_refused(chart: helm_python.Chart, values: Values) -> None:
    """Slips that a type alone would not find."""
    assert refused(chart, values)


def test_the_schema_knows_what_values_there_are_and_no_others(chart: helm_python.Chart) -> None:
    """Neither of the two files has a value that the other one lacks."""
    schema = chart.schema
    assert schema is not None
    differing = {
        path: keys ^ set(_at(chart.values, path))
        for path, keys in _closed(schema, schema, chart.values)
        if keys != set(_at(chart.values, path))
    }
    assert differing.pop((), set()) <= _HELMS_OWN
    assert differing == {}


def test_a_pool_may_have_every_value_of_a_worker(chart: helm_python.Chart) -> None:
    """But for what is of all pools together."""
    schema = chart.schema
    assert schema is not None
    pool = set(schema["definitions"]["pool"]["properties"]) - {"enabled"}
    of_all = {"defaultPool", "pools", "serviceAccount"}
    assert pool == set(chart.values["worker"]) - of_all


def _closed(
    schema: dict[str, Any], node: dict[str, Any], values: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Keys that the schema lists, of every map of the values that it closes."""
    node = _resolved(schema, node)
    if not isinstance(values, dict) or "properties" not in node or "resources" in path:
        return
    if path[:2] != ("worker", "pools") and path != ("audit", "existingClaims"):
        yield path, set(node["properties"])
    for key, inside in node["properties"].items():
        yield from _closed(schema, inside, values.get(key), (*path, key))


def _resolved(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        found: Any = schema
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def _at(values: Values, path: tuple[str, ...]) -> Values:
    for key in path:
        values = values[key]
    return values

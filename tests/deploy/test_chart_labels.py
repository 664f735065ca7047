"""Names and labels that operators choose: whatever they look like, they take no other's place."""

from __future__ import annotations

import pytest

from deploy.render import VARIANTS, identity, render, rendered, told, variants
from deploy.workloads import labels_of, workloads

POOLS = ("4090", "true", "null", "1e3", "default")


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_that_look_like_numbers_stay_names(variant: str) -> None:
    """A release 123, a namespace 42 and a pool 4090 are rare, and must not be broken ones."""
    values = variants()[variant]
    named = {
        "worker": values.get("worker", {}) | {"pools": {pool: {} for pool in POOLS}},
        "commonLabels": {"cost-centre": "0815"},
    }
    found = render(values | named, release="123", namespace="42").objects
    for each in found:
        assert isinstance(each["metadata"]["name"], str), told(each)
        assert each["metadata"].get("namespace", "42") == "42", told(each)
        assert [pair for pair in labels_of(each) if not isinstance(pair[1], str)] == [], told(each)
    workers = [each for each in workloads(found) if each.component == "worker"]
    assert {each.labels["histill/pool"] for each in workers} == set(POOLS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_operators_labels_do_not_take_the_place_of_the_charts(variant: str) -> None:
    """Else a policy would be about other pods than its own, and a release would lose objects."""
    values, before = variants()[variant], rendered(variant).objects
    common = values.get("commonLabels", {})
    charts = {key for each in before for key in each["metadata"]["labels"] if key not in common}
    assert len(charts) > 5
    own = common | dict.fromkeys(charts, "taken") | {"ward": "ours"}
    parts = {
        part: values.get(part, {}) | {"podLabels": own | {"pods": "ours"}}
        for part in ("jobs", "registry", "inference", "web", "worker")
    }
    after = render(values | parts | {"commonLabels": own}).objects
    assert [identity(each) for each in after] == [identity(each) for each in before]
    for old, new in zip(before, after, strict=True):
        assert new["metadata"]["labels"] == own | old["metadata"]["labels"], told(new)
    for was, now in zip(workloads(before), workloads(after), strict=True):
        assert was.labels.items() | {("ward", "ours")} <= now.labels.items(), str(now)
        assert (now.labels.get("pods") == "ours") is (now.component in parts), str(now)

"""The schemas of operators' kinds, strict as Kubernetes' own are made."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from deploy.kinds import SCHEMAS, problems_of

GOOD = yaml.safe_load("""
- apiVersion: keda.sh/v1alpha1
  kind: ScaledObject
  metadata: {name: x, labels: {a: b}}
  spec:
    scaleTargetRef: {name: workers}
    triggers: [{type: prometheus, metadata: {query: up}, authenticationRef: {name: x}}]
    advanced:
      horizontalPodAutoscalerConfig: {behavior: {scaleDown: {stabilizationWindowSeconds: 9}}}
- apiVersion: keda.sh/v1alpha1
  kind: TriggerAuthentication
  metadata: {name: x}
  spec: {secretTargetRef: [{parameter: password, name: secret, key: password}]}
- apiVersion: monitoring.coreos.com/v1
  kind: ServiceMonitor
  metadata: {name: x}
  spec: {selector: {matchLabels: {a: b}}, endpoints: [{port: metrics, interval: 30s}]}
- apiVersion: monitoring.coreos.com/v1
  kind: PodMonitor
  metadata: {name: x}
  spec: {selector: {matchLabels: {a: b}}, podMetricsEndpoints: [{port: metrics}]}
- apiVersion: monitoring.coreos.com/v1
  kind: PrometheusRule
  metadata: {name: x}
  spec: {groups: [{name: g, rules: [{alert: A, expr: up == 0, for: 5m, labels: {severity: page}}]}]}
- apiVersion: cert-manager.io/v1
  kind: Certificate
  metadata: {name: x}
  spec: {secretName: s, dnsNames: [a], issuerRef: {name: i}, privateKey: {rotationPolicy: Always}}
- apiVersion: gateway.networking.k8s.io/v1
  kind: GRPCRoute
  metadata: {name: x}
  spec: {parentRefs: [{name: g}], rules: [{backendRefs: [{name: s, port: 50053}]}]}
""")
NAMES = [each["kind"] for each in GOOD]


@pytest.mark.parametrize("item", GOOD, ids=NAMES)
def test_what_an_operator_takes_passes(item: dict[str, Any]) -> None:
    """A usual object of each kind."""
    assert problems_of([item], "1.29") == []


@pytest.mark.parametrize("item", GOOD, ids=NAMES)
def test_unknown_fields_wrong_types_and_missing_specs_are_seen(item: dict[str, Any]) -> None:
    """Whatever an API server would refuse, and what it would drop without a word."""
    first = next(iter(item["spec"]))
    for broken in (
        item | {"tpyo": 1},
        item | {"spec": item["spec"] | {"tpyo": 1}},
        item | {"spec": item["spec"] | {first: 42}},
        item | {"metadata": {"name": "x", "labels": {"a": 1}}},
    ):
        assert len(problems_of([broken], "1.29")) == 1, broken


def test_a_field_of_another_map_is_no_field_here() -> None:
    """Typos are seen at any depth, within lists too, and are told by their path."""
    broken = GOOD[0] | {
        "spec": GOOD[0]["spec"] | {"triggers": [{**GOOD[0]["spec"]["triggers"][0], "tpyo": 1}]}
    }
    assert problems_of([broken], "1.29") == ["ScaledObject x: .spec.triggers.0.tpyo is no field"]


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("keda.sh/v1alpha1", "ScaledThing"),
        ("keda.sh/v9", "ScaledObject"),
        ("keda.sh/v1alpha1", "ScaledObjectSpec"),
        ("example.com/v1", "Widget"),
        ("apps/v1beta1", "Deployment"),
    ],
)
def test_an_unknown_kind_never_passes(api_version: str, kind: str) -> None:
    """Not of an operator that we know, nor of one that we do not, nor an old version."""
    item = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "spec": {}}
    assert len(problems_of([item], "1.29")) == 1
    assert len(problems_of([item], "9.99")) == 1


def test_a_version_that_has_no_schemas_is_not_taken_for_checked() -> None:
    """What nobody knows yet is not valid."""
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    assert problems_of([item], "1.29") == []
    assert problems_of([item], "1.99") != []


def test_schemas_are_pinned_by_hash_and_name_no_registry() -> None:
    """Which mirror is asked is each machine's own affair; the hashes hold for all."""
    asked = json.loads((SCHEMAS / "package.json").read_text())["dependencies"]
    lock = json.loads((SCHEMAS / "package-lock.json").read_text())["packages"]
    assert lock.pop("")["dependencies"] == asked
    for name, package in lock.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name
    assert {lock[f"node_modules/{name}"]["version"] for name in asked} == set(asked.values())

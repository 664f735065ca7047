"""The evaluator of NetworkPolicies, against what the API says."""

from __future__ import annotations

import pytest
import yaml

from deploy.network import Peer, allowed, directions, matches

POLICIES = yaml.safe_load("""
- metadata: {name: closed}
  spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
- metadata: {name: jobs-in}
  spec:
    podSelector: {matchLabels: {part: jobs}}
    policyTypes: [Ingress]
    ingress:
      - from:
          - podSelector: {matchLabels: {part: web}}
          - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}
            podSelector: {matchLabels: {app: prometheus}}
        ports: [{port: grpc}, {port: 9000, endPort: 9010}]
- metadata: {name: web-out}
  spec:
    podSelector: {matchLabels: {part: web}}
    policyTypes: [Egress]
    egress:
      - to: [{podSelector: {matchLabels: {part: jobs}}}]
      - to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.9.0.0/16]}}]
        ports: [{port: 443}]
""")
JOBS = Peer({"part": "jobs"}, "clinic", ports={"grpc": 50051})
WEB = Peer({"part": "web"}, "clinic")
PROMETHEUS = Peer({"app": "prometheus"}, "monitoring")


@pytest.mark.parametrize(
    ("source", "target", "port", "expected"),
    [
        (WEB, JOBS, 50051, True),
        (WEB, JOBS, 9005, True),
        (WEB, JOBS, 9011, False),
        (JOBS, WEB, 8080, False),
        (PROMETHEUS, JOBS, 50051, True),
        (PROMETHEUS, JOBS, 80, False),
        (Peer({"app": "prometheus"}, "clinic"), JOBS, 50051, False),
        (Peer({"app": "other"}, "monitoring"), JOBS, 50051, False),
        (Peer({"part": "web"}, "elsewhere"), JOBS, 50051, False),
        (WEB, Peer(address="10.1.2.3"), 443, True),
        (WEB, Peer(address="10.9.2.3"), 443, False),
        (WEB, Peer(address="10.1.2.3"), 80, False),
        (WEB, Peer({"part": "x"}, "elsewhere"), 443, False),
        (Peer({}, "elsewhere"), Peer({}, "monitoring"), 80, True),
    ],
)
def test_an_edge_is_judged_at_both_ends(
    source: Peer, target: Peer, port: int, *, expected: bool
) -> None:
    """Selectors, namespaces, ports by name and range, addresses; who has no policy is open."""
    policies = [
        each | {"metadata": each["metadata"] | {"namespace": "clinic"}} for each in POLICIES
    ]
    assert allowed(policies, source, target, port) is expected


def test_a_protocol_that_is_not_named_is_tcp() -> None:
    """A rule for port 9005 says nothing of UDP."""
    assert not allowed(POLICIES, WEB, JOBS, 9005, "UDP")


def test_directions_are_implied_by_what_is_there() -> None:
    """Without policyTypes a policy closes the way in, and the way out if it lists some."""
    assert directions({"spec": {}}) == {"Ingress"}
    assert directions({"spec": {"egress": [{}]}}) == {"Ingress", "Egress"}


@pytest.mark.parametrize(
    ("operator", "values", "expected"),
    [
        ("In", ["jobs", "web"], True),
        ("NotIn", ["jobs"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
    ],
)
def test_expressions_select_by_their_operator(
    operator: str, values: list[str], *, expected: bool
) -> None:
    """Each of the four operators, on a label that is there."""
    expression = {"key": "part", "operator": operator, "values": values}
    assert matches({"matchExpressions": [expression]}, {"part": "jobs"}) is expected
    with pytest.raises(ValueError, match="Near"):
        matches({"matchExpressions": [expression | {"operator": "Near"}]}, {})

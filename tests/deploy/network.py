"""Says whether NetworkPolicies let one pod reach another, as the API defines them.

https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploy.render import Object


@dataclass(frozen=True)
class Peer:
    """An end of a connection: a pod, or an address outside of the cluster.

    Attributes:
        labels: Of the pod.
        namespace: Of the pod; empty: not a pod.
        namespace_labels: Besides ``kubernetes.io/metadata.name``, which each namespace has.
        ports: Named ports of the pod's containers.
        address: IP address of who is no pod.
    """

    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = ""
    namespace_labels: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    address: str = ""

    @property
    def all_namespace_labels(self) -> dict[str, str]:
        """Those that everybody has, too."""
        return {"kubernetes.io/metadata.name": self.namespace} | self.namespace_labels


def allowed(
    policies: Iterable[Object], source: Peer, target: Peer, port: int, protocol: str = "TCP"
) -> bool:
    """Whether a connection comes about: its source may go out and its target lets it in."""
    policies = list(policies)
    out = _lets(policies, source, target, "Egress", target.ports, port, protocol)
    return out and _lets(policies, target, source, "Ingress", target.ports, port, protocol)


def _lets(
    policies: list[Object],
    pod: Peer,
    other: Peer,
    direction: str,
    names: dict[str, int],
    port: int,
    protocol: str,
) -> bool:
    """Whether the policies of a pod let it talk with another in one direction."""
    own = [each for each in policies if _is_about(each, pod) and direction in directions(each)]
    if not own:
        return True
    way = {"Ingress": "from", "Egress": "to"}[direction]
    return any(
        _fits_peer(rule.get(way), each["metadata"].get("namespace", pod.namespace), other)
        and _fits_port(rule.get("ports"), names, port, protocol)
        for each in own
        for rule in each["spec"].get(direction.lower()) or ()
    )


def directions(policy: Object) -> set[str]:
    """Which directions a policy closes but for what it lists."""
    spec = policy["spec"]
    implied = {"Ingress"} | ({"Egress"} if spec.get("egress") else set())
    return set(spec.get("policyTypes") or implied)


def _is_about(policy: Object, pod: Peer) -> bool:
    here = policy["metadata"].get("namespace", pod.namespace) == pod.namespace
    return bool(pod.namespace) and here and matches(policy["spec"].get("podSelector"), pod.labels)


def _fits_peer(peers: list[Object] | None, namespace: str, other: Peer) -> bool:
    return not peers or any(_is_peer(each, namespace, other) for each in peers)


def _is_peer(peer: Object, namespace: str, other: Peer) -> bool:
    if block := peer.get("ipBlock"):
        # Addresses of pods are not stable, and a policy must not count on them.
        return bool(other.address) and _within(block, other.address)
    if not other.namespace:
        return False
    if "namespaceSelector" in peer:
        near = matches(peer["namespaceSelector"], other.all_namespace_labels)
    else:
        near = other.namespace == namespace
    return near and ("podSelector" not in peer or matches(peer["podSelector"], other.labels))


def _within(block: Object, address: str) -> bool:
    where = ipaddress.ip_address(address)
    inside = where in ipaddress.ip_network(block["cidr"])
    return inside and not any(
        where in ipaddress.ip_network(each) for each in block.get("except", ())
    )


def _fits_port(ports: list[Object] | None, names: dict[str, int], port: int, protocol: str) -> bool:
    return not ports or any(
        each.get("protocol", "TCP") == protocol and _is_port(each, names, port) for each in ports
    )


def _is_port(rule: Object, names: dict[str, int], port: int) -> bool:
    if "port" not in rule:
        return True
    named = isinstance(rule["port"], str)
    first: int = names.get(rule["port"], -1) if named else rule["port"]
    last: int = rule.get("endPort", first)
    return first <= port <= last


def matches(selector: Object | None, labels: dict[str, str]) -> bool:
    """Whether a label selector takes labels; an empty one takes all.

    Raises:
        ValueError: An operator is none of Kubernetes'.
    """
    selector = selector or {}
    plain = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return plain and all(_fulfils(each, labels) for each in selector.get("matchExpressions", ()))


def _fulfils(expression: Object, labels: dict[str, str]) -> bool:
    key, values = expression["key"], expression.get("values", ())
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ValueError(f"{expression['operator']} is no operator of a selector")

"""Network policies: what the system needs is allowed, and nothing else is."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from deploy.network import Peer, allowed, matches
from deploy.process_settings import secrets_of
from deploy.render import NAMESPACE, VARIANTS, Render, render, rendered, variants
from deploy.workloads import Workload, address, environment, workloads

if TYPE_CHECKING:
    from deploy.render import Object, Values

GRPC = {"jobs": 50051, "registry": 50052, "inference": 50053}
DNS = Peer({"k8s-app": "kube-dns"}, "kube-system")
PROMETHEUS = Peer({"app.kubernetes.io/name": "prometheus"}, "monitoring")
STRANGER = Peer({"app.kubernetes.io/component": "jobs"}, "elsewhere")
NEIGHBOUR = Peer({"app": "viewer"}, NAMESPACE)
OUTSIDE = Peer(address="203.0.113.7")
API_SERVER = Peer(address="10.0.0.1")
POLICED = [each for each in VARIANTS if rendered(each).of_kind("NetworkPolicy")]


def peer(workload: Workload) -> Peer:
    return Peer(workload.labels, NAMESPACE, ports=workload.ports)


def peers(render: Render) -> dict[str, list[Peer]]:
    """Pods by component."""
    found: dict[str, list[Peer]] = {}
    for workload in workloads(render.objects):
        found.setdefault(workload.component, []).append(peer(workload))
    return found


def edges(variant: str) -> list[tuple[str, Peer, Peer, int]]:
    """Every connection that the system makes: what it is, from whom, to whom, and the port.

    Whom a process calls stands in its variables.
    """
    render, found = rendered(variant), []
    for workload in workloads(render.objects):
        for container in workload.containers:
            variables = environment(container, render.objects, secrets_of(variant))
            for name, value in variables.items():
                place = address(value)
                targets = called(render, name, place[0], variants()[variant]) if place else ()
                what = f"{workload}, {name}"
                found += [(what, peer(workload), each, place[1]) for each in targets if place]
        if "metrics" in workload.ports:
            port = workload.ports["metrics"]
            found.append((f"metrics of {workload}", PROMETHEUS, peer(workload), port))
        if "serviceAccountToken" in str(workload.spec.get("volumes")):
            found += [
                (f"{workload}, API server", peer(workload), API_SERVER, port)
                for port in (443, 6443)
            ]
    return found


def called(render: Render, variable: str, host: str, values: Values) -> list[Peer]:
    """Pods behind a Service of the release, or one address outside of the cluster."""
    for service in render.of_kind("Service"):
        if service["metadata"]["name"] == host.partition(".")[0]:
            selector = {"matchLabels": service["spec"]["selector"]}
            return [
                peer(each) for each in workloads(render.objects) if matches(selector, each.labels)
            ]
    policy = values.get("networkPolicy", {})
    kinds = [kind for kind in ("s3", "redis", "oidc", "tracing") if f"_{kind.upper()}_" in variable]
    blocks = [block["ipBlock"]["cidr"] for kind in kinds for block in policy.get(kind, ())]
    return [Peer(address=each.partition("/")[0]) for each in blocks] or [OUTSIDE]


@pytest.mark.parametrize("variant", POLICED)
def test_every_connection_that_the_system_makes_is_allowed(variant: str) -> None:
    """Between its own parts, to its servers, to the API server, and from Prometheus."""
    policies = rendered(variant).of_kind("NetworkPolicy")
    found = edges(variant)
    assert len(found) > len(GRPC)
    for what, source, target, port in found:
        assert allowed(policies, source, target, port), f"{what}: port {port} is refused"


@pytest.mark.parametrize("variant", POLICED)
def test_every_part_that_calls_by_name_may_ask_dns(variant: str) -> None:
    """Over UDP, and over TCP for long answers."""
    (port,) = variants()[variant].get("networkPolicy", {}).get("dnsPorts", [53])
    policies = rendered(variant).of_kind("NetworkPolicy")
    for name in (*GRPC, "worker", "web", "test", "setup"):
        for pod in peers(rendered(variant)).get(name, ()):
            assert allowed(policies, pod, DNS, port, "UDP"), name
            assert allowed(policies, pod, DNS, port), name


@pytest.mark.parametrize("variant", POLICED)
def test_every_pod_is_closed_both_ways(variant: str) -> None:
    """No pod of the chart is forgotten: each refuses a stranger, on any port."""
    render = rendered(variant)
    policies = render.of_kind("NetworkPolicy")
    for workload in workloads(render.objects):
        pod = peer(workload)
        for port in (22, *pod.ports.values()):
            assert not allowed(policies, STRANGER, pod, port), f"{workload}:{port}"
        assert not allowed(policies, pod, replace(STRANGER, ports={}), 22), str(workload)


@pytest.mark.parametrize("variant", ["default"])
def test_what_nobody_needs_is_refused(variant: str) -> None:
    """Stores are for those that keep something there; the page and neighbours are not."""
    render = rendered(variant)
    policies, pods = render.of_kind("NetworkPolicy"), peers(render)
    stores = [(pods["valkey"][0], 6379), (pods["minio"][0], 9000)]
    for source in (NEIGHBOUR, PROMETHEUS, pods["web"][0], pods["test"][0]):
        for target, port in stores:
            assert not allowed(policies, source, target, port)
    assert not allowed(policies, pods["inference"][0], *stores[0])
    for name, port in GRPC.items():
        assert allowed(policies, NEIGHBOUR, pods[name][0], port), name
        assert not allowed(policies, PROMETHEUS, pods[name][0], port), name
        assert not allowed(policies, pods["worker"][0], pods[name][0], port), name
        assert not allowed(policies, pods[name][0], OUTSIDE, 443), name
    assert not allowed(policies, pods["worker"][0], OUTSIDE, 443)
    assert not allowed(policies, NEIGHBOUR, pods["web"][0], pods["web"][0].ports["http"])
    assert not allowed(policies, NEIGHBOUR, pods["jobs"][0], pods["jobs"][0].ports["metrics"])


@pytest.mark.parametrize("variant", POLICED)
def test_ports_of_policies_are_numbers(variant: str) -> None:
    """OVN-Kubernetes knows no names of ports, and would let nobody in."""
    for policy in rendered(variant).of_kind("NetworkPolicy"):
        spec = policy["spec"]
        rules = [*(spec.get("ingress") or ()), *(spec.get("egress") or ())]
        ports = [port["port"] for rule in rules for port in rule.get("ports", ())]
        assert ports or not rules
        assert [each for each in ports if not isinstance(each, int)] == []


@pytest.mark.parametrize(
    ("value", "component"),
    [
        ("s3Ports", "jobs"),
        ("redisPorts", "worker"),
        ("oidcPorts", "inference"),
        ("tracingPorts", "web"),
        ("apiServerPorts", "setup"),
    ],
)
def test_a_server_behind_a_service_may_have_other_ports(value: str, component: str) -> None:
    """Those of its pods, which are what most networks look at."""
    values = variants()["external"]
    for port in (443, 7777):
        policy = {"webClients": [{"podSelector": {}}], value: [port]}
        found = render(values | {"networkPolicy": policy})
        policies, pod = found.of_kind("NetworkPolicy"), peers(found)[component][0]
        assert allowed(policies, pod, OUTSIDE, 7777) is (port == 7777)


@pytest.mark.parametrize("variant", ["default"])
def test_each_rule_of_a_policy_is_needed(variant: str) -> None:
    """Without any one of them some connection of the system breaks, or a client's or DNS's."""
    policies = rendered(variant).of_kind("NetworkPolicy")
    pods = peers(rendered(variant))
    wanted = [(source, target, port, "TCP") for _, source, target, port in edges(variant)]
    wanted += [(NEIGHBOUR, pods[name][0], port, "TCP") for name, port in GRPC.items()]
    wanted += [(pod, DNS, 53, "UDP") for each in pods.values() for pod in each]
    needed = [each for each in wanted if allowed(policies, *each)]
    for at, policy in enumerate(policies):
        for way in ("ingress", "egress"):
            for number in range(len(policy["spec"].get(way, ()))):
                less = _without(policies, at, way, number)
                assert any(not allowed(less, *each) for each in needed), (
                    f"{policy['metadata']['name']}: nobody needs {way}[{number}]"
                )


def _without(policies: list[Object], at: int, way: str, number: int) -> list[Object]:
    less = copy.deepcopy(policies)
    del less[at]["spec"][way][number]
    return less

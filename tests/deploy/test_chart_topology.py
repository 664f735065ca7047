"""Objects of the chart that must fit each other: what selects, names or scales what."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from deploy.network import matches
from deploy.process_settings import SETTINGS
from deploy.render import VARIANTS, Render, render, rendered, told, variants
from deploy.workloads import Workload, secret_references, words_of, workloads

if TYPE_CHECKING:
    from deploy.render import Object

SCALED = ("Deployment", "StatefulSet")
SCALERS = ("HorizontalPodAutoscaler", "ScaledObject")


def lasting(render: Render) -> list[Workload]:
    """Workloads whose pods stay."""
    return [each for each in workloads(render.objects) if each.owner["kind"] in SCALED]


@pytest.mark.parametrize("variant", VARIANTS)
def test_workloads_select_their_own_pods_and_no_others(variant: str) -> None:
    """Two workloads that select the same pods would fight over them."""
    render = rendered(variant)
    for workload in lasting(render):
        selector = workload.owner["spec"]["selector"]
        selected = [each for each in workloads(render.objects) if matches(selector, each.labels)]
        assert selected == [workload], f"{workload} selects {[str(each) for each in selected]}"


@pytest.mark.parametrize("variant", VARIANTS)
def test_services_select_pods_of_one_workload_that_has_the_ports(variant: str) -> None:
    """No Service is without pods, and none sends calls to the pods of another part."""
    render = rendered(variant)
    for service in render.of_kind("Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        selected = [each for each in workloads(render.objects) if matches(selector, each.labels)]
        components = {each.component for each in selected}
        assert components == {service["metadata"]["labels"]["app.kubernetes.io/component"]}
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            for workload in selected:
                numbers = workload.ports
                assert target in numbers or target in numbers.values(), told(service)
                assert numbers.get(target, target) == port["port"], told(service)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_service_that_can_be_published_tells_metrics(variant: str) -> None:
    """They say who asks for what; a load balancer would show them to whoever reaches it."""
    for service in rendered(variant).of_kind("Service"):
        if service["spec"].get("clusterIP") != "None":
            names = {port["name"] for port in service["spec"]["ports"]}
            assert "metrics" not in names, told(service)


@pytest.mark.parametrize(
    ("part", "values", "kind"),
    [
        ("jobs", {"replicas": 1}, "Recreate"),
        ("jobs", {"replicas": 2}, "RollingUpdate"),
        ("inference", {}, "RollingUpdate"),
        ("inference", {"replicas": 1}, "Recreate"),
        ("inference", {"autoscaling": {"enabled": True, "minReplicas": 1}}, "RollingUpdate"),
        ("registry", {"replicas": 1}, "Recreate"),
    ],
)
def test_two_pods_do_not_wait_for_one_claim(part: str, values: Object, kind: str) -> None:
    """A claim that one node mounts at a time is free for the next pod when the last has gone."""
    claims = {"existingClaims": {part: "records"}}
    found = {each.component: each.owner["spec"] for each in lasting(render({part: values}))}
    assert found[part]["strategy"]["type"] == "RollingUpdate"
    found = {
        each.component: each.owner["spec"]
        for each in lasting(render({part: values, "audit": claims}))
    }
    assert found[part]["strategy"]["type"] == kind
    assert found["web"]["strategy"]["type"] == "RollingUpdate"


@pytest.mark.parametrize("part", [*SETTINGS, "setup", "test"])
def test_each_part_may_have_an_image_of_its_own(part: str) -> None:
    """Of another repository and by its digest; and no other part has it."""
    digest = f"sha256:{'0' * 64}"
    found = render({part: {"image": {"repository": "own/image", "digest": digest}}})
    having = {
        each.component
        for each in workloads(found.objects)
        for container in each.containers
        if container["image"] == f"own/image@{digest}"
    }
    assert having == {part}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_service_that_the_system_calls_is_there(variant: str) -> None:
    """One for each gRPC service; each StatefulSet has the headless one that it names."""
    render = rendered(variant)
    services = {each["metadata"]["name"]: each for each in render.of_kind("Service")}
    parts = {
        each["metadata"]["labels"]["app.kubernetes.io/component"] for each in services.values()
    }
    assert parts >= {"jobs", "registry", "inference"}
    for each in render.of_kind("StatefulSet"):
        named = each["spec"].get("serviceName")
        assert named is None or named in services, told(each)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_account_is_made_or_left_to_the_cluster(variant: str) -> None:
    """A pod of an account that is not there is never started."""
    render = rendered(variant)
    made = {each["metadata"]["name"] for each in render.of_kind("ServiceAccount")}
    used = {each.spec.get("serviceAccountName", "default") for each in workloads(render.objects)}
    assert used <= made | {"default"} | words_of(variants()[variant])
    assert made <= used, "an account that nobody uses"


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_the_setup_job_is_given_a_token_and_a_role(variant: str) -> None:
    """Who takes over a service finds nothing with which to ask the API server."""
    render = rendered(variant)
    trusted = set()
    for workload in workloads(render.objects):
        sources = [
            source
            for volume in workload.spec.get("volumes", ())
            for source in volume.get("projected", {}).get("sources", ())
        ]
        token = any("serviceAccountToken" in source for source in sources)
        if workload.spec.get("automountServiceAccountToken") is not False or token:
            assert workload.component == "setup", str(workload)
            trusted.add(workload.spec["serviceAccountName"])
    bound = {
        subject["name"]
        for binding in render.of_kind("RoleBinding")
        for subject in binding["subjects"]
    }
    assert bound == trusted
    assert render.of_kind("ClusterRole", "ClusterRoleBinding") == []
    roles = {each["metadata"]["name"]: each for each in render.of_kind("Role")}
    for binding in render.of_kind("RoleBinding"):
        assert binding["roleRef"]["name"] in roles
    for role in roles.values():
        for rule in role["rules"]:
            assert rule["resources"] == ["secrets"], told(role)
            assert rule["resourceNames"], told(role)
            assert set(rule["verbs"]) <= {"get", "patch", "update"}, told(role)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_scaled_is_there_and_has_no_replicas(variant: str) -> None:
    """Else each upgrade would set back what the scaler chose."""
    render = rendered(variant)
    known = {(each.owner["kind"], each.owner["metadata"]["name"]): each for each in lasting(render)}
    scaled: Counter[tuple[str, str]] = Counter()
    for scaler in render.of_kind(*SCALERS):
        target = scaler["spec"]["scaleTargetRef"]
        key = (target.get("kind", "Deployment"), target["name"])
        assert key in known, told(scaler)
        assert target.get("apiVersion", "apps/v1") == "apps/v1", told(scaler)
        scaled[key] += 1
    assert all(count == 1 for count in scaled.values()), "two scalers of one workload"
    for key, workload in known.items():
        assert ("replicas" in workload.owner["spec"]) is (key not in scaled), str(workload)


def test_no_pods_can_be_asked_for() -> None:
    """Zero is a number of pods, and not a value that was left out."""
    parts = ("jobs", "registry", "inference", "worker", "web")
    stopped = render({part: {"replicas": 0} for part in parts})
    found = {
        each.component: each.owner["spec"]["replicas"]
        for each in lasting(stopped)
        if each.component in parts
    }
    assert found == dict.fromkeys(parts, 0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_disruption_budgets_let_nodes_be_drained(variant: str) -> None:
    """Each is about one workload's pods, and one of them may always go."""
    render, seen = rendered(variant), []
    for budget in render.of_kind("PodDisruptionBudget"):
        spec = budget["spec"]
        selected = [each for each in lasting(render) if matches(spec["selector"], each.labels)]
        assert len(selected) == 1, told(budget)
        assert _may_go(spec, selected[0].owner["spec"].get("replicas", 1)), told(budget)
        seen.append(selected[0])
    assert len(seen) == len({str(each) for each in seen}), "two budgets of one workload"


def _may_go(spec: Object, replicas: int) -> bool:
    if "maxUnavailable" in spec:
        return str(spec["maxUnavailable"]) not in {"0", "0%"}
    least = str(spec["minAvailable"])
    return not least.endswith("%") and int(least) < replicas


def test_a_budget_that_holds_every_pod_is_seen() -> None:
    """Such a one would stop every drain of a node for ever."""
    assert not _may_go({"maxUnavailable": 0}, 2)
    assert not _may_go({"minAvailable": 2}, 2)
    assert not _may_go({"minAvailable": "100%"}, 2)
    assert _may_go({"minAvailable": 1}, 2)
    assert _may_go({"maxUnavailable": "50%"}, 2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_monitors_find_a_port_of_every_process(variant: str) -> None:
    """A monitor without targets is a dashboard without data."""
    render = rendered(variant)
    for monitor in render.of_kind("PodMonitor"):
        selector = monitor["spec"]["selector"]
        selected = [each for each in lasting(render) if matches(selector, each.labels)]
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            # Pods without such a port, the bundled servers', are left out by the operator.
            scraped = {each.component for each in selected if endpoint["port"] in each.ports}
            assert scraped == {*SETTINGS} & {each.component for each in lasting(render)}
    for monitor in render.of_kind("ServiceMonitor"):
        selector = monitor["spec"]["selector"]
        found = [
            each
            for each in render.of_kind("Service")
            if matches(selector, each["metadata"]["labels"])
        ]
        assert found, told(monitor)
        for endpoint in monitor["spec"]["endpoints"]:
            for service in found:
                names = {port["name"] for port in service["spec"]["ports"]}
                assert endpoint["port"] in names, told(monitor)


@pytest.mark.parametrize("variant", VARIANTS)
def test_routes_lead_to_services(variant: str) -> None:
    """An Ingress or GRPCRoute names a Service of the release and a port that it has."""
    render = rendered(variant)
    offered = {
        (service["metadata"]["name"], port[key])
        for service in render.of_kind("Service")
        for port in service["spec"]["ports"]
        for key in ("name", "port")
    }
    for ingress in render.of_kind("Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                port = backend["port"].get("name") or backend["port"]["number"]
                assert (backend["name"], port) in offered, told(ingress)
    for route in render.of_kind("GRPCRoute", "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                assert (backend["name"], backend["port"]) in offered, told(route)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_secret_is_made_or_named_by_the_values(variant: str) -> None:
    """Pods wait for ever for a Secret that nobody has."""
    render = rendered(variant)
    made = {each["metadata"]["name"] for each in render.of_kind("Secret")}
    made |= {each["spec"]["secretName"] for each in render.of_kind("Certificate")}
    named = words_of(variants()[variant])
    for workload in workloads(render.objects):
        missing = set(secret_references(workload.spec)) - made - named
        assert not missing, f"{workload} needs {missing}"

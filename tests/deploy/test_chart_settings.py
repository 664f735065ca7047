"""The processes' own settings, built from what the chart gives each container."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import helm_python
import pytest
from typer.testing import CliRunner

from deploy.process_settings import (
    SETTINGS,
    hosts,
    ports,
    processes,
    running,
    secrets_of,
    stop_s,
)
from deploy.render import NAMESPACE, VARIANTS, render, rendered, variants
from deploy.workloads import address, environment, workloads
from histill.cli.app import app
from histill.client.settings import ClientSettings
from histill.core.settings import ProcessSettings, load, variable_names
from histill.rpc.trace_export import FLUSH_S
from histill.web.settings import WebSettings

if TYPE_CHECKING:
    from deploy.render import Object, Values
    from histill.web.settings import WebPart

PREFIX, CLIENT = "HISTILL_", "HISTILL_CLIENT__"


def settings_of(
    container: Object, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> ProcessSettings:
    for name in [each for each in os.environ if each.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return load(SETTINGS[container["name"]])


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_process_starts_with_what_the_chart_gives_it(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and values are its own settings', and none is of a group that it does not have."""
    found = set()
    for _, container, variables in processes(variant):
        assert settings_of(container, variables, monkeypatch)
        known = variable_names(SETTINGS[container["name"]])
        ours = {name for name in variables if name.startswith(PREFIX)}
        assert ours <= known, f"{container['name']}: {ours - known}"
        found.add(container["name"])
    assert found >= {"jobs", "registry", "inference", "worker"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variable_is_set_once(variant: str) -> None:
    """Of two of one name the last would count, and an API server warns of it."""
    for workload in workloads(rendered(variant).objects):
        for container in workload.containers:
            names = [each["name"] for each in container.get("env", ())]
            assert len(names) == len(set(names)), f"{workload}: {names}"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_command_line_is_called_with_what_it_knows(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands, options and variables of setup and test pods; servers' have none of ours."""
    found, seen = rendered(variant), 0
    for name in [each for each in os.environ if each.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for workload in workloads(found.objects):
        for container in workload.containers:
            if container["name"] in SETTINGS:
                continue
            variables = environment(container, found.objects, secrets_of(variant))
            if not re.search(r"/cli[:@]", container["image"]):
                assert not [each for each in variables if each.startswith(PREFIX)], str(workload)
                continue
            seen += 1
            client = {
                each.removeprefix(CLIENT).lower(): value
                for each, value in variables.items()
                if each.startswith(CLIENT)
            }
            assert ClientSettings.model_validate(client)
            ours = {each for each in variables if each.startswith(PREFIX) and CLIENT not in each}
            assert ours <= variable_names(ProcessSettings), str(workload)
            # --help stops a command before it does anything, and after its options were read.
            done = CliRunner().invoke(app, [*container["args"], "--help"])
            assert done.exit_code == 0, f"{workload}: {container['args']}: {done.output}"
    assert seen


@pytest.mark.parametrize("variant", VARIANTS)
def test_ports_are_those_on_which_processes_listen(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and numbers of a container's ports, against the settings and the code."""
    for workload, container, variables in processes(variant):
        listens = ports(container["name"], settings_of(container, variables, monkeypatch))
        said = {each["name"]: each["containerPort"] for each in container["ports"]}
        assert said == listens, f"{workload}: {said} is not {listens}"


@pytest.mark.parametrize("variant", VARIANTS)
def test_probes_ask_where_health_is_told(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Liveness and readiness are two answers: a store that is away restarts nobody."""
    for workload, container, variables in processes(variant):
        listens = ports(container["name"], settings_of(container, variables, monkeypatch))
        for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
            probe = container[kind]
            if container["name"] == "web":
                assert probe["httpGet"]["path"] == "/healthz", str(workload)
                port = probe["httpGet"]["port"]
                assert listens.get(port, port) == listens["http"], str(workload)
                continue
            service = "" if kind == "readinessProbe" else "liveness"
            assert probe["grpc"].get("service", "") == service, f"{workload} {kind}"
            assert probe["grpc"]["port"] == listens["health"], f"{workload} {kind}"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_pod_is_given_the_time_that_its_process_takes_to_stop(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the kubelet kills it over running calls."""
    for workload, container, variables in processes(variant):
        takes = stop_s(settings_of(container, variables, monkeypatch))
        asleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        grace = workload.spec["terminationGracePeriodSeconds"]
        assert grace > takes + asleep.get("seconds", 0), f"{workload}: {grace} s for {takes} s"


def test_last_traces_are_given_their_time_besides() -> None:
    """A collector that is away takes none of what audit records and checkpoints need."""
    values = variants()["external"]
    traced, plain = (
        {
            str(each): each.spec["terminationGracePeriodSeconds"]
            for each in workloads(render(values | {"tracing": tracing}).objects)
            if "terminationGracePeriodSeconds" in each.spec
        }
        for tracing in ({"endpoint": "http://collector:4317"}, {"endpoint": ""})
    )
    assert len(traced) == len(SETTINGS)
    assert {name: plain[name] + FLUSH_S for name in plain} == traced


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_process_listens_where_the_values_say(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls, the page, health and metrics: none is left on addresses of the other kind."""
    wanted = variants()[variant].get("bindHost", "0.0.0.0")  # noqa: S104 - as in the chart
    for workload, container, variables in processes(variant):
        settings = settings_of(container, variables, monkeypatch)
        assert hosts(settings) == {wanted}, str(workload)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_address_within_the_release_is_a_service_of_it(variant: str) -> None:
    """By name and port, of clients, of the bundled servers, and of the page."""
    found, seen = rendered(variant), set()
    offered = {
        (service["metadata"]["name"], port["port"])
        for service in found.of_kind("Service")
        for port in service["spec"]["ports"]
    }
    for workload in workloads(found.objects):
        for container in workload.containers:
            variables = environment(container, found.objects, secrets_of(variant))
            for name, value in variables.items():
                host, port = address(value) or ("", 0)
                if host and ("." not in host or f".{NAMESPACE}.svc" in host):
                    assert (host.partition(".")[0], port) in offered, f"{workload}: {name}"
                    seen.add(port)
    assert seen >= {50051, 50052, 50053}


def test_pools_of_jobs_and_workers_are_the_same() -> None:
    """A pool that the jobs service offers has workers, and the other way round."""
    for variant in VARIANTS:
        offered, worked = set(), set()
        for _, container, variables in processes(variant):
            if container["name"] == "jobs":
                offered |= set(json.loads(variables["HISTILL_JOBS__POOLS"]))
            if container["name"] == "worker":
                worked |= set(json.loads(variables["HISTILL_WORKER__POOLS"]))
        assert offered == worked, variant


def page_of(values: Values, variant: str, monkeypatch: pytest.MonkeyPatch) -> WebPart:
    """What the page is told by a render, with the keys that a variant's setup makes."""
    for _, container, variables in running(render(values), secrets_of(variant)):
        if container["name"] == "web":
            settings = settings_of(container, variables, monkeypatch)
            assert isinstance(settings, WebSettings)
            return settings.web
    raise LookupError("web")


def test_only_a_page_with_guests_has_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made for that, and is a viewer's; without it people bring their own."""
    for variant, values in variants().items():
        if values.get("web", {}).get("enabled", True):
            guests = values.get("web", {}).get("allowAnonymous", False)
            page = page_of(values, variant, monkeypatch)
            assert bool(page.guest_key.get_secret_value()) is guests, variant
            asked = ["--guests" in str(each) for each in rendered(variant).of_kind("Job")]
            assert asked == [guests] * len(asked), variant
    nobody = {"web": {"allowAnonymous": True}, "auth": variants()["no-auth"]["auth"]}
    assert page_of(nobody, "default", monkeypatch).guest_key.get_secret_value() == ""


def test_the_page_keeps_sign_ins_and_believes_the_proxies_that_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over HTTPS only, and nobody unless the values say so."""
    page = page_of({}, "default", monkeypatch)
    assert page.secure_cookies
    assert page.trusted_proxies == ()
    values = {
        "web": {
            "trustedProxies": ["10.244.0.0/16", "fd00::1"],
            "settings": {"WEB__SECURE_COOKIES": "false"},
        }
    }
    page = page_of(values, "default", monkeypatch)
    assert not page.secure_cookies
    assert page.trusted_proxies == ("10.244.0.0/16", "fd00::1")


@pytest.mark.parametrize("part", SETTINGS)
def test_settings_of_a_part_reach_its_container_and_no_other(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the chart has no value for can be set all the same."""
    render_ = render({part: {"settings": {"S3__TIMEOUT_S": "7.5"}}})
    for _, container, variables in running(render_, secrets_of("default")):
        settings = settings_of(container, variables, monkeypatch)
        assert settings.s3.timeout_s == (7.5 if container["name"] == part else 10.0)


@pytest.mark.parametrize("part", SETTINGS)
def test_a_setting_that_the_chart_makes_is_not_set_twice(part: str) -> None:
    """Which of the two counts would be nobody's to guess; the message names both."""
    with pytest.raises(
        helm_python.HelmError, match=f"{part}.settings.LOG__LEVEL.*HISTILL_LOG__LEVEL"
    ):
        render({part: {"settings": {"LOG__LEVEL": "debug"}}})

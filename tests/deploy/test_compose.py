"""Compose on one host: what its file says, and that processes take it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from deploy.dockerfile import stages
from deploy.process_settings import SETTINGS, ports, stop_s
from deploy.render import ROOT
from histill.cli.setup import BucketSettings
from histill.core.api_keys import digest
from histill.core.settings import ServiceSettings, load, variable_names
from histill.web.settings import WebSettings

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

FOLDER = ROOT / "deploy" / "compose"
PROCESSES = sorted(SETTINGS)
READ_BY: dict[str, type[BaseSettings]] = {**SETTINGS, "setup": BucketSettings}
FILE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?])((?:[^{}])*))?\}")


@cache
def fresh() -> tuple[dict[str, str], str]:
    """What new-env writes: the variables, and the admin key that it shows."""
    done = subprocess.run(
        ["/bin/sh", FOLDER / "new-env"], check=True, capture_output=True, text=True
    )
    values = dict(line.split("=", 1) for line in done.stdout.splitlines())
    return values, done.stderr.strip().rpartition("=")[2]


def filled(text: str, values: dict[str, str]) -> str:
    """A text with its variables, as compose fills them in."""

    def value(found: re.Match[str]) -> str:
        name, kind, words = found.groups()
        if values.get(name):
            return values[name]
        assert kind == "-", f"compose would refuse: {name}"
        return words

    return VARIABLE.sub(value, text).replace("$$", "$")


def environment(service: str) -> dict[str, str]:
    """What a container gets, with fresh secrets."""
    found: dict[str, str] = SERVICES[service].get("environment", {})
    return {name: filled(value, fresh()[0]) for name, value in found.items()}


def seconds(text: str) -> float:
    [(number, unit)] = re.findall(r"^(\d+)([sm])$", text)
    return float(number) * {"s": 1, "m": 60}[unit]


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_files_are_of_the_compose_specification(name: str) -> None:
    """By its JSON schema (github.com/compose-spec/compose-spec); a stray field would be found."""
    schema = json.loads((ROOT / "tests/deploy/schemas/compose-spec.json").read_text())
    validator = jsonschema.Draft201909Validator(schema)
    content = yaml.safe_load((FOLDER / name).read_text())
    content.pop("name", None)  # the specification took it in after that schema was released
    assert [each.message for each in validator.iter_errors(content)] == []
    content["services"]["worker"]["read_onyl"] = True
    assert len(list(validator.iter_errors(content))) == 1


def test_every_image_has_a_version() -> None:
    """Never the latest, which is another one tomorrow; ours are built from their targets."""
    for name, service in SERVICES.items():
        image = filled(service["image"], {})
        tag = image.rpartition(":")[2]
        assert re.search(r"\d+\.\d+|RELEASE\.\d{4}-\d\d-\d\d", tag), image
        if image.startswith("histill/"):
            target = image.removeprefix("histill/").partition(":")[0]
            assert target == service["build"]["target"] == {"setup": "cli"}.get(name, name)
            assert (FOLDER / service["build"]["context"]).resolve() == ROOT


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_container_can_change_nothing_but_its_volumes(name: str) -> None:
    """Closed file system, no capabilities, no new ones."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "cap_add" not in service
    assert "privileged" not in service


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_everything_that_runs_on_tells_its_health(name: str) -> None:
    """In the file, or in the Dockerfile; others wait for that, and only for what can come."""
    service = SERVICES[name]
    target = service.get("build", {}).get("target", "")
    healthy = "healthcheck" in service or bool(target and stages()[target].healthcheck)
    assert healthy is (name != "setup")
    for other, how in service.get("depends_on", {}).items():
        ends = other == "setup"
        assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy")
        assert other in SERVICES


@pytest.mark.parametrize("name", sorted(READ_BY))
def test_processes_take_their_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable is a setting of the process, and its value, with fresh secrets, is right."""
    variables = environment(name)
    assert set(variables) <= variable_names(READ_BY[name])
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    settings = load(READ_BY[name])
    if isinstance(settings, ServiceSettings):
        (admin,) = settings.auth.api_keys
        assert (admin.role, admin.sha256) == ("admin", digest(fresh()[1]))
        assert settings.auth.seal_bytes
        assert settings.audit.key_bytes


def test_the_page_calls_the_services_where_they_are() -> None:
    """Names and ports are those of the containers."""
    settings = environment("web")
    for process in ("jobs", "registry", "inference"):
        own = ports(process, SETTINGS[process]())
        assert settings[f"HISTILL_WEB__{process.upper()}"] == f"{process}:{own['grpc']}"


def test_each_secret_is_asked_for_by_name() -> None:
    """What has no default stops compose with a sentence, and new-env and the example know it."""
    text = (FOLDER / "compose.yaml").read_text()
    found = [match.groups() for match in VARIABLE.finditer(text)]
    assert all(kind for _, kind, _ in found), "a variable without default would be empty"
    asked = {name for name, kind, _ in found if kind == "?"}
    assert asked == set(fresh()[0])
    example = (FOLDER / ".env.example").read_text()
    assert set(re.findall(r"^(\w+)=$", example, re.MULTILINE)) == asked
    defaults = {name for name, kind, _ in found if kind == "-"}
    assert set(re.findall(r"^# (\w+)=", example, re.MULTILINE)) == defaults
    assert ".env" in (FOLDER / ".gitignore").read_text().split()


def test_new_secrets_are_new() -> None:
    """No two are alike, neither in one file nor in two, and each can stand in a URL."""
    first, admin = fresh()
    fresh.cache_clear()
    second, other_admin = fresh()
    everything = [*first.values(), *second.values(), admin, other_admin]
    assert len(set(everything)) == len(everything)
    assert all(re.fullmatch(r"[0-9a-f]{20,64}", each) for each in everything)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_nothing_listens_beyond_the_host_unless_asked(name: str) -> None:
    """Published ports are bound to loopback; stores publish none, nor do metrics and health."""
    for each in SERVICES[name].get("ports", ()):
        address, outside, inside = filled(each, {}).split(":")
        assert address == "127.0.0.1"
        assert outside == inside
        if name in SETTINGS:
            own = ports(name, SETTINGS[name]())
            assert int(inside) in {own.get("grpc"), own.get("http")}
    if name in {"valkey", "minio", "worker", "setup"}:
        assert "ports" not in SERVICES[name]
    assert FILE["networks"]["stores"] == {"internal": True}


@pytest.mark.parametrize("name", PROCESSES)
def test_processes_are_given_the_time_that_they_take_to_stop(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds beyond what their settings say; a worker also has to give back its job."""
    for variable, value in environment(name).items():
        monkeypatch.setenv(variable, value)
    needed = stop_s(load(SETTINGS[name])) + 10
    assert seconds(SERVICES[name]["stop_grace_period"]) >= needed


@pytest.mark.parametrize("name", PROCESSES)
def test_folders_of_an_image_are_volumes(name: str) -> None:
    """All that its settings name, each a volume of its own that is declared."""
    mounted = dict(reversed(each.split(":")[:2]) for each in SERVICES[name].get("volumes", ()))
    settings = stages()[name].environment.values()
    folders = {each.removesuffix("/records") for each in settings if each.startswith("/var")}
    assert set(mounted) == folders
    assert set(mounted.values()) <= set(FILE["volumes"])


def test_prometheus_asks_every_process() -> None:
    """On its port of metrics, with the rules of the chart."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    asked = {
        target for job in config["scrape_configs"] for each in job["static_configs"]
        for target in each["targets"]
    }  # fmt: skip
    expected = {f"{name}:{ports(name, SETTINGS[name]())['metrics']}" for name in PROCESSES}
    assert asked == expected
    mounts = dict(each.split(":")[:2] for each in SERVICES["prometheus"]["volumes"])
    rules = FOLDER / next(each for each, there in mounts.items() if there.endswith("/rules"))
    assert sorted(rules.resolve().glob("*.yaml"))
    assert config["rule_files"] == ["/etc/prometheus/rules/*.yaml"]
    assert mounts["./prometheus.yml"] in " ".join(SERVICES["prometheus"]["command"])


def test_promtool_takes_the_configuration() -> None:
    """Prometheus's own check."""
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed; it comes with Debian's package prometheus")
    command = [promtool, "check", "config", str(FOLDER / "prometheus.yml")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_finds_the_dashboards() -> None:
    """Those of the chart, mounted where the provider looks, and the one source of data."""
    mounts = dict(each.split(":")[:2] for each in SERVICES["grafana"]["volumes"])
    provisioning = FOLDER / "grafana" / "provisioning"
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    [provider] = yaml.safe_load((provisioning / "dashboards/histill.yaml").read_text())["providers"]
    [folder] = [each for each, there in mounts.items() if there == provider["options"]["path"]]
    assert sorted((FOLDER / folder).resolve().glob("*.json"))
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"] is True


def test_the_page_asks_everybody_to_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no key of its own, keeps sign-ins over HTTPS or on this host, believes no proxy."""
    for variable, value in environment("web").items():
        monkeypatch.setenv(variable, value)
    page = load(WebSettings).web
    assert page.guest_key.get_secret_value() == ""
    assert page.secure_cookies
    assert page.trusted_proxies == ()
    held = {name for name, service in SERVICES.items() if "GUEST_KEY" in str(service)}
    assert held == {"web"}


def test_the_page_is_reached_under_the_names_that_are_published() -> None:
    """A page on another host name would be refused."""
    hosts = json.loads(environment("web")["HISTILL_WEB__ALLOWED_HOSTS"])
    assert hosts == list(WebSettings().web.allowed_hosts)

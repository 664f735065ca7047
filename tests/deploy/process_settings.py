"""Which settings a container's process reads, and where it then listens."""

from __future__ import annotations

import ast
import inspect
import json
from functools import cache
from typing import TYPE_CHECKING

from deploy.render import ROOT, rendered, variants
from deploy.workloads import environment, workloads
from histill.core.first_keys import Bundled, changes
from histill.core.settings import ServiceSettings
from histill.distill.settings import WorkerSettings
from histill.inference.settings import InferenceSettings
from histill.jobs.settings import JobsSettings
from histill.registry.settings import RegistrySettings
from histill.rpc.server import ServiceDescription
from histill.rpc.trace_export import FLUSH_S
from histill.web.settings import WebSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deploy.render import Object, Render
    from deploy.workloads import Workload
    from histill.core.settings import ProcessSettings

SETTINGS: dict[str, type[ProcessSettings]] = {
    "jobs": JobsSettings,
    "registry": RegistrySettings,
    "inference": InferenceSettings,
    "web": WebSettings,
    "worker": WorkerSettings,
}
# As web/bootstrap.py lets uvicorn drain.
WEB_DRAIN_S = 5.0


def secrets_of(variant: str) -> Callable[[str, str, str], str]:
    """The value of a key in a Secret, by the variable that takes it, the Secret and the key.

    The chart's own Secret holds what ``histill setup secrets`` writes, and nothing else: another
    key raises KeyError. An operator's own ones hold what the variable needs.
    """
    (port,) = variants()[variant].get("networkPolicy", {}).get("redisPorts", [6379])
    api_keys = [{"id": "me", "sha256": "0" * 64, "role": "admin"}]
    own = {
        "HISTILL_REDIS__URL": f"rediss://:pass@redis.example:{port}/0",
        "HISTILL_AUTH__API_KEYS": json.dumps(api_keys),
    }
    made = {each["metadata"]["name"] for each in rendered(variant).of_kind("Secret")}

    def value(variable: str, secret: str, key: str) -> str:
        if secret in made:
            return _made_keys(variant)[key]
        return own.get(variable, "an-operators-own-secret-of-some-length")

    return value


def processes(variant: str) -> Iterator[tuple[Workload, Object, dict[str, str]]]:
    """Containers of our processes, with what they start with."""
    yield from running(rendered(variant), secrets_of(variant))


def running(
    render: Render, secret: Callable[[str, str, str], str]
) -> Iterator[tuple[Workload, Object, dict[str, str]]]:
    """As ``processes``, of any render and with values of Secrets as ``secrets_of`` gives them."""
    for workload in workloads(render.objects):
        for container in workload.containers:
            if container["name"] in SETTINGS:
                yield workload, container, environment(container, render.objects, secret)


@cache
def _made_keys(variant: str) -> dict[str, str]:
    """What the setup command writes that the variant calls."""
    redis, s3, guests = "", False, False
    for job in rendered(variant).of_kind("Job"):
        spec = job["spec"]["template"]["spec"]
        for container in [*spec.get("initContainers", ()), *spec["containers"]]:
            redis = next(
                (_after(each, "redis=") for each in container["args"] if "redis=" in each), redis
            )
            s3 = s3 or "--bundled-s3" in container["args"]
            guests = guests or "--guests" in container["args"]
    return changes({}, bundled=Bundled(redis=redis, s3=s3), guests=guests)


def _after(text: str, mark: str) -> str:
    return text.partition(mark)[2]


def ports(process: str, settings: ProcessSettings) -> dict[str, int]:
    """Ports on which a process listens, by the chart's names for them."""
    if isinstance(settings, WebSettings):
        found = {"http": settings.web.port, "metrics": settings.web.metrics_port}
    elif isinstance(settings, WorkerSettings):
        part = settings.worker
        found = {"metrics": part.metrics_port, "health": part.health_port}
    else:
        found = _of_service(process, settings)
    return {name: port for name, port in found.items() if port >= 0}


def hosts(settings: ProcessSettings) -> set[str]:
    """Addresses on which a process listens."""
    if isinstance(settings, WebSettings):
        return {settings.web.host}
    if isinstance(settings, WorkerSettings):
        return {settings.worker.health_host, settings.worker.metrics_host}
    assert isinstance(settings, ServiceSettings)
    return {settings.server.host}


def _of_service(process: str, settings: ProcessSettings) -> dict[str, int]:
    assert isinstance(settings, ServiceSettings)
    own, server = _described(process), settings.server
    return {
        "grpc": server.port or own["port"],
        "metrics": server.metrics_port or own["metrics_port"],
        "health": server.health_port or own["health_port"],
    }


def stop_s(settings: ProcessSettings) -> float:
    """Seconds that a process takes at most from SIGTERM to its end, as its settings say."""
    traces = FLUSH_S if settings.tracing.endpoint else 0.0
    if isinstance(settings, WebSettings):
        return WEB_DRAIN_S + traces
    if isinstance(settings, WorkerSettings):
        return settings.worker.drain_s + settings.worker.stop_grace_s + traces
    assert isinstance(settings, ServiceSettings)
    return settings.server.linger_s + settings.server.drain_s + traces


def _described(process: str) -> dict[str, int]:
    """The ports that a service's bootstrap.py takes when its settings name none."""
    path = ROOT / "services" / "histill" / process / "bootstrap.py"
    tree = ast.parse(path.read_text())
    constants: dict[str, object] = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ServiceDescription":
            keywords = {each.arg: each.value for each in node.keywords if each.arg}
            bound = inspect.signature(ServiceDescription).bind(*node.args, **keywords)
            return {
                name: _number(value, constants)
                for name, value in bound.arguments.items()
                if name.endswith("port")
            }
    raise LookupError(f"{path} describes no service")


def _number(node: ast.expr, constants: dict[str, object]) -> int:
    value = constants[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node)
    assert isinstance(value, int)
    return value

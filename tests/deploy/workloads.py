"""What runs: pods of workloads, their containers, and the environment of each container."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.render import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from deploy.render import Object

KINDS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod")
_ADDRESS = re.compile(
    r"(?:(?P<scheme>\w+):/{2,3}(?:[^@/]*@)?)?(?P<host>[\w.-]+)(?::(?P<port>\d+))?(?:/\S*)?"
)
_PORTS = {"http": 80, "https": 443}
_REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


@dataclass(frozen=True)
class Workload:
    """Something that runs pods.

    Attributes:
        owner: The object.
        labels: Of its pods.
        spec: Of its pods.
    """

    owner: Object
    labels: dict[str, str]
    spec: Object

    def __str__(self) -> str:
        return told(self.owner)

    @property
    def containers(self) -> list[Object]:
        """Those that run, and those that run before them."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]

    @property
    def component(self) -> str:
        """Which part of the system it is."""
        return self.labels.get("app.kubernetes.io/component", "")

    @property
    def ports(self) -> dict[str, int]:
        """Ports of its containers by name."""
        return {
            port["name"]: port["containerPort"]
            for container in self.containers
            for port in container.get("ports", ())
        }


def workloads(objects: Iterable[Object]) -> list[Workload]:
    """Everything that runs pods."""
    return [_workload(each) for each in objects if each["kind"] in KINDS]


def _workload(owner: Object) -> Workload:
    template = owner
    if owner["kind"] == "CronJob":
        template = owner["spec"]["jobTemplate"]["spec"]["template"]
    elif owner["kind"] != "Pod":
        template = owner["spec"]["template"]
    labels = template.get("metadata", {}).get("labels", {})
    return Workload(owner, labels, template["spec"])


def labels_of(item: object) -> list[tuple[str, str]]:
    """Every label in an object, at any depth: its own, of pods, and in selectors."""
    if isinstance(item, list):
        return [pair for each in item for pair in labels_of(each)]
    if not isinstance(item, dict):
        return []
    own = [
        pair
        for key in ("labels", "matchLabels", "nodeSelector")
        if isinstance(item.get(key), dict)
        for pair in item[key].items()
    ]
    return own + [pair for each in item.values() for pair in labels_of(each)]


def environment(
    container: Object, objects: Iterable[Object], secret: Callable[[str, str, str], str]
) -> dict[str, str]:
    """The variables that a container starts with, as the kubelet makes them.

    Args:
        container: From a render.
        objects: All objects of that render.
        secret: Gives the value of a key in a Secret, by the variable's name, the Secret's and
            the key.

    Raises:
        KeyError: A ConfigMap is not among the objects, or lacks a key.
    """
    maps = {
        each["metadata"]["name"]: each.get("data", {})
        for each in objects
        if each["kind"] == "ConfigMap"
    }
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= {
            f"{source.get('prefix', '')}{key}": value
            for key, value in maps[source["configMapRef"]["name"]].items()
        }
    for variable in container.get("env", ()):
        value = _value(variable, maps, secret)
        found[variable["name"]] = _expanded(value, found) if "value" in variable else value
    return found


def _value(
    variable: Object, maps: dict[str, dict[str, str]], secret: Callable[[str, str, str], str]
) -> str:
    if "valueFrom" not in variable:
        return str(variable.get("value", ""))
    source = variable["valueFrom"]
    if reference := source.get("secretKeyRef"):
        return secret(variable["name"], reference["name"], reference["key"])
    if reference := source.get("configMapKeyRef"):
        return maps[reference["name"]][reference["key"]]
    return "told-by-the-kubelet"


def _expanded(value: str, known: dict[str, str]) -> str:
    """Replaces ``$(NAME)`` by variables that stand before; others stay, as in Kubernetes."""
    return _REFERENCE.sub(lambda match: known.get(match[1], match[0]), value)


def address(value: str) -> tuple[str, int] | None:
    """Host and port of ``host:port`` or of a URL; ``None`` of anything else."""
    match = _ADDRESS.fullmatch(value)
    if not match:
        return None
    port = match["port"] or _PORTS.get(match["scheme"] or "")
    return (match["host"], int(port)) if port else None


def secret_references(spec: Object) -> Iterator[str]:
    """Names of the Secrets without which a pod does not start."""
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        for variable in container.get("env", ()):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference and not reference.get("optional"):
                yield reference["name"]
        for source in container.get("envFrom", ()):
            if "secretRef" in source and not source["secretRef"].get("optional"):
                yield source["secretRef"]["name"]
    for volume in spec.get("volumes", ()):
        sources = [volume, *volume.get("projected", {}).get("sources", ())]
        for source in sources:
            reference = source.get("secret")
            if reference and not reference.get("optional"):
                yield reference.get("secretName", reference.get("name", ""))
    for reference in spec.get("imagePullSecrets", ()):
        yield reference["name"]


def words_of(values: object) -> set[str]:
    """Every string among values: names of what operators have made themselves."""
    if isinstance(values, dict):
        return {word for each in values.values() for word in words_of(each)}
    if isinstance(values, list):
        return {word for each in values for word in words_of(each)}
    return {values} if isinstance(values, str) else set()

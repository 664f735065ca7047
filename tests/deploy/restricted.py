"""The Pod Security Standard "restricted", as rules over a pod's spec.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.render import Object

_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_syncookies",
    }
)


def violations(spec: Object) -> list[str]:
    """What a namespace that enforces "restricted" would refuse a pod for."""
    return [*_of_pod(spec), *(word for each in _containers(spec) for word in _of(each, spec))]


def _containers(spec: Object) -> list[Object]:
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return [each for kind in kinds for each in spec.get(kind, ())]


def _of_pod(spec: Object) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield name
    for volume in spec.get("volumes", ()):
        kinds = set(volume) - {"name"}
        if not kinds <= _VOLUMES:
            yield f"volume {volume['name']} is of {kinds}"
    for sysctl in spec.get("securityContext", {}).get("sysctls", ()):
        if sysctl["name"] not in _SYSCTLS:
            yield f"sysctl {sysctl['name']}"


def _of(container: Object, spec: Object) -> Iterator[str]:
    name, own = container["name"], container.get("securityContext", {})
    yield from (f"{name} {word}" for word in _of_rights(own))
    yield from (f"{name} {word}" for word in _of_user({**spec.get("securityContext", {}), **own}))
    for port in container.get("ports", ()):
        if port.get("hostPort"):
            yield f"{name} takes port {port['hostPort']} of its node"


def _of_rights(own: Object) -> Iterator[str]:
    """What only a container itself can say."""
    if own.get("privileged"):
        yield "is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "may escalate its privileges"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()):
        yield "keeps capabilities"
    if added := set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield f"adds {added}"
    if own.get("procMount", "Default") != "Default":
        yield "unmasks /proc"


def _of_user(both: Object) -> Iterator[str]:
    """What a pod may say for its containers."""
    if both.get("runAsNonRoot") is not True:
        yield "may run as root"
    if both.get("runAsUser") == 0:
        yield "runs as root"
    if both.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "has no seccomp profile"

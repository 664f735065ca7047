"""The checker of the Pod Security Standard, on pods that break one rule each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from deploy.restricted import violations

if TYPE_CHECKING:
    from deploy.render import Object

CONTAINER: dict[str, Any] = {
    "name": "jobs",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}
POD: dict[str, Any] = {
    "containers": [CONTAINER],
    "volumes": [{"name": "tmp", "emptyDir": {}}],
}


def with_security(**changes: Any) -> Object:
    context = {**CONTAINER["securityContext"], **changes}
    return {**POD, "containers": [{**CONTAINER, "securityContext": context}]}


def test_a_restricted_pod_passes() -> None:
    """What the standard asks for is enough, wherever of the two places it stands."""
    assert violations(POD) == []
    context = dict(CONTAINER["securityContext"])
    shared = {key: context.pop(key) for key in ("runAsNonRoot", "seccompProfile")}
    moved = {"containers": [{**CONTAINER, "securityContext": context}], "securityContext": shared}
    assert violations(moved) == []


@pytest.mark.parametrize(
    ("pod", "word"),
    [
        ({**POD, "hostNetwork": True}, "hostNetwork"),
        ({**POD, "volumes": [{"name": "x", "hostPath": {"path": "/"}}]}, "hostPath"),
        ({**POD, "securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}, "sysctl"),
        ({**POD, "initContainers": [{"name": "first"}]}, "first keeps capabilities"),
        ({"containers": [{**CONTAINER, "ports": [{"hostPort": 80}]}]}, "port 80"),
        (with_security(privileged=True), "privileged"),
        (with_security(allowPrivilegeEscalation=None), "escalate"),
        (with_security(capabilities={}), "keeps capabilities"),
        (with_security(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}), "SYS_ADMIN"),
        (with_security(runAsNonRoot=False), "may run as root"),
        (with_security(runAsUser=0), "runs as root"),
        (with_security(seccompProfile={"type": "Unconfined"}), "seccomp"),
        (with_security(procMount="Unmasked"), "/proc"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_each_rule_is_seen_to_be_broken(pod: Object, word: str) -> None:
    """A pod that breaks one rule is refused for that one."""
    assert any(word in each for each in violations(pod)), violations(pod)

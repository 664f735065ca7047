"""What runs with which rights, from which images, and where secrets stand."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from deploy.render import CHART, VARIANTS, rendered, told
from deploy.restricted import violations
from deploy.workloads import workloads

# Names of values, keys and variables that hold a secret, not the name of one.
_SECRET = re.compile(
    r"(password|secret.?key|access.?key|api.?key|token|seal|audit.?key)s?$", re.IGNORECASE
)
_REFERENCE = re.compile(r"(?P<name>[a-z0-9./:_-]+?)(:(?P<tag>[\w.-]+))?(@sha256:[0-9a-f]{64})?")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_pod_is_allowed_where_restricted_is_enforced(variant: str) -> None:
    """The strictest of the Pod Security Standards, for each pod, Job and hook."""
    for workload in workloads(rendered(variant).objects):
        assert violations(workload.spec) == [], str(workload)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_container_can_change_its_own_files(variant: str) -> None:
    """Only volumes can be written, and none of them is a Secret or a ConfigMap."""
    for workload in workloads(rendered(variant).objects):
        for container in workload.containers:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, str(workload)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_container_says_what_it_takes(variant: str) -> None:
    """Requests for the scheduler, and a limit of memory: one part must not starve the others."""
    for workload in workloads(rendered(variant).objects):
        for container in workload.containers:
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]), str(workload)
            assert "memory" in resources["limits"], str(workload)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_image_is_pinned(variant: str) -> None:
    """By a tag that is not moved, or a digest."""
    for workload in workloads(rendered(variant).objects):
        for container in workload.containers:
            match = _REFERENCE.fullmatch(container["image"])
            assert match, f"{workload}: {container['image']}"
            assert match["tag"] or "@" in container["image"], f"{workload}: {container['image']}"
            assert match["tag"] not in {"latest", "stable", "main"}, str(workload)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_secret_stands_in_a_manifest(variant: str) -> None:
    """Secrets are made in the cluster: a render, and with it Git and Helm's record, has none."""
    render_ = rendered(variant)
    for each in render_.of_kind("Secret"):
        assert not each.get("data"), told(each)
        assert not each.get("stringData"), told(each)
    for workload in workloads(render_.objects):
        for container in workload.containers:
            for variable in container.get("env", ()):
                if _SECRET.search(variable["name"]):
                    assert not variable.get("value"), f"{workload}: {variable['name']}"
    text = json.dumps(render_.objects)
    assert not re.search(r"redis://[^\s\"]*:[^$\s\"]+@", text)
    assert "PRIVATE KEY" not in text


def test_no_value_takes_a_secret() -> None:
    """Values name Secrets; what stands in values ends in Git, in Helm's record and in logs."""
    for path, value in _leaves(yaml.safe_load((CHART / "values.yaml").read_text())):
        if _SECRET.search(path.rpartition(".")[2]):
            # accessKey and secretKey name keys within a Secret.
            assert not value or path in {"s3.accessKey", "s3.secretKey"}, path


def _leaves(values: object, path: str = "") -> list[tuple[str, object]]:
    if not isinstance(values, dict):
        return [(path, values)]
    return [
        leaf
        for key, value in values.items()
        for leaf in _leaves(value, f"{path}.{key}".lstrip("."))
    ]


def test_a_cluster_may_choose_users_itself() -> None:
    """OpenShift refuses a pod that names a user or a group out of its namespace's range."""
    found = workloads(rendered("openshift").objects)
    assert found
    for workload in found:
        contexts = [workload.spec["securityContext"]]
        contexts += [each["securityContext"] for each in workload.containers]
        assert not [each for each in contexts if {"runAsUser", "runAsGroup", "fsGroup"} & {*each}]

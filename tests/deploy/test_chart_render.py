"""Every variant of the chart, as Helm's own engine renders it and as the API would take it."""

from __future__ import annotations

import copy
import difflib
from itertools import chain
from typing import TYPE_CHECKING, Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from deploy.kinds import is_built_in, problems_of
from deploy.render import CHART, RELEASE, VARIANTS, identity, render, rendered, told, variants
from deploy.workloads import KINDS, labels_of
from deploy.writing import GOLDEN, golden_text

if TYPE_CHECKING:
    from deploy.render import Object

OLDEST = (
    yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"].strip(">=").rsplit(".", 1)[0]
)
NEWEST = kubernetes_validate.latest_version().rsplit(".", 1)[0]
_WARNING = 2
_TOLD = 80
_LONGEST_RELEASE = 53
_LONGEST_LABEL = 63


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("variant", VARIANTS)
def test_helm_has_nothing_to_say_against_a_variant(variant: str, version: str) -> None:
    """Its linter, with warnings as errors, for the oldest and the newest Kubernetes."""
    report = helm_python.lint(CHART, variants()[variant], strict=True, kube_version=f"v{version}.0")
    assert report["errors"] == []
    assert [each for each in report["messages"] if each["severity"] >= _WARNING] == []


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_manifest_is_what_its_kind_may_be(version: str) -> None:
    """No unknown field, kind or version in any variant: Kubernetes' own kinds and operators'."""
    every = chain.from_iterable(rendered(variant).objects for variant in VARIANTS)
    assert problems_of(every, version) == []


def _some_of_each_kind() -> list[Object]:
    every = chain.from_iterable(rendered(variant).objects for variant in VARIANTS)
    return list({(each["apiVersion"], each["kind"]): each for each in every}.values())


@pytest.mark.parametrize("item", _some_of_each_kind(), ids=lambda each: each["kind"])
def test_a_typo_in_any_kind_is_seen(item: Object) -> None:
    """An unknown field at the top and in maps at any depth; a group and a kind that are none."""
    paths = sorted(_structures(item), key=len)
    broken = [item | {"apiVersion": "example.com/v1"}, item | {"kind": f"{item['kind']}s"}]
    for path in {*paths[:2], *paths[-3:], paths[len(paths) // 2]}:
        broken.append(copy.deepcopy(item))
        _at(broken[-1], path)["tpyo"] = "x"
    for at, each in enumerate(broken):
        each["metadata"] = each["metadata"] | {"name": f"broken-{at}"}
    words = " ".join(problems_of(broken, NEWEST))
    assert [each["metadata"]["name"] for each in broken if told(each) not in words] == []


# Maps whose keys are people's own; `metadata` is of a KEDA trigger, each kind with its own.
_OPEN = frozenset(
    {
        "annotations",
        "data",
        "labels",
        "limits",
        "matchLabels",
        "metadata",
        "nodeSelector",
        "requests",
        "stringData",
    }
)


def _structures(item: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Paths of maps whose keys are fields."""
    if isinstance(item, list):
        return [each for at, value in enumerate(item) for each in _structures(value, (*path, at))]
    open_ = (path[-1:] and path[-1] in _OPEN and len(path) > 1) or path == ("data",)
    # Of a Service it holds labels; of all others it is a structure.
    plain_selector = path == ("spec", "selector") and "matchLabels" not in str(item)
    if not isinstance(item, dict) or open_ or plain_selector:
        return []
    inside = [each for key, value in item.items() for each in _structures(value, (*path, key))]
    return [path, *inside]


def _at(item: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        item = item[step]
    return item


@pytest.mark.parametrize("variant", VARIANTS)
def test_renders_change_only_where_somebody_looks(variant: str) -> None:
    """What a change of the chart does is seen in its review, manifest by manifest."""
    kept = GOLDEN / f"{variant}.yaml"
    assert kept.exists(), "make chart writes it"
    before, now = kept.read_text().splitlines(), golden_text(rendered(variant)).splitlines()
    changes = list(difflib.unified_diff(before, now, "kept", "now", lineterm=""))
    assert not changes, "\n".join(["make chart refreshes it", *changes[:_TOLD]])


def test_no_render_is_kept_of_a_variant_that_is_gone() -> None:
    """Each file has its variant."""
    assert {path.stem for path in GOLDEN.iterdir()} == set(VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_render_is_the_same_each_time(variant: str) -> None:
    """Nothing is drawn by chance: under GitOps that would be a change every few minutes."""
    assert render(variants()[variant]) == rendered(variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_is_there_once(variant: str) -> None:
    """Two manifests of one name would overwrite each other."""
    found = [identity(each) for each in rendered(variant).objects]
    assert sorted(set(found)) == sorted(found)


@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_says_what_it_belongs_to(variant: str) -> None:
    """Kubernetes' recommended labels, the same ones on every object."""
    for each in rendered(variant).objects:
        labels = each["metadata"].get("labels", {})
        assert labels.get("app.kubernetes.io/name") == "histill", told(each)
        assert labels.get("app.kubernetes.io/instance") == RELEASE, told(each)
        assert labels.get("app.kubernetes.io/managed-by") == "Helm", told(each)
        assert labels.get("app.kubernetes.io/version"), told(each)
        assert labels.get("helm.sh/chart"), told(each)


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_and_labels_fit_with_the_longest_release(variant: str) -> None:
    """Kubernetes takes 63 characters; a Service's name must be a label, too."""
    release = "r" * _LONGEST_RELEASE
    shorter = rendered(variant).objects
    longer = render(variants()[variant], release=release).objects
    for each in longer:
        name = each["metadata"]["name"]
        limit = _LONGEST_LABEL if each["kind"] in {"Service", *KINDS} else 253
        assert len(name) <= limit, name
        for key, value in labels_of(each):
            assert len(value) <= _LONGEST_LABEL, f"{key}: {value}"
    # Shortened names may not fall together.
    assert len({identity(each) for each in longer}) == len(shorter)


def test_kinds_of_operators_are_not_taken_for_kubernetes_own() -> None:
    """Each goes to the schemas of those who define it."""
    assert is_built_in({"apiVersion": "v1", "kind": "Pod"})
    assert is_built_in({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"})
    assert not is_built_in({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GRPCRoute"})
    assert not is_built_in({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject"})

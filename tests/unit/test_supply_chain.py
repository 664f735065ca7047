"""What is installed: known to the byte, and told for every image."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock", "tests/clients/requirements.lock")
# Nothing that an image of these does must be able to run a foreign network.
WITHOUT_TORCH = ("jobs", "registry", "inference", "web", "cli")
UNHASHED = re.compile(r"torch|triton|nvidia-.*|cuda-.*")


def pins(lock: str) -> list[tuple[Requirement, int]]:
    """Requirements of a lock, each with the number of its hashes."""
    text = (ROOT / lock).read_text().replace("\\\n", " ")
    blocks = [line.split("--hash=sha256:") for line in text.splitlines()]
    return [(Requirement(words), len(hashes)) for words, *hashes in blocks if words.strip()]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_is_pinned_by_version_and_hash(lock: str) -> None:
    """Of torch's family none is there: its builds come from one of several indexes."""
    found = pins(lock)
    assert len(found) > 20
    for requirement, hashes in found:
        assert [each.operator for each in requirement.specifier] == ["=="], requirement
        assert hashes > 0, requirement
        assert not UNHASHED.fullmatch(requirement.name), requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_index(lock: str) -> None:
    """Which mirror is asked is each machine's own affair; the hashes hold for all."""
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "index" not in text.lower().replace("-index", "")


def test_what_is_asked_for_is_what_is_locked() -> None:
    """Each requirement of pyproject.toml has a pin that satisfies it, and no package has two."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [
        *project["project"]["dependencies"],
        *chain.from_iterable(project["project"]["optional-dependencies"].values()),
        *project["dependency-groups"]["dev"],
    ]
    here = [
        (canonicalize_name(requirement.name), next(iter(requirement.specifier)).version)
        for lock in LOCKS[:2]
        for requirement, _ in pins(lock)
        if requirement.marker is None or requirement.marker.evaluate()
    ]
    locked = dict(here)
    assert {name for name, version in here if locked[name] != version} == set()
    for requirement in map(Requirement, asked):
        if requirement.name not in {"histill", "torch"}:
            version = locked.get(canonicalize_name(requirement.name))
            assert version, f"{requirement} is not locked; run scripts/lock"
            assert requirement.specifier.contains(version, prereleases=True), requirement


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every target's bill of materials, as ``make sbom`` writes it."""
    folder = tmp_path_factory.mktemp("sbom")
    subprocess.run([sys.executable, "scripts/sbom.py", str(folder)], cwd=ROOT, check=True)
    return {path.name.removesuffix(".cdx.json"): path.read_text() for path in folder.iterdir()}


def names(bill: str) -> set[str]:
    return {each["name"] for each in json.loads(bill)["components"]}


def test_every_bill_is_cyclonedx(bills: dict[str, str]) -> None:
    """Each of the six passes its schema, strictly; one with a stray field does not."""
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert set(bills) == {*WITHOUT_TORCH, "worker"}
    for target, bill in bills.items():
        assert validator.validate_str(bill) is None, target
    broken = json.loads(bills["web"]) | {"components": [{"name": "x", "kind": "library"}]}
    assert validator.validate_str(json.dumps(broken)) is not None


@pytest.mark.parametrize("target", WITHOUT_TORCH)
def test_only_the_worker_has_torch(bills: dict[str, str], target: str) -> None:
    """And none of the others what trains networks."""
    assert names(bills[target]).isdisjoint({"torch", "monai", "torchvision"})
    assert "torch" in names(bills["worker"])


def test_every_package_of_a_bill_has_hashes_and_a_licence(bills: dict[str, str]) -> None:
    """But for torch, whose files nobody can know beforehand."""
    for bill in bills.values():
        found: dict[str, Any] = json.loads(bill)
        for each in found["components"]:
            assert each["licenses"], each["name"]
            if not UNHASHED.fullmatch(each["name"]):
                assert each["externalReferences"][0]["hashes"], each["name"]
        assert "://" not in "".join(each["purl"] for each in found["components"])


def test_a_bill_says_what_an_image_does(bills: dict[str, str]) -> None:
    """The engines of inference in its own, the page's server in the web's."""
    assert {"onnxruntime", "openvino", "grpcio", "cryptography"} <= names(bills["inference"])
    assert {"celery", "redis"} <= names(bills["jobs"])
    assert {"starlette", "uvicorn"} <= names(bills["web"])
    for target in ("inference", "registry"):
        assert "celery" not in names(bills[target])

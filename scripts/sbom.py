"""Writes what each image is made of, as CycloneDX JSON: one file a target.

Packages and versions are those of requirements.lock that a target's extras need, with the
hashes of their files; licences are what the installed packages say of themselves. torch, which
the lock leaves out, comes from the environment that this runs in, like its packages for CUDA.

Usage: python scripts/sbom.py FOLDER
"""

# ruff: noqa: INP001 - a script is no package
from __future__ import annotations

import hashlib
import sys
import uuid
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    XsUri,
)
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packages import NAME, ROOT, TARGETS, Pinned, closure, own_requirements, read_lock, read_project
from packageurl import PackageURL
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cyclonedx.model.license import License

_SAID = "License :: "
_LONGEST_NAME = 80


def requires(name: str) -> list[str]:
    """What an installed package says that it requires.

    Raises:
        PackageNotFoundError: It is not installed here.
    """
    return distribution(name).requires or []


def component(name: str, pinned: Pinned | None) -> Component:
    """A package as CycloneDX says it."""
    version = pinned.version if pinned else distribution(name).version
    purl = PackageURL("pypi", name=name, version=version)
    files = (
        ExternalReference(
            type=ExternalReferenceType.DISTRIBUTION,
            url=XsUri(str(purl)),
            comment="every platform's files of this version",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in pinned.sha256],
        )
        if pinned
        else None
    )
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        purl=purl,
        bom_ref=str(purl),
        licenses=list(licences(name)),
        external_references=[files] if files else [],
    )


def licences(name: str) -> Iterator[License]:
    """What a package says of its licence: an SPDX expression, classifiers, or a few words."""
    make, said = LicenseFactory(), distribution(name).metadata
    if expression := said.get("License-Expression"):
        yield make.make_from_string(expression)
        return
    classified = [each for each in said.get_all("Classifier") or () if each.startswith(_SAID)]
    words = [each.rpartition(" :: ")[2] for each in classified]
    told = (said.get("License") or "").strip()
    if not words and 0 < len(told) <= _LONGEST_NAME and "\n" not in told:
        words = [told]
    for word in sorted(set(words)):
        yield make.make_from_string(word)


def bill(target: str, extras: Iterable[str], lock: Path) -> Bom:
    """A target's bill of materials.

    Raises:
        PackageNotFoundError: A package is not installed here.
    """
    project = read_project()
    pins, first = read_lock(lock), list(own_requirements(project, extras))
    packages = closure(first, requires)
    components = {name: component(name, pins.get(name)) for name in sorted(packages)}
    root = Component(
        type=ComponentType.CONTAINER,
        name=f"{NAME}-{target}",
        version=project["version"],
        bom_ref=f"{NAME}-{target}",
    )
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    bom = Bom(
        components=components.values(),
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{NAME}/{target}/{digest}"),
    )
    bom.metadata.component = root
    named = {canonicalize_name(each.name) for each in first}
    bom.register_dependency(root, [components[name] for name in sorted(named)])
    for name, below in packages.items():
        bom.register_dependency(components[name], [components[each] for each in sorted(below)])
    return bom


def main(folder: Path) -> int:
    """Writes every target's bill; returns the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    for target, extras in TARGETS.items():
        try:
            made = bill(target, extras, ROOT / "requirements.lock")
        except PackageNotFoundError as exc:
            sys.stderr.write(f"sbom: {exc.name} is not installed here; run make .venv/.dev first\n")
            return 1
        path = folder / f"{target}.cdx.json"
        path.write_text(JsonV1Dot6(made).output_as_string(indent=2) + "\n")
        sys.stdout.write(f"{path}: {len(made.components)} packages\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""Which packages each image holds: those of requirements.lock that its extras need.

The bills of materials (``sbom.py``) and the build of the images (``deploy/docker/install.py``)
both ask here, so that one says what the other does. Needs ``packaging`` and nothing else.
"""

# ruff: noqa: INP001 - a script is no package
from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).parents[1]
NAME = "histill"
# Images by the extras that they install; the command line is in the package itself.
TARGETS: dict[str, tuple[str, ...]] = {
    "jobs": ("jobs",),
    "registry": ("registry",),
    "inference": ("inference",),
    "web": ("web",),
    "worker": ("worker",),
    "cli": (),
}


@dataclass(frozen=True)
class Pinned:
    """A package of the lock."""

    version: str
    sha256: tuple[str, ...]


def read_project(path: Path = ROOT / "pyproject.toml") -> dict[str, Any]:
    """The table ``project`` of a pyproject.toml."""
    found: dict[str, Any] = tomllib.loads(path.read_text())["project"]
    return found


def read_lock(path: Path = ROOT / "requirements.lock") -> dict[str, Pinned]:
    """Packages of a lock that are for this platform, by name."""
    found: dict[str, Pinned] = {}
    for block in path.read_text().replace("\\\n", " ").splitlines():
        words, *hashes = block.split("--hash=sha256:")
        if not words.strip():
            continue
        requirement = Requirement(words)
        if requirement.marker is None or requirement.marker.evaluate():
            [pin] = requirement.specifier
            digests = tuple(digest.strip() for digest in hashes)
            found[canonicalize_name(requirement.name)] = Pinned(pin.version, digests)
    return found


def own_requirements(project: dict[str, Any], extras: Iterable[str]) -> Iterator[Requirement]:
    """What our own package needs with some extras, and the extras that those name."""
    for text in (*project["dependencies"], *_of_extras(project, extras)):
        requirement = Requirement(text)
        if requirement.name == NAME:
            yield from own_requirements({**project, "dependencies": ()}, requirement.extras)
        else:
            yield requirement


def _of_extras(project: dict[str, Any], extras: Iterable[str]) -> Iterator[str]:
    for extra in sorted(extras):
        yield from project["optional-dependencies"][extra]


def closure(
    first: Iterable[Requirement], requires: Callable[[str], Iterable[str]]
) -> dict[str, set[str]]:
    """Every package that is needed, by name, with the names of those that it needs.

    Args:
        first: To begin with.
        requires: What a package says that it requires, by its name.
    """
    waiting, seen, found = list(first), set(), dict[str, set[str]]()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        asked = (name, frozenset(requirement.extras))
        if asked in seen:
            continue
        seen.add(asked)
        below = list(_applying(requires(name), requirement.extras))
        found.setdefault(name, set()).update(canonicalize_name(each.name) for each in below)
        waiting += below
    return found


def _applying(requires: Iterable[str], extras: Iterable[str]) -> Iterator[Requirement]:
    for text in requires:
        each = Requirement(text)
        asked = ("", *extras)
        if each.marker is None or any(each.marker.evaluate({"extra": name}) for name in asked):
            yield each

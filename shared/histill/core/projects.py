"""Projects (tenants): each one's models and datasets lie where no other's calls can reach.

Isolation is by construction: a caller's calls see the object store through ``scoped``, and
there is no key by which another project's objects could be named. The project ``default``
has no prefix, so that a system without projects stores what it always stored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from histill.core.errors import InvalidArgumentError
from histill.core.names import NAME_PATTERN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from histill.core.ports import ObjectStore, VersionCounter

DEFAULT = "default"
FOLDER = "projects/"


def check_project(text: str, *, field: str) -> str:
    """Returns ``text`` if it may name a project.

    Raises:
        InvalidArgumentError: It may not.
    """
    if not re.fullmatch(NAME_PATTERN, text):
        raise InvalidArgumentError.of(
            field, f"{text!r} is not a project; use 1 to 63 of a-z, 0-9 and -, not starting with -"
        )
    return text


def scoped(store: ObjectStore, project: str) -> ObjectStore:
    """The part of a store that belongs to a project."""
    if project == DEFAULT:
        return store
    return _Scoped(store, _prefix(project))


def numbered(counter: VersionCounter, project: str) -> VersionCounter:
    """The version numbers of a project: two projects may use one name."""
    if project == DEFAULT:
        return counter
    return _Numbered(counter, _prefix(project))


def _prefix(project: str) -> str:
    # Checked here too: a slash in a token's claim must not lead into another's folder.
    return f"{FOLDER}{check_project(project, field='project')}/"


@dataclass(frozen=True)
class _Scoped:
    """Implements ``ObjectStore`` under a prefix of another."""

    store: ObjectStore
    prefix: str

    def put(self, key: str, data: bytes) -> None:
        self.store.put(self.prefix + key, data)

    def put_file(self, key: str, path: Path) -> None:
        self.store.put_file(self.prefix + key, path)

    def get(self, key: str) -> bytes:
        return self.store.get(self.prefix + key)

    def read(self, key: str, *, chunk_size: int = 1 << 20) -> Iterator[bytes]:
        return self.store.read(self.prefix + key, chunk_size=chunk_size)

    def list(self, prefix: str) -> Iterator[str]:
        for key in self.store.list(self.prefix + prefix):
            yield key.removeprefix(self.prefix)

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        for key, size in self.store.sizes(self.prefix + prefix):
            yield key.removeprefix(self.prefix), size

    def list_folders(self, prefix: str) -> Iterator[str]:
        return self.store.list_folders(self.prefix + prefix)

    def delete(self, key: str) -> None:
        self.store.delete(self.prefix + key)

    def delete_prefix(self, prefix: str) -> None:
        self.store.delete_prefix(self.prefix + prefix)

    def keeps_versions(self) -> bool:
        return self.store.keeps_versions()

    def ping(self) -> None:
        self.store.ping()


@dataclass(frozen=True)
class _Numbered:
    """Implements ``VersionCounter`` under a prefix of another's keys."""

    counter: VersionCounter
    prefix: str

    def next(self, key: str, *, at_least: int) -> int:
        return self.counter.next(self.prefix + key, at_least=at_least)

    def ping(self) -> None:
        self.counter.ping()

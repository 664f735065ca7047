"""Stored API keys: records in the object store, one each, without their secrets.

``access/keys/{id}.json`` is a record, and nothing in it ever changes but that it is revoked;
then ``access/revoked/{id}`` is there too. ``access/changed`` is written after each change
with a word that was never there before. So who has read the records once learns of a change
from one small object, and of which from two lists, however many keys there are.
"""

from __future__ import annotations

import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from histill.core.api_keys import digest, new_secret
from histill.core.errors import CorruptArtifactError, InvalidArgumentError, NotFoundError
from histill.core.names import NAME_PATTERN
from histill.core.service_settings import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from histill.core.ports import ObjectStore

FOLDER = "access/keys/"
REVOKED = "access/revoked/"
CHANGED = "access/changed"
MIN_TTL = timedelta(minutes=1)
MAX_TTL = timedelta(days=3653)
MAX_DESCRIPTION = 200
_READERS = 8
_ID = re.compile(r"[0-9a-f]{16}")


class AccessKey(BaseModel):
    """A key as it is stored.

    Attributes:
        id: 16 hexadecimal digits.
        sha256: Of the secret, in lower-case hexadecimal.
        role: What its holder may do.
        project: Whose models, datasets and jobs its holder sees.
        description: Who holds it and what for.
        creator: Id of the caller who made it.
        expire_time: ``None`` when it does not expire.
        revoke_time: ``None`` while it has not been revoked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    id: str = Field(pattern=rf"^{_ID.pattern}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    role: Role
    project: str = Field(pattern=rf"^{NAME_PATTERN}$")
    description: str
    creator: str
    create_time: datetime
    expire_time: datetime | None = None
    revoke_time: datetime | None = None


def create(
    objects: ObjectStore,
    *,
    role: Role,
    project: str,
    description: str,
    ttl: timedelta | None,
    creator: str,
    now: datetime,
) -> tuple[AccessKey, str]:
    """Makes and stores a key.

    Args:
        objects: The whole store, not a project's part.
        role: What its holder may do.
        project: A project's name.
        description: 1 to 200 characters.
        ttl: From a minute to ten years; ``None``: it does not expire.
        creator: Id of the caller.
        now: With its zone.

    Returns:
        The record, and the secret, which is kept nowhere.

    Raises:
        InvalidArgumentError: ``description`` or ``ttl`` is out of range.
        StorageUnavailableError: Whether the key was stored is not known; nobody has its secret.
    """
    if not 1 <= len(description) <= MAX_DESCRIPTION:
        raise InvalidArgumentError.of(
            "description",
            f"has {len(description)} characters; write 1 to {MAX_DESCRIPTION}: who holds the key "
            "and what for",
        )
    if ttl is not None and not MIN_TTL <= ttl <= MAX_TTL:
        raise InvalidArgumentError.of(
            "ttl", f"is {ttl}; take {MIN_TTL} to {MAX_TTL}, or leave it out for no end"
        )
    secret = new_secret()
    key = AccessKey(
        id=secrets.token_hex(8),
        sha256=digest(secret),
        role=role,
        project=project,
        description=description,
        creator=creator,
        create_time=now,
        expire_time=None if ttl is None else now + ttl,
    )
    _save(objects, key)
    return key, secret


def revoke(
    objects: ObjectStore, key_id: str, *, now: datetime, may: Callable[[AccessKey], bool]
) -> AccessKey:
    """Ends a key; safe to repeat, which also tells every service once more.

    Args:
        objects: The whole store.
        key_id: Id of the key.
        now: With its zone.
        may: Whether the caller may; who may not hears what he hears of no key at all.

    Raises:
        NotFoundError: There is no such key.
        InvalidArgumentError: ``key_id`` is no id.
    """
    if not _ID.fullmatch(key_id):
        raise InvalidArgumentError.of(
            "key_id", f"{key_id!r} is not the id of a key; histill keys ls shows them"
        )
    try:
        key = _read(objects, key_id)
    except NotFoundError:
        key = None
    if key is None or not may(key):
        raise NotFoundError(f"there is no key {key_id}; histill keys ls shows those that are")
    if key.revoke_time is None:
        key = key.model_copy(update={"revoke_time": now})
    _save(objects, key)
    return key


def ids(objects: ObjectStore) -> list[str]:
    """Ids of all records."""
    return [name.removeprefix(FOLDER).removesuffix(".json") for name in objects.list(FOLDER)]


def revoked_ids(objects: ObjectStore) -> frozenset[str]:
    """Ids of the keys that were revoked."""
    return frozenset(name.removeprefix(REVOKED) for name in objects.list(REVOKED))


def every(objects: ObjectStore, *, skipped: Callable[[str, str], None]) -> list[AccessKey]:
    """All records, newest first; as ``read``."""
    keys = read(objects, ids(objects), skipped=skipped)
    return sorted(keys, key=lambda key: (key.create_time, key.id), reverse=True)


def read(
    objects: ObjectStore, key_ids: Iterable[str], *, skipped: Callable[[str, str], None]
) -> list[AccessKey]:
    """Some records.

    Args:
        objects: The whole store.
        key_ids: Their ids.
        skipped: Told the id of a record that cannot be read, and why; its key is not known.

    Raises:
        StorageUnavailableError: The store does not answer.
    """

    def one(key_id: str) -> AccessKey | None:
        try:
            return _read(objects, key_id)
        except (CorruptArtifactError, NotFoundError) as exc:
            skipped(key_id, str(exc))
            return None

    with ThreadPoolExecutor(_READERS) as readers:
        return [key for key in readers.map(one, key_ids) if key]


def changed(objects: ObjectStore) -> str:
    """A word that differs from every one before it once a key has changed."""
    try:
        return objects.get(CHANGED).decode(errors="replace")
    except NotFoundError:
        return ""


def _save(objects: ObjectStore, key: AccessKey) -> None:
    objects.put(f"{FOLDER}{key.id}.json", key.model_dump_json().encode())
    if key.revoke_time:
        objects.put(f"{REVOKED}{key.id}", b"")
    # After the record: who sees the new word finds what it tells of.
    objects.put(CHANGED, secrets.token_hex(8).encode())


def _read(objects: ObjectStore, key_id: str) -> AccessKey:
    name = f"{FOLDER}{key_id}.json"
    try:
        key = AccessKey.model_validate_json(objects.get(name))
    except ValidationError as exc:
        raise CorruptArtifactError(f"{name} is no record of a key") from exc
    if key.id != key_id:
        raise CorruptArtifactError(f"{name} is the record of another key")
    return key

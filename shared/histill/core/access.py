"""Stored API keys: records in the object store, one each, without their secrets.

``access/keys/{id}.json`` is a record, and nothing in it ever changes but that it is revoked;
then ``access/revoked/{id}`` is there too. ``access/changed`` is written after each change
with a word that was never there before. So who has read the records once learns of a change
from one small object, and of which from two lists, however many keys there are.

With a seal (``HISTILL_AUTH__SEAL``) a record carries an HMAC-SHA-256 of itself, and one without
counts for nothing: whoever can write the store makes no key, and changes none.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from histill.core.api_keys import digest, new_secret
from histill.core.errors import CorruptArtifactError, InvalidArgumentError, NotFoundError
from histill.core.names import NAME_PATTERN
from histill.core.service_settings import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from datetime import datetime

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
    create_time: AwareDatetime
    expire_time: AwareDatetime | None = None
    revoke_time: AwareDatetime | None = None


def create(
    objects: ObjectStore,
    *,
    role: Role,
    project: str,
    description: str,
    ttl: timedelta | None,
    creator: str,
    now: datetime,
    seal: bytes | None = None,
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
        seal: For the record.

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
    _save(objects, key, seal)
    return key, secret


def revoke(
    objects: ObjectStore,
    key_id: str,
    *,
    now: datetime,
    may: Callable[[AccessKey], bool],
    seal: bytes | None = None,
) -> AccessKey:
    """Ends a key; safe to repeat, which also tells every service once more.

    Args:
        objects: The whole store.
        key_id: Id of the key.
        now: With its zone.
        may: Whether the caller may; who may not hears what he hears of no key at all.
        seal: Of the record.

    Raises:
        NotFoundError: There is no such key.
        InvalidArgumentError: ``key_id`` is no id.
        CorruptArtifactError: The record is none, or not sealed, so that it opens nothing.
    """
    if not _ID.fullmatch(key_id):
        raise InvalidArgumentError.of(
            "key_id", f"{key_id!r} is not the id of a key; histill keys ls shows them"
        )
    try:
        key = _read(objects, key_id, seal)
    except NotFoundError:
        key = None
    if key is None or not may(key):
        raise NotFoundError(f"there is no key {key_id}; histill keys ls shows those that are")
    if key.revoke_time is None:
        key = key.model_copy(update={"revoke_time": now})
    _save(objects, key, seal)
    return key


def ids(objects: ObjectStore) -> list[str]:
    """Ids of all records."""
    return [name.removeprefix(FOLDER).removesuffix(".json") for name in objects.list(FOLDER)]


def revoked_ids(objects: ObjectStore) -> frozenset[str]:
    """Ids of the keys that were revoked."""
    return frozenset(name.removeprefix(REVOKED) for name in objects.list(REVOKED))


def ended(key: AccessKey, revoked: Collection[str]) -> AccessKey:
    """A key as it is in force, given the ids that were ever revoked.

    A record that is not revoked any more was put back: a revocation is written to it before
    it is written beside it. When that was is not known then; the key was never good.
    """
    if key.revoke_time is None and key.id in revoked:
        return key.model_copy(update={"revoke_time": key.create_time})
    return key


def every(
    objects: ObjectStore, *, skipped: Callable[[str, str], None], seal: bytes | None = None
) -> list[AccessKey]:
    """All keys as they are in force, newest first; as ``read``."""
    revoked = revoked_ids(objects)
    found = read(objects, ids(objects), skipped=skipped, seal=seal)
    keys = [ended(key, revoked) for key in found]
    return sorted(keys, key=lambda key: (key.create_time, key.id), reverse=True)


def read(
    objects: ObjectStore,
    key_ids: Iterable[str],
    *,
    skipped: Callable[[str, str], None],
    seal: bytes | None = None,
) -> list[AccessKey]:
    """Some records.

    Args:
        objects: The whole store.
        key_ids: Their ids.
        skipped: Told the id of a record that cannot be read, and why; its key is not known.
        seal: With it, a record that was not sealed with it cannot be read.

    Raises:
        StorageUnavailableError: The store does not answer.
    """

    def one(key_id: str) -> AccessKey | None:
        try:
            return _read(objects, key_id, seal)
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


def _save(objects: ObjectStore, key: AccessKey, seal: bytes | None) -> None:
    fields = key.model_dump(mode="json")
    if seal:
        fields["seal"] = _seal_of(fields, seal)
    objects.put(f"{FOLDER}{key.id}.json", json.dumps(fields).encode())
    if key.revoke_time:
        objects.put(f"{REVOKED}{key.id}", b"")
    # After the record: who sees the new word finds what it tells of.
    objects.put(CHANGED, secrets.token_hex(8).encode())


def _read(objects: ObjectStore, key_id: str, seal: bytes | None) -> AccessKey:
    name = f"{FOLDER}{key_id}.json"
    try:
        fields = json.loads(objects.get(name))
        told = fields.pop("seal", "")
        if seal and not hmac.compare_digest(str(told).encode(), _seal_of(fields, seal).encode()):
            raise CorruptArtifactError(
                f"{name} is not sealed with HISTILL_AUTH__SEAL and opens nothing; make another "
                "key (histill keys create)"
            )
        # As text once more: only so times are read from it.
        key = AccessKey.model_validate_json(json.dumps(fields))
    except (ValueError, TypeError, AttributeError, RecursionError) as exc:
        raise CorruptArtifactError(f"{name} is no record of a key") from exc
    if key.id != key_id:
        raise CorruptArtifactError(f"{name} is the record of another key")
    return key


def _seal_of(fields: dict[str, Any], seal: bytes) -> str:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    # The first words: the same secret may seal something else one day.
    return hmac.digest(seal, f"histill access key {text}".encode(), "sha256").hex()

"""The first keys of an installation: what is missing is made, what is there stays.

The names are those of the Kubernetes Secret from which an installation's processes take
their settings. Most are made once. Two follow from others, and are written again when those
change: ``api-keys``, the hashes of the keys below, and ``redis-url``.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from histill.core.api_keys import digest, new_secret
from histill.core.errors import FailedPreconditionError
from histill.core.service_settings import ApiKey, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Plain API keys: of the people who run it, of the test after an install, and of guests.
HOLDERS: dict[str, Role] = {"admin-key": "admin", "test-key": "admin", "web-key": "viewer"}
# What the web page sends for whoever is not signed in; of no use where everybody signs in.
_GUESTS = "web-key"
_API_KEYS = "api-keys"
_TWICE = "{} and {} are the same key, which can have one role only; remove one of them"
_OTHERS = (
    "{} of api-keys has the same key as {}, and one key has one holder and one role; remove one of "
    "them"
)
_SPACE = (
    "{} begins or ends with white space, often the end of a line, which nobody can send; "
    "write it without (printf %s, not echo)"
)
_ENTRIES: TypeAdapter[tuple[ApiKey, ...]] = TypeAdapter(tuple[ApiKey, ...])


@dataclass(frozen=True)
class Bundled:
    """Servers that come with the installation, whose keys are made with the others.

    Attributes:
        redis: ``host:port``; empty: the operator's own Redis, with a secret of its own.
        s3: Whether there is one; else the operator's own.
    """

    redis: str = ""
    s3: bool = False


def changes(
    found: Mapping[str, bytes], *, bundled: Bundled, guests: bool = False
) -> dict[str, str]:
    """What must be written so that every key is there; nothing when it is.

    Args:
        found: What the Secret holds. An empty value counts as missing.
        bundled: For which servers keys are made, too.
        guests: Whether ``web-key`` is made. One that is there stays without it; one that was
            removed is let in no more.

    Raises:
        FailedPreconditionError: What is there cannot be used; names it, without its value.
    """
    ours = {*_made(bundled, guests=guests), _API_KEYS} | ({"redis-url"} if bundled.redis else set())
    values = {
        name: _text(name, value, made=name in ours)
        for name, value in found.items()
        if name in _known()
    }
    values = {name: value for name, value in values.items() if value}
    makers = _made(bundled, guests=guests).items()
    made = {name: make() for name, make in makers if name not in values}
    values |= made
    _check_that_they_differ(values)
    api_keys = _api_keys(values)
    if api_keys != values.get(_API_KEYS):
        made[_API_KEYS] = api_keys
    if bundled.redis:
        url = f"redis://:{quote(values['redis-password'], safe='')}@{bundled.redis}/0"
        if url != values.get("redis-url"):
            made["redis-url"] = url
    return made


def _known() -> set[str]:
    return {*_made(Bundled(redis="any", s3=True), guests=True), _API_KEYS, "redis-url"}


def _made(bundled: Bundled, *, guests: bool) -> dict[str, Callable[[], str]]:
    """How each key is made that follows from no other."""
    holders = [name for name in HOLDERS if guests or name != _GUESTS]
    made: dict[str, Callable[[], str]] = dict.fromkeys(holders, new_secret)
    made |= dict.fromkeys(("seal", "audit-key"), lambda: secrets.token_urlsafe(32))
    # Those of servers stand in their command lines and files: no sign at their beginning, say,
    # may make an option of them.
    if bundled.redis:
        made["redis-password"] = lambda: secrets.token_hex(24)
    if bundled.s3:
        made["s3-access-key"] = lambda: secrets.token_hex(10)
        made["s3-secret-key"] = lambda: secrets.token_hex(24)
    return made


def _text(name: str, value: bytes, *, made: bool) -> str:
    # What is not made here is whoever's who runs that server, and gone when it is removed.
    try:
        text = value.decode()
    except UnicodeDecodeError:
        remedy = "remove it, and it is made" if made else "correct it"
        raise FailedPreconditionError(f"{name} is no text; {remedy}") from None
    if name != _API_KEYS and text != text.strip():
        remedy = ", or remove it, and another is made" if made else ""
        raise FailedPreconditionError(_SPACE.format(name) + remedy)
    return text


def _check_that_they_differ(values: Mapping[str, str]) -> None:
    holders: dict[str, str] = {}
    for name in _holders(values):
        if (first := holders.setdefault(values[name], name)) != name:
            raise FailedPreconditionError(_TWICE.format(first, name))


def _api_keys(values: Mapping[str, str]) -> str:
    """Settings of the holders, beside those that others have added.

    What is there is returned as it is written, unless it says something else.
    """
    there = values.get(_API_KEYS, "")
    entries = _entries(there)
    ours: dict[str, dict[str, Any]] = {
        name: {"id": name, "role": role, "sha256": digest(values[name])}
        for name, role in _holders(values).items()
    }
    others = [each for each in entries if each["id"] not in HOLDERS]
    _check_that_nobody_else_has_them(others, ours)
    wanted = [*others, *ours.values()]
    same = sorted(entries, key=str) == sorted(wanted, key=str)
    return there if same else json.dumps(wanted)


def _holders(values: Mapping[str, str]) -> dict[str, Role]:
    """Those whose keys are there, with their roles."""
    return {name: role for name, role in HOLDERS.items() if name in values}


def _check_that_nobody_else_has_them(
    others: Sequence[Mapping[str, Any]], ours: Mapping[str, Mapping[str, Any]]
) -> None:
    # Services look a key up by its hash: the last entry would count, with its role.
    holders = {each["sha256"]: name for name, each in ours.items()}
    for each in others:
        if each["sha256"] in holders:
            raise FailedPreconditionError(_OTHERS.format(each["id"], holders[each["sha256"]]))


def _entries(text: str) -> list[dict[str, Any]]:
    """Entries as they are written, once it is known that services will take them."""
    try:
        _ENTRIES.validate_json(text or "[]")
    except ValidationError as exc:
        problems = "; ".join(
            f"{'.'.join(map(str, error['loc'])) or 'it'}: {error['msg']}"
            for error in exc.errors(include_input=False, include_url=False)
        )
        raise FailedPreconditionError(
            f"{_API_KEYS} is no list of keys as HISTILL_AUTH__API_KEYS takes it ({problems}); "
            "correct it, or remove it, and it is made"
        ) from exc
    found: list[dict[str, Any]] = json.loads(text or "[]")
    return found

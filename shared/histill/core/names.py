"""Names and references: what may be called what, and how versions are named.

A reference is ``name`` (the latest version), ``name@3`` or ``name@alias``.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from histill.core.errors import InvalidArgumentError

NAME_PATTERN = r"[a-z0-9][a-z0-9-]{0,62}"
ALIAS_PATTERN = r"[a-z][a-z0-9-]{0,30}"
REFERENCE_PATTERN = rf"{NAME_PATTERN}(@([1-9][0-9]{{0,8}}|{ALIAS_PATTERN}))?"
_JOB_NAME = re.compile(r"jobs/([a-z0-9]{8,40})")


@dataclass(frozen=True)
class Reference:
    """A parsed reference.

    Attributes:
        name: Name of the model or dataset.
        version: Version number from 1, or ``None``.
        alias: Alias, or ``None``; never set together with ``version``.
    """

    name: str
    version: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        """The reference as it was written."""
        at = self.version if self.version is not None else self.alias
        return self.name if at is None else f"{self.name}@{at}"


def parse_reference(text: str, *, field: str, aliases: bool = True) -> Reference:
    """Parses ``name``, ``name@3`` or ``name@alias``.

    Args:
        text: The reference.
        field: Path of the field it came from, for the error.
        aliases: Whether ``name@alias`` is allowed.

    Raises:
        InvalidArgumentError: ``text`` is no reference.
    """
    if not re.fullmatch(REFERENCE_PATTERN, text):
        raise InvalidArgumentError.of(
            field,
            f"{text!r} is not a reference; write name, name@version"
            + (" or name@alias" if aliases else ""),
        )
    name, _, at = text.partition("@")
    if not at:
        return Reference(name)
    if at.isdigit():
        return Reference(name, version=int(at))
    if not aliases:
        raise InvalidArgumentError.of(field, f"{text!r} names an alias; give a version number")
    return Reference(name, alias=at)


def check_name(text: str, *, field: str) -> str:
    """Returns ``text`` if it may name a model or dataset.

    Raises:
        InvalidArgumentError: It may not.
    """
    if not re.fullmatch(NAME_PATTERN, text):
        raise InvalidArgumentError.of(
            field, f"{text!r} is not a name; use 1 to 63 of a-z, 0-9 and -, not starting with -"
        )
    return text


def check_alias(text: str, *, field: str) -> str:
    """Returns ``text`` if it may be an alias.

    Raises:
        InvalidArgumentError: It may not.
    """
    if not re.fullmatch(ALIAS_PATTERN, text):
        raise InvalidArgumentError.of(
            field,
            f"{text!r} is not an alias; use 1 to 31 of a-z, 0-9 and -, starting with a letter",
        )
    return text


def new_job_id() -> str:
    """A fresh job id: 20 hexadecimal digits from the system's random source."""
    return secrets.token_hex(10)


def parse_job_name(text: str, *, field: str) -> str:
    """The id in ``jobs/{id}``.

    Raises:
        InvalidArgumentError: ``text`` is no job name.
    """
    match = _JOB_NAME.fullmatch(text)
    if match is None:
        raise InvalidArgumentError.of(field, f"{text!r} is not a job name; write jobs/ID")
    return match[1]

"""Values of a MONAI bundle's config, found without evaluating any."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from histill.core.errors import InvalidArgumentError

_DEPTH = 16  # references to references
_SEPARATOR = re.compile("::|#")
_TARGET = re.compile(r"(?:monai\.(?:networks\.nets|transforms)\.(?:\w+\.)*)?(\w+)")
# Said about a component besides its arguments.
_ABOUT = frozenset({"_target_", "_desc_", "_requires_", "_disabled_", "_mode_"})


@dataclass(frozen=True)
class Config:
    """A mapping of a config, and where it is.

    Attributes:
        where: File and path, for errors.
        values: As they are written.
        root: The whole file, which references are looked up in.
    """

    where: str
    values: dict[str, Any]
    root: dict[str, Any] | None = None

    def get(self, name: str, default: Any = None) -> Any:
        """A value, with references followed.

        Raises:
            InvalidArgumentError: It is an expression, or refers to nothing.
        """
        return self._followed(self.values.get(name, default), name)

    def inner(self, name: str) -> Config:
        """A mapping within.

        Raises:
            InvalidArgumentError: There is none.
        """
        value = self.get(name)
        if not isinstance(value, dict):
            raise self.error(name, "is missing" if value is None else "must be a mapping")
        return Config(self.path(name), value, self._root)

    def components(self, name: str) -> list[Config]:
        """The mappings of a list within; those that are switched off are left out.

        Raises:
            InvalidArgumentError: It is no list of mappings.
        """
        items = self.get(name)
        if not isinstance(items, list):
            raise self.error(name, "is missing" if items is None else "must be a list")
        found = []
        for index, item in enumerate(items):
            value = self._followed(item, f"{name}[{index}]")
            if not isinstance(value, dict):
                raise self.error(f"{name}[{index}]", "must be a mapping with a _target_")
            each = Config(self.path(f"{name}[{index}]"), value, self._root)
            if each.get("_disabled_") not in (True, "true", "True"):
                found.append(each)
        return found

    def arguments(self) -> dict[str, Any]:
        """What a component is built with, each value with references followed."""
        return {name: self.get(name) for name in self.values if name not in _ABOUT}

    def target(self) -> str:
        """Name of a component of MONAI's own; of any other, what is written there."""
        written = self.get("_target_", "")
        match = _TARGET.fullmatch(written) if isinstance(written, str) else None
        return match[1] if match else str(written)

    def path(self, name: str) -> str:
        """Where a value is."""
        return f"{self.where}: {name}" if self.root is None else f"{self.where}.{name}"

    def error(self, name: str, words: str) -> InvalidArgumentError:
        """The error for one value."""
        return InvalidArgumentError.of(self.path(name), words)

    @property
    def _root(self) -> dict[str, Any]:
        return self.values if self.root is None else self.root

    def _followed(self, value: Any, name: str) -> Any:
        for _ in range(_DEPTH):
            if not isinstance(value, str) or value[:1] not in {"@", "$", "%"}:
                return value
            if not value.startswith("@"):
                raise self.error(
                    name, f"is the expression {value!r}, which is not evaluated; write its value"
                )
            value = self._at(value[1:], name)
        raise self.error(name, "refers to itself")

    def _at(self, reference: str, name: str) -> Any:
        found: Any = self._root
        for step in _SEPARATOR.split(reference):
            if isinstance(found, dict) and step in found:
                found = found[step]
            elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
                found = found[int(step)]
            else:
                raise self.error(name, f"refers to @{reference}, which is not in this file")
        return found

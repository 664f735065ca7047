"""Files that people write for commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from histill.core import yaml_text
from histill.core.errors import InvalidArgumentError


def load_yaml(path: Path) -> dict[str, Any]:
    """Reads a mapping from a YAML file.

    Raises:
        InvalidArgumentError: It is no YAML mapping.
    """
    try:
        with path.open(encoding="utf-8") as file:
            loaded = yaml_text.load(file.read(yaml_text.MAX_CHARACTERS + 1))
    except ValueError as exc:
        raise InvalidArgumentError.of(str(path), f"is not YAML: {exc}") from exc
    if not isinstance(loaded, dict):
        raise InvalidArgumentError.of(str(path), "must be a mapping")
    return loaded

"""Files that people write for commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from histill.core.errors import InvalidArgumentError


def load_yaml(path: Path) -> dict[str, Any]:
    """Reads a mapping from a YAML file.

    Raises:
        InvalidArgumentError: It is no YAML mapping.
    """
    try:
        loaded = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise InvalidArgumentError.of(str(path), f"is not YAML: {exc}") from exc
    if not isinstance(loaded, dict):
        raise InvalidArgumentError.of(str(path), "must be a mapping")
    return loaded

"""Reads YAML that anybody may have written: small, plain, and no larger than it looks."""

from __future__ import annotations

from typing import Any

import yaml

MAX_CHARACTERS = 1 << 20
# With every alias counted as what it stands for: ten lines can stand for billions.
_MAX_NODES = 100_000


def load(text: str) -> Any:
    """What a YAML document says.

    Args:
        text: At most a million characters.

    Raises:
        ValueError: It is no YAML, too long, nested too deeply, or its aliases stand for
            themselves or for too much; says which.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it has {len(text)} characters; {MAX_CHARACTERS} are the most")
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _size(node, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as exc:
        # Beside its own errors the library lets those of dates and numbers through.
        raise ValueError(str(exc)) from exc


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Nodes below a node and itself; 0 marks those that are being counted."""
    number = id(node)
    if number in known:
        if not known[number]:
            raise ValueError("an alias stands for itself")
        return known[number]
    known[number] = 0
    total = 1
    if isinstance(node, yaml.SequenceNode):
        parts: list[yaml.Node] = list(node.value)
    elif isinstance(node, yaml.MappingNode):
        parts = [each for pair in node.value for each in pair]
    else:
        parts = []
    for part in parts:
        total += _size(part, known)
        if total > _MAX_NODES:
            raise ValueError(f"its aliases stand for more than {_MAX_NODES} values")
    known[number] = total
    return total

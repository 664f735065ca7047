"""Reads ``values.yaml`` with its ``# --`` comments, for the README and for tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARK = "# --"
_KINDS = {"str": "string", "bool": "bool", "int": "int", "float": "float", "null": "null"}


@dataclass(frozen=True)
class Value:
    """One row of the README's table.

    Attributes:
        path: Keys that lead to it.
        kind: As YAML sees its default.
        default: As JSON.
        about: Its comment; empty: it has none.
    """

    path: tuple[str, ...]
    kind: str
    default: str
    about: str


def documented_values(text: str) -> list[Value]:
    """Every value that can be set, in the order of the file.

    A map whose keys have no comments of their own is one value, with its comment.
    """
    node = yaml.compose(text, yaml.SafeLoader)
    lines = text.splitlines()
    return list(_walk(node, lines, (), -1)) if isinstance(node, yaml.MappingNode) else []


def _walk(
    node: yaml.MappingNode, lines: list[str], path: tuple[str, ...], above: int
) -> Iterator[Value]:
    for key, value in node.value:
        own, line = (*path, str(key.value)), key.start_mark.line
        # A map in one line has one comment, which is not that of its first key.
        about = _comment(lines, line) if line > above else ""
        if isinstance(value, yaml.MappingNode) and value.value:
            inside = list(_walk(value, lines, own, line))
            if not about or any(each.about for each in inside):
                yield from inside
                continue
        yield Value(own, _kind(value), json.dumps(_plain(value)), about)


def _comment(lines: list[str], line: int) -> str:
    """The words from the last ``# --`` above a line, if nothing stands between."""
    words: list[str] = []
    while line and (above := lines[line - 1].strip()).startswith("#"):
        if above.startswith(_MARK):
            return " ".join([above.removeprefix(_MARK).strip(), *words]).strip()
        words.insert(0, above.removeprefix("#").strip())
        line -= 1
    return ""


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "object"
    if isinstance(node, yaml.SequenceNode):
        return "list"
    return _KINDS[node.tag.rpartition(":")[2]]


def _plain(node: yaml.Node) -> object:
    return yaml.safe_load(yaml.serialize(node))

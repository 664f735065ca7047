"""How comments of values.yaml are read."""

from __future__ import annotations

import pytest

from deploy.values_file import Value, documented_values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# -- One.\na: 1\n", [(("a",), "int", "1", "One.")]),
        ("# -- One\n# and more.\na: x\n", [(("a",), "string", '"x"', "One and more.")]),
        ("# Old.\n# -- One.\na: true\n", [(("a",), "bool", "true", "One.")]),
        ("# -- One.\n\na: 1.5\n", [(("a",), "float", "1.5", "")]),
        ("# Not for people.\na: []\n", [(("a",), "list", "[]", "")]),
        ("m:\n  # -- In.\n  a: null\n", [(("m", "a"), "null", "null", "In.")]),
        ("# -- Map.\nm:\n  a: {b: 1}\n", [(("m",), "object", '{"a": {"b": 1}}', "Map.")]),
        ("# -- Map.\nm: {a: 1}\n", [(("m",), "object", '{"a": 1}', "Map.")]),
        (
            "m:\n  # -- In.\n  a: 1\n  b: 2\n",
            [(("m", "a"), "int", "1", "In."), (("m", "b"), "int", "2", "")],
        ),
    ],
)
def test_a_comment_is_the_lines_right_above(
    text: str, expected: list[tuple[tuple[str, ...], str, str, str]]
) -> None:
    """From its mark on; a map whose keys have none is one value."""
    assert documented_values(text) == [Value(*each) for each in expected]

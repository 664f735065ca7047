"""The threat model keeps its word: every defence in it is proved by a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()
PROOF = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
ROWS = [line for line in TEXT.splitlines() if re.match(r"\| [STRIDE](, [STRIDE])* \|", line)]


def test_the_table_is_read_at_all() -> None:
    """Rows of all six kinds of threats are found."""
    kinds = {kind for row in ROWS for kind in row.split("|")[1].strip().split(", ")}
    assert kinds == set("STRIDE")
    assert len(ROWS) > 25


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[2].strip()[:40])
def test_every_defence_names_tests_that_exist(row: str) -> None:
    """A test that is renamed or removed takes its claim along."""
    proofs = PROOF.findall(row)
    assert proofs, "no test is named"
    for path, name in proofs:
        tree = ast.parse((ROOT / path).read_text())
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        assert name in {each.name for each in ast.walk(tree) if isinstance(each, kinds)}, path


def test_every_named_setting_exists() -> None:
    """Variables that the text tells to set are read by somebody."""
    source = "".join(
        path.read_text() for path in (ROOT / "shared" / "histill" / "core").glob("*.py")
    )
    for group, field in re.findall(r"HISTILL_([A-Z0-9]+)__([A-Z_]+)", TEXT):
        assert f'"{group}"' in source
        assert re.search(rf"^    {field.lower()}: ", source, re.MULTILINE), field

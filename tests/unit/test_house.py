"""The house itself: packages, types, tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOTS = [ROOT / "shared", ROOT / "services", ROOT / "workers"]


def test_no_source_root_claims_the_namespace() -> None:
    """One stray histill/__init__.py would hide the other two roots."""
    assert [root for root in ROOTS if (root / "histill" / "__init__.py").exists()] == []


def test_every_package_is_typed_and_says_what_it_is() -> None:
    """Each package has py.typed and a docstring."""
    packages = [path for root in ROOTS for path in (root / "histill").iterdir() if path.is_dir()]
    packages = [path for path in packages if path.name != "__pycache__"]
    assert packages
    for package in packages:
        assert (package / "py.typed").exists(), package
        init = package / "__init__.py"
        assert init.exists(), package
        assert ast.get_docstring(ast.parse(init.read_text())), init


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("tests/**/test_*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_every_test_states_a_behaviour_in_one_line(path: Path) -> None:
    """A test without a sentence is a test of nobody knows what."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
            "test_"
        ):
            words = ast.get_docstring(node)
            assert words, f"{path.name}: {node.name} has no docstring"
            assert "\n" not in words, f"{path.name}: {node.name} has more than one line"

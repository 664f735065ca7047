"""What the process imports and reads."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from histill.inference.cpus import cores
from histill.inference.settings import InferencePart

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("process", ["inference", "web"])
def test_never_imports_torch(process: str) -> None:
    """With everything of the process and of histill.ml imported, torch is not there."""
    code = f"""
import importlib, pkgutil, sys
import histill.ml, histill.{process}
for package in (histill.ml, histill.{process}):
    if package is histill.ml and {process!r} == "web":
        continue
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print(sorted({{name.split(".")[0] for name in sys.modules}} & {{"torch", "monai", "celery"}}))
"""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "expected"), [("100000 100000\n", 1), ("150000 100000", None), ("max 100000", None)]
)
def test_cores_follow_the_quota(tmp_path: Path, text: str, expected: int | None) -> None:
    """A cgroup's quota is rounded up, and never more than the affinity mask allows."""
    file = tmp_path / "cpu.max"
    file.write_text(text)
    allowed = cores(tmp_path / "nowhere")
    assert cores(file) == (expected or min(2, allowed) if "max " not in text else allowed)


def test_tiles_must_be_larger_than_their_overlaps() -> None:
    """An overlap of half a tile is refused at the start."""
    with pytest.raises(ValidationError, match="less than half of tile"):
        InferencePart(tile=256, overlap=128)

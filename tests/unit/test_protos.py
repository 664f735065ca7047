"""The API's own checks can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import google.rpc
import pytest

ROOT = Path(__file__).parents[2]
BUF = Path(sys.executable).parent / "buf"


def image_of(protos: Path, out: Path) -> Path:
    includes = Path(next(iter(google.rpc.__path__))).parents[1]
    sources = [str(path) for path in sorted(protos.rglob("*.proto"))]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(protos), "-I", str(includes)]
    options = ["--include_imports", "--include_source_info", f"--descriptor_set_out={out}"]
    subprocess.run([*command, *options, *sources], check=True)
    return out


def buf(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BUF, *arguments], capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("optional uint32 width = 2;", "optional uint32 width = 22;", "width"),
        ("optional uint32 width = 2;", "optional string width = 2;", "width"),
        ("repeated string teachers = 3;", "", "teachers"),
    ],
)
def test_a_breaking_change_is_found(tmp_path: Path, before: str, after: str, words: str) -> None:
    """Renumbered, retyped and removed fields fail the check against the released API."""
    protos = tmp_path / "protos"
    shutil.copytree(ROOT / "protos", protos)
    spec = protos / "histill/api/distillation/v1/spec.proto"
    changed = spec.read_text().replace(before, after)
    assert changed != spec.read_text()
    spec.write_text(changed)
    image = image_of(protos, tmp_path / "api.binpb")
    done = buf("breaking", str(image), "--config", "buf.yaml", "--against", "protos/released.binpb")
    assert done.returncode != 0
    assert words in done.stdout + done.stderr


def test_a_field_without_a_comment_is_found(tmp_path: Path) -> None:
    """The lint asks for words on every field."""
    protos = tmp_path / "protos"
    shutil.copytree(ROOT / "protos", protos)
    job = protos / "histill/api/distillation/v1/job.proto"
    job.write_text(job.read_text().replace("  // Output only.\n  JobKind kind", "  JobKind kind"))
    image = image_of(protos, tmp_path / "api.binpb")
    done = buf("lint", str(image), "--config", "buf.yaml")
    assert done.returncode != 0
    assert "kind" in done.stdout

"""Headers of safetensors files that may lie."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import manifests
from histill.core.errors import InvalidArgumentError
from histill.registry.servicer import _parameters
from histill.registry.weights import count_parameters

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, header: Any, data: bytes, *, length: int | None = None) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_real_files_are_counted(tmp_path: Path) -> None:
    """Floating-point values count, others do not."""
    path = tmp_path / "w"
    tensors: dict[str, Any] = {
        "a": np.zeros((3, 4), np.float32),
        "b": np.zeros(5, np.float16),
        "steps": np.zeros(7, np.int64),
    }
    save_file(tensors, path)
    assert count_parameters(path, field="f") == 17


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ({"a": entry(0, 4, [10**12])}, bytes(4), "bytes for a shape"),
        ({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, bytes(12), "overlaps"),
        ({"a": entry(4, 8, [1])}, bytes(8), "gaps"),
        ({"a": entry(0, 4, [1])}, bytes(400), "holds 400"),
        ({"a": entry(0, 4, [1], "F1")}, bytes(4), "unknown type"),
        ({"a": entry(0, 4, [-1])}, bytes(4), "negative"),
        ({"a": {"shape": [1]}}, bytes(4), "no safetensors"),
        ([1], b"", "no JSON object"),
    ],
)
def test_lies_are_refused(tmp_path: Path, header: Any, data: bytes, words: str) -> None:
    """Sizes, offsets, types and shapes must agree with each other and the file."""
    with pytest.raises(InvalidArgumentError, match=words):
        count_parameters(write(tmp_path / "w", header, data), field="f")


def test_a_header_longer_than_the_file_is_not_read(tmp_path: Path) -> None:
    """A length of 2^60 is refused before anything is allocated."""
    with pytest.raises(InvalidArgumentError, match="does not fit"):
        count_parameters(write(tmp_path / "w", {}, b"", length=2**60), field="f")
    (tmp_path / "short").write_bytes(b"abc")
    with pytest.raises(InvalidArgumentError, match="does not fit"):
        count_parameters(tmp_path / "short", field="f")


def test_statistics_are_looked_into_and_not_counted(tmp_path: Path) -> None:
    """They come from outside like the weights, and are no parameters."""
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "weights.safetensors")
    save_file({"n.mean": np.zeros(5, np.float32)}, tmp_path / "statistics.safetensors")
    assert _parameters(tmp_path, manifests.model()) == 3
    write(tmp_path / "statistics.safetensors", {"n.mean": entry(0, 4, [10**12])}, bytes(4))
    with pytest.raises(InvalidArgumentError, match=r"statistics\.safetensors is no safetensors"):
        _parameters(tmp_path, manifests.model())

"""Sizes of tensors in a program, read without unpickling it."""

from __future__ import annotations

import pickle
import zipfile
from typing import TYPE_CHECKING

import pytest
import torch

import torchscripts as programs
from histill.core.errors import InvalidArgumentError
from histill.core.pickled_tensors import MAX_BYTES, claimed_values
from histill.core.torchscript import check_program

if TYPE_CHECKING:
    from pathlib import Path

FORM = {"m/data.pkl": b"\x80\x02N.", "m/constants.pkl": b"\x80\x02).", "m/code/a.py": b"x"}


class Expanded(programs.Plain):
    """Holds 10^12 values that are stored as one."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("wide", torch.zeros(1).expand(10**6, 10**6))


def archive(path: Path, members: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def test_a_program_of_torch_claims_what_it_holds(tmp_path: Path) -> None:
    """Weights and biases of a real program are counted once."""
    with zipfile.ZipFile(programs.write(programs.Plain(), tmp_path) / "model.ts") as file:
        (name,) = (each for each in file.namelist() if each.endswith("/data.pkl"))
        assert claimed_values(file.read(name)) == 2 * 9 + 2


def test_a_tensor_of_zero_strides_is_refused(tmp_path: Path) -> None:
    """A file of some kilobytes that claims 10^12 values is found out before torch reads it."""
    path = programs.write(Expanded(), tmp_path) / "model.ts"
    assert path.stat().st_size < 10_000
    with pytest.raises(InvalidArgumentError, match="tensors claim 1000000000020 values"):
        check_program(path, field="f")


REBUILD = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (REBUILD + b"(NK\x00NNtR.", "has no size"),
        (REBUILD + b"(NK\x00(J\xff\xff\xff\xfftNtR.", "has no size"),
        (REBUILD + b"(NK\x00(" + b"K\x02" * 65 + b"tNtR.", "has no size"),
        (b"\x80\x02ctorch._utils\n_rebuild_sparse_tensor\n(NNtR.", "sparse"),
        (b"\x80\x04N\x94.", "torch writes no MEMOIZE"),
        (b"\x80\x02h\x07.", "damaged"),
        (b"\x80\x02R.", "damaged"),
        (b"\x80\x02", "pickle exhausted"),
        (bytes(MAX_BYTES + 1), "are the most"),
    ],
)
def test_what_torch_does_not_write_is_refused(data: bytes, words: str) -> None:
    """Sizes that are hidden, wrong or missing are no way around."""
    with pytest.raises(ValueError, match=words):
        claimed_values(data)


def test_nothing_is_called(tmp_path: Path) -> None:
    """A pickle that would run a command is only read."""

    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, (str(tmp_path / "never"),)

    assert claimed_values(pickle.dumps(Runs(), protocol=2)) == 0


def test_zips_that_torch_does_not_write_are_refused(tmp_path: Path) -> None:
    """Encrypted members, other compressions, and sizes that are lies, each in words."""
    path = tmp_path / "model.ts"
    check_program(archive(path, FORM), field="f")
    with pytest.raises(InvalidArgumentError, match="as torch packs nothing"):
        check_program(archive(path, FORM, zipfile.ZIP_LZMA), field="f")
    data = bytearray(archive(path, FORM).read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(InvalidArgumentError, match="as torch packs nothing"):
        check_program(path, field="f")
    code = {"m/code/a.py": b"# " + bytes(20 << 20)}
    with pytest.raises(InvalidArgumentError, match="bytes of code"):
        check_program(archive(path, FORM | code), field="f")

"""TorchScript programs and their headers, as the registry receives them."""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import torch

import torchscripts as programs
from histill.api.registry.v1 import dataset_pb2, model_pb2
from histill.api.registry.v1 import registry_service_pb2 as pb
from histill.core.errors import InvalidArgumentError
from histill.core.headers import unsent_manifest
from histill.core.messages import model_message
from histill.core.torchscript import check_program
from histill.registry.headers import dataset_manifest

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 5, 4, tzinfo=UTC)


def header(**changes: Any) -> pb.ModelHeader:
    fields: dict[str, Any] = {
        "model_name": "m",
        "role": model_pb2.MODEL_ROLE_TEACHER,
        "channels": 1,
        "classes": ["background", "object"],
        "mean": [0.5],
        "std": [0.5],
    }
    return pb.ModelHeader(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": {"temperature": 0.0}}, r"metrics\.temperature: must be from 0.05 to 20"),
        ({"metrics": {"dice": 87.0}}, r"metrics\.dice: must be from 0 to 1; it is 87"),
        ({"metrics": {"dice:object": -1.0}}, r"metrics\.dice:object: must be from 0 to 1"),
        ({"classes": ["background", "a", "a"]}, "classes: must have different names"),
    ],
)
def test_what_the_distiller_reads_is_in_range(changes: dict[str, Any], words: str) -> None:
    """Measures that weigh a teacher, and names that classes go by, are checked at the door."""
    with pytest.raises(InvalidArgumentError, match=words):
        unsent_manifest(header(**changes), ["model.ts"])


def test_a_real_program_is_taken(tmp_path: Path) -> None:
    """What torch.jit wrote has the form that is looked for."""
    programs.write(programs.Plain(), tmp_path)
    check_program(tmp_path / "model.ts", field="f")


def test_a_program_that_touches_files_is_refused(tmp_path: Path) -> None:
    """Its code is read as text; mapping a file into memory is found before anything runs."""

    class Writes(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.from_file("/tmp/never", True, 4).sum()  # noqa: S108

    programs.write(Writes(), tmp_path)
    with pytest.raises(InvalidArgumentError, match=r"torch\.from_file, which touches files"):
        check_program(tmp_path / "model.ts", field="f")


def archive(path: Path, members: dict[str, bytes], *, pressed: bool = False) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if pressed else 0) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


FORM = {"m/data.pkl": b"x", "m/constants.pkl": b"x", "m/code/a.py": b"x"}


def test_what_is_no_program_is_refused_unread(tmp_path: Path) -> None:
    """Text, pickles, other zips, bombs and endless tables of contents, each in words."""
    path = tmp_path / "model.ts"
    path.write_bytes(b"hello")
    with pytest.raises(InvalidArgumentError, match="not even a zip"):
        check_program(path, field="f")
    torch.save(programs.Plain().state_dict(), path)
    with pytest.raises(InvalidArgumentError, match=r"is a pickle of torch\.save"):
        check_program(path, field="f")
    with pytest.raises(InvalidArgumentError, match="is a zip, but no TorchScript"):
        check_program(archive(path, {"a.txt": b"x"}), field="f")
    bomb = FORM | {"m/data/0": bytes(100 << 20)}
    with pytest.raises(InvalidArgumentError, match="would unpack to 104857603"):
        check_program(archive(path, bomb, pressed=True), field="f")
    data = archive(path, FORM).read_bytes()
    at = data.rindex(b"PK\x05\x06")
    for lie in (
        data[: at + 12] + struct.pack("<L", 1 << 30) + data[at + 16 :],
        data[:at] + struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 0, 0, 0, 0, 9, 9, 1 << 40, 0)
        + data[at:],
    ):  # fmt: skip
        path.write_bytes(lie)
        with pytest.raises(InvalidArgumentError, match="endless table of contents"):
            check_program(path, field="f")


def test_a_header_of_a_program_needs_no_network() -> None:
    """What is left out has its default; a listing calls it torchscript."""
    manifest = unsent_manifest(header(), ["model.ts"])
    assert (manifest.network, manifest.stride, manifest.activation) == (None, 1, "softmax")
    assert manifest.normalization.scaling == "constant"
    message = model_message(manifest, {})
    assert (message.architecture, message.parameters, message.servable) == ("torchscript", 0, False)
    said = header(multiple_of=32, activation="sigmoid", scaling="image_zscore")
    manifest = unsent_manifest(said, ["model.ts"])
    assert (manifest.stride, manifest.activation) == (32, "sigmoid")
    assert manifest.normalization.scaling == "image_zscore"


@pytest.mark.parametrize(
    ("changes", "files", "field"),
    [
        ({}, [], "header.files"),
        ({}, ["model.onnx"], "header.files"),
        ({}, ["model.ts", "weights.safetensors"], "header.files"),
        ({}, ["model.ts", "model.pt"], "header.files"),
        ({"network_json": "{}"}, ["model.ts"], "header.network_json"),
        ({"multiple_of": 8}, ["weights.safetensors"], "header.multiple_of"),
        ({"multiple_of": -1}, ["model.ts"], "header.multiple_of"),
        ({"multiple_of": 5000}, ["model.ts"], "header.multiple_of"),
        ({"activation": "tanh"}, ["model.ts"], "header.activation"),
        ({"scaling": "log"}, ["model.ts"], "header.scaling"),
    ],
)
def test_headers_of_neither_kind_are_refused(
    changes: dict[str, Any], files: list[str], field: str
) -> None:
    """Weights with a network or a program without, and each field in its range."""
    with pytest.raises(InvalidArgumentError) as caught:
        unsent_manifest(header(**changes), files)
    assert {violation.field for violation in caught.value.violations} == {field}


def test_a_pixel_has_a_size_in_range() -> None:
    """It reaches the manifest; NaN, infinity and more than 100 mm are refused."""

    def of(size: float) -> float:
        sent = pb.DatasetHeader(
            dataset_name="d",
            classes=["background", "object"],
            channels=1,
            label_kind=dataset_pb2.LABEL_KIND_SEMANTIC,
            splits={"train": 1, "val": 1},
            pixel_size_mm=size,
        )
        return dataset_manifest(sent, [], now=NOW).pixel_size_mm

    assert (of(0.25), of(0)) == (0.25, 0)
    for size in (math.nan, math.inf, -1.0, 100.5):
        with pytest.raises(InvalidArgumentError, match=r"header\.pixel_size_mm"):
            of(size)


@pytest.mark.parametrize(
    "code",
    [
        b"torch.from_file(x)",
        b"torch .from_file(x)",
        b"torch. from_file(x)",
        b"torch.\\\n  from_file(x)",
        b"y = (torch. # a file\n from_file)(x)",
        b"(torch).from_file(x)",
        b"t = torch\nt.save(x)",
        b"t = (torch)\nt.classes.a.b(x)",
        b"ops.aten.from_file(x)",
        b"ops . aten . from_file(x)",
        b"a = ops.aten\na.load(x)",
        b"o = ops\no.aten._save(x)",
        b'getattr(torch, "from" "_file")(x)',
        b'getattr( (ops.aten), "x")(x)',
        b"torch . classes . a.b(x)",
        b'x = "#"; torch.save(x)',
        b'# "\n  t = torch\n  t.save(x) # "',
        b'x = "\'"; t.save(x); y = "\'"',
        b'x = "a\\""; t.save(x); y = ""',
    ],
)
def test_other_spellings_that_touch_files_are_refused(code: bytes, tmp_path: Path) -> None:
    """Blanks, broken lines, comments, brackets and other names hide nothing."""
    empty = pickle.dumps((), 2)
    form = {
        "m/data.pkl": empty,
        "m/constants.pkl": empty,
        "m/code/a.py": b"def forward(self, x):\n  " + code + b"\n",
    }
    with pytest.raises(InvalidArgumentError, match="touches files"):
        check_program(archive(tmp_path / "model.ts", form), field="f")


def test_names_that_only_look_like_it_are_taken(tmp_path: Path) -> None:
    """A network may load, save and have classes, in names of its own."""
    code = (
        b"import __torch__.torch.nn.modules.conv\n"
        b"  conv : __torch__.torch.nn.modules.conv.Conv2d\n"
        b"def load_state(self, x: Tensor) -> Tensor:\n"
        b'  _0 = getattr(self.classes, "0")\n  _1 = torch.add(x, 1)\n'
        b"  _2 = ops.prim.NumToTensor(torch.size(x, 0))\n  saved = _1\n"
        b'  ops.prim.RaiseException("a torch tensor, or as it is: a.load")\n  return saved\n'
    )
    empty = pickle.dumps((), 2)
    form = {"m/data.pkl": empty, "m/constants.pkl": empty, "m/code/a.py": code}
    check_program(archive(tmp_path / "model.ts", form), field="f")

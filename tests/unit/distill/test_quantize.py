"""Students in 8-bit integers."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from histill.core.manifests import INT8, INT8_LOSS, ONNX, Normalization
from histill.core.specs import NetworkSpec
from histill.distill import quantize as quantizing
from histill.distill.export import export_onnx
from histill.distill.nets import build_network
from histill.distill.predict import Normalized
from histill.distill.quantize import InOnnx, add_int8, quantize

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

CLASSES = ("background", "gland", "nucleus")


def images(count: int = 4, height: int = 29, width: int = 34) -> list[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    low = rng.integers(0, 256, (count, height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return list(low.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width])


def exported(folder: Path, **fields: Any) -> int:
    """Writes ``model.onnx`` of a fresh network with lived-in statistics, and says its stride."""
    spec = NetworkSpec.model_validate({"width": 8, "depth": 3} | fields)
    torch.manual_seed(0)
    net = Normalized(
        build_network(spec, channels=3, classes=3),
        Normalization(mean=(0.7, 0.5, 0.6), std=(0.2, 0.3, 0.25)),
    )
    for _ in range(20):
        net(torch.rand(2, 3, 32, 32) * 255)
    export_onnx(
        net.eval(), folder / ONNX, channels=3, stride=spec.stride, classes=CLASSES, samples=[]
    )
    return spec.stride


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("architecture", ["unet", "basic_unet", "attention_unet", "segresnet"])
def test_bytes_answer_like_floats(architecture: str, norm: str, tmp_path: Path) -> None:
    """Probabilities of every kind of network stay close, in a smaller file, at any size."""
    stride = exported(tmp_path, architecture=architecture, norm=norm, width=16)
    quantize(tmp_path / ONNX, tmp_path / INT8, images(), stride=stride)
    batch = np.stack(images(2, 40, 24))
    exact, rounded = (
        session(tmp_path / name).run(["probabilities", "mask"], {"image": batch})
        for name in (ONNX, INT8)
    )
    assert np.abs(exact[0] - rounded[0]).mean() < 0.02
    assert np.mean(exact[1] == rounded[1]) > 0.93
    assert (tmp_path / INT8).stat().st_size < 0.8 * (tmp_path / ONNX).stat().st_size


def test_inputs_outputs_and_metadata_are_kept(tmp_path: Path) -> None:
    """A service takes one file for the other."""
    stride = exported(tmp_path)
    quantize(tmp_path / ONNX, tmp_path / INT8, images(), stride=stride)
    one, other = (session(tmp_path / name) for name in (ONNX, INT8))
    for put in ("get_inputs", "get_outputs"):
        before, after = (
            [(each.name, each.type, each.shape) for each in getattr(made, put)()]
            for made in (one, other)
        )
        assert before == after
    kept = other.get_modelmeta().custom_metadata_map
    assert one.get_modelmeta().custom_metadata_map.items() <= kept.items()


@pytest.mark.parametrize(
    ("architecture", "in_floats"), [("unet", 1), ("attention_unet", 1), ("segresnet", 5)]
)
def test_pixels_and_sums_stay_in_floats(architecture: str, in_floats: int, tmp_path: Path) -> None:
    """Convolutions of what nothing bounds take it as it is; all others take bytes."""
    stride = exported(tmp_path, architecture=architecture)
    quantize(tmp_path / ONNX, tmp_path / INT8, images(), stride=stride)
    nodes = onnx.load(tmp_path / INT8).graph.node
    makers = {name: node.op_type for node in nodes for name in node.output}
    taken = [makers[node.input[0]] for node in nodes if node.op_type in {"Conv", "ConvTranspose"}]
    assert len([each for each in taken if each != "DequantizeLinear"]) == in_floats


def test_a_network_in_onnx_is_a_network(tmp_path: Path) -> None:
    """Float images in units of a byte give the file's probabilities."""
    exported(tmp_path)
    batch = np.stack(images(2, 32, 24))
    found = InOnnx(tmp_path / ONNX)(torch.from_numpy(batch).permute(0, 3, 1, 2).float())
    expected = session(tmp_path / ONNX).run(["probabilities"], {"image": batch})[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("lost", "kept", "metrics"),
    [
        (0.003, {INT8}, {INT8_LOSS: 0.003}),
        (-0.01, {INT8}, {INT8_LOSS: -0.01}),
        (0.0031, set(), {INT8_LOSS: 0.0031}),
        (math.nan, set(), {}),
    ],
)
def test_the_file_is_kept_where_it_loses_little(
    lost: float, kept: set[str], metrics: dict[str, float], tmp_path: Path
) -> None:
    """At most 0.3 points; what is lost is told in any case, and nothing else is left behind."""
    stride = exported(tmp_path)
    assert add_int8(tmp_path, images(), stride=stride, lost=lambda _: lost) == metrics
    assert {path.name for path in tmp_path.iterdir()} == {ONNX} | kept


def test_ranges_are_taken_in_another_way_where_the_first_is_too_bad(tmp_path: Path) -> None:
    """The better loss is told, and the file that it belongs to is kept."""
    stride, losses = exported(tmp_path), [0.02, 0.001]
    metrics = add_int8(tmp_path, images(), stride=stride, lost=lambda _: losses.pop(0))
    assert (metrics, losses) == ({INT8_LOSS: 0.001}, [])
    quantize(tmp_path / ONNX, tmp_path / "again.onnx", images(), stride=stride, widest=True)
    assert (tmp_path / INT8).read_bytes() == (tmp_path / "again.onnx").read_bytes()
    losses = [0.02, 0.03]
    assert add_int8(tmp_path, images(), stride=stride, lost=lambda _: losses.pop(0)) == {
        INT8_LOSS: 0.02
    }


def test_a_failure_is_no_failure_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the quantiser raises, the folder stays as it was."""

    def fails(*_: object, **__: object) -> None:
        raise IndexError("an operator nobody knows")

    stride = exported(tmp_path)
    monkeypatch.setattr(quantizing, "quantize_static", fails)
    assert add_int8(tmp_path, images(), stride=stride, lost=lambda _: 0.0) == {}
    monkeypatch.undo()
    (tmp_path / ONNX).write_bytes(b"no model")
    assert add_int8(tmp_path, images(), stride=stride, lost=lambda _: 0.0) == {}
    assert [path.name for path in tmp_path.iterdir()] == [ONNX]


def test_standard_output_stays_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It carries the trainer's events; what the quantiser prints goes elsewhere."""
    stride = exported(tmp_path)
    told = sys.stdout
    monkeypatch.setattr(quantizing, "quantize_static", lambda *_, **__: print("a word"))  # noqa: T201
    quantize(tmp_path / ONNX, tmp_path / INT8, images(), stride=stride)
    assert sys.stdout is told
    assert capsys.readouterr().out == ""


def test_calibration_is_bounded() -> None:
    """Few images, and of large ones the middle, until there are pixels enough."""
    small = [each.shape for each in quantizing._some(images(50), 8)]
    assert small == [(32, 40, 3)] * 32
    large = list(quantizing._some([np.zeros((700, 2000, 3), np.uint8)] * 20, 8))
    assert [each.shape for each in large] == [(512, 512, 3)] * 8

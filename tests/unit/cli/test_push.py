"""``histill models push``: what it takes, and what it checks before anything is sent."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from typing import TYPE_CHECKING, Any, Self

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import torchscripts as programs
from histill.api.registry.v1 import model_pb2, registry_service_pb2
from histill.cli.app import app
from histill.cli.model_check import check
from histill.cli.model_folders import Described, described
from histill.core.errors import InvalidArgumentError
from histill.core.specs import NetworkSpec
from histill.distill.nets import build_network

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = "channels: 1\nclasses: [background, blob]\nmean: [0.5]\nstd: [0.25]\n"


class Registry:
    """A client that keeps what it is given."""

    def __init__(self) -> None:
        self.models = self
        self.pushed: list[tuple[registry_service_pb2.ModelHeader, dict[str, bytes]]] = []

    def push(self, header: registry_service_pb2.ModelHeader, files: list[Path]) -> Any:
        self.pushed.append((header, {path.name: path.read_bytes() for path in files}))
        return model_pb2.Model(reference=f"{header.model_name}@1")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Stands for the registry."""
    stand_in = Registry()
    monkeypatch.setattr("histill.cli.models.Client.connect", lambda: stand_in)
    return stand_in


def program(folder: Path, text: str = PROGRAM, **net: int) -> Path:
    programs.write(programs.Plain(**net), folder)
    (folder / "model.yaml").write_text(text)
    return folder


def push(folder: Path, *flags: str) -> Any:
    return CliRunner().invoke(app, ["models", "push", str(folder), "--name", "t", *flags])


def test_a_program_is_checked_and_pushed(registry: Registry, tmp_path: Path) -> None:
    """model.ts with its description; it is a teacher unless something else is said."""
    result = push(program(tmp_path))
    assert result.exit_code == 0, result.output
    assert "checked: 20 parameters" in result.output
    assert "registered t@1" in result.output
    ((header, files),) = registry.pushed
    assert list(files) == ["model.ts"]
    assert header.role == model_pb2.MODEL_ROLE_TEACHER
    assert header.network_json == ""


def test_problems_are_printed_and_nothing_is_pushed(registry: Registry, tmp_path: Path) -> None:
    """Code, sentence and help of each; --unchecked pushes it all the same."""
    folder = program(tmp_path, channels=3)
    result = push(folder)
    assert isinstance(result.exception, InvalidArgumentError)  # wrong usage: exit code 2
    assert "1 problem, nothing was pushed" in str(result.exception)
    assert "error WRONG_CHANNELS: it takes 3 channels; 1 are declared" in result.output
    assert " help Set channels: 3" in result.output
    assert registry.pushed == []
    assert push(folder, "--unchecked", "--json").exit_code == 0
    assert len(registry.pushed) == 1


def test_a_wrong_description_is_told_before_anything_runs(
    registry: Registry, tmp_path: Path
) -> None:
    """Unknown and missing fields, wrong values, and a network beside a program."""
    for text, words in (
        (PROGRAM + "stride: 8\n", "stride"),
        (PROGRAM + "scaling: log\n", r"header\.scaling"),
        (PROGRAM + "multiple_of: 2000\n", r"header\.multiple_of"),
        (PROGRAM.replace("mean: [0.5]\n", ""), r"header\.mean"),
        (PROGRAM + "network: {architecture: unet}\n", "names a network"),
    ):
        result = push(program(tmp_path, text))
        assert isinstance(result.exception, InvalidArgumentError)
        with pytest.raises(InvalidArgumentError, match=words):
            raise result.exception
    assert registry.pushed == []


def test_images_scaled_by_their_own_values_need_no_constants(tmp_path: Path) -> None:
    """Mean and std may be left out then."""
    text = "channels: 2\nclasses: [background, blob]\nscaling: image_range\n"
    with described(program(tmp_path, text), "t") as model:
        assert (list(model.header.mean), list(model.header.std)) == ([0, 0], [1, 1])


def test_weights_are_taken_as_before(tmp_path: Path) -> None:
    """weights.safetensors with a network, and an ONNX file and a card beside it."""
    net = build_network(NetworkSpec(width=4, depth=2), channels=1, classes=2)
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "card.md").write_text("card")
    (tmp_path / "model.yaml").write_text(PROGRAM + "role: student\nnetwork: {width: 4, depth: 2}\n")
    with described(tmp_path, "t") as model:
        assert [path.name for path in model.files] == ["weights.safetensors", "card.md"]
        assert json.loads(model.header.network_json) == {"width": 4, "depth": 2}
        assert model.header.role == model_pb2.MODEL_ROLE_STUDENT
        check(model)


def test_statistics_go_with_the_weights(registry: Registry, tmp_path: Path) -> None:
    """A network without batch norms brings what its norms saw."""
    net = build_network(NetworkSpec(width=4, depth=2, norm="instance"), channels=1, classes=2)
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    save_file({"model.0.adn.N.mean": torch.zeros(4)}, tmp_path / "statistics.safetensors")
    network = "network: {width: 4, depth: 2, norm: instance}\n"
    shares = "image_size: 96\nclass_shares: {blob: 0.25}\n"
    (tmp_path / "model.yaml").write_text(PROGRAM + network + shares)
    result = push(tmp_path)
    assert result.exit_code == 0, result.output
    ((header, files),) = registry.pushed
    assert list(files) == ["weights.safetensors", "statistics.safetensors"]
    assert (header.image_size, dict(header.class_shares)) == (96, {"blob": 0.25})


def test_a_classifier_is_checked_and_pushed(registry: Registry, tmp_path: Path) -> None:
    """Its task, the size that it takes and the privacy that it was trained under."""
    said = "task: classification\nimage_size: 32\ndp_epsilon: 3.0\ndp_delta: 1.0e-5\n"
    programs.write(programs.Classifier(side=32), tmp_path)
    (tmp_path / "model.yaml").write_text(PROGRAM + said)
    result = push(tmp_path)
    assert result.exit_code == 0, result.output
    assert "checked: " in result.output
    ((header, _),) = registry.pushed
    assert (header.task, header.image_size) == ("classification", 32)
    assert (header.dp_epsilon, header.dp_delta) == (3.0, 1e-5)


def test_a_segmenting_program_is_no_classifier(registry: Registry, tmp_path: Path) -> None:
    """The check says what a classifier would have to give; nothing is pushed."""
    result = push(program(tmp_path, PROGRAM + "task: classification\nimage_size: 32\n"))
    assert "[2, 2] is needed to classify" in result.output
    assert registry.pushed == []


def test_a_listing_tells_the_task(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the network, for people as for programs."""
    listed = [model_pb2.Model(reference="t@1", task="classification", architecture="lenet5")]
    monkeypatch.setattr(registry, "list", lambda **_: listed, raising=False)
    monkeypatch.setattr("histill.cli.output.console.width", 200)
    shown = CliRunner().invoke(app, ["models", "ls"]).output
    assert "task" in shown
    assert "classification" in shown
    found = CliRunner().invoke(app, ["models", "ls", "--json"]).output
    assert json.loads(found)[0]["task"] == "classification"


def test_a_bundle_is_pushed_under_the_registrys_names(registry: Registry, tmp_path: Path) -> None:
    """models/model.safetensors of a MONAI bundle becomes weights.safetensors."""
    from monai.networks.nets.unet import UNet

    (tmp_path / "configs").mkdir()
    (tmp_path / "models").mkdir()
    image = {"num_channels": 1, "spatial_shape": ["8*n", "8*n"]}
    pred = {"num_channels": 2, "channel_def": {"0": "background", "1": "blob"}}
    form = {"inputs": {"image": image}, "outputs": {"pred": pred}}
    net = {"_target_": "UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 2,
           "channels": [4, 8], "strides": [2], "norm": "batch"}  # fmt: skip
    scale = {"_target_": "ScaleIntensityd", "keys": "image"}
    config = {"network_def": net, "preprocessing": {"transforms": [scale]}}
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps({"network_data_format": form}))
    (tmp_path / "configs" / "inference.json").write_text(json.dumps(config))
    weights = UNet(2, 1, 2, [4, 8], [2], norm="batch").state_dict()
    save_file(weights, tmp_path / "models" / "model.safetensors")
    result = push(tmp_path)
    assert result.exit_code == 0, result.output
    ((header, files),) = registry.pushed
    assert list(files) == ["weights.safetensors"]
    assert (header.scaling, list(header.classes)) == ("image_range", ["background", "blob"])


def test_a_folder_of_nothing_says_what_is_missing(tmp_path: Path) -> None:
    """Neither a description nor a bundle."""
    with (
        pytest.raises(InvalidArgumentError, match="no MONAI bundle"),
        described(tmp_path, "t"),
    ):
        pass


def test_without_torch_the_push_goes_on(
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clinic's laptop has no torch: one line says that nothing was checked."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else real(name)
    )
    result = push(program(tmp_path))
    assert result.exit_code == 0
    assert "not checked: torch is not installed here" in result.output
    assert len(registry.pushed) == 1


@pytest.fixture
def model(tmp_path: Path) -> Described:
    """A model whose files do not matter."""
    return Described(registry_service_pb2.ModelHeader(model_name="t"), [tmp_path / "model.ts"])


def test_the_check_sees_no_setting_of_ours(
    model: Described, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Foreign code may run in it, so no credential is in its environment."""
    monkeypatch.setenv("HISTILL_CLIENT__API_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    seen: dict[str, Any] = {}

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        seen.update(options)
        found = b'noise\n{"problems": [], "parameters": 1, "ms_per_image": 1.0}\n'
        return subprocess.CompletedProcess(command, 0, found, b"")

    monkeypatch.setattr("histill.cli.model_check.subprocess.run", run)
    check(model)
    assert "secret" not in str(seen["env"])
    assert seen["timeout"] > 0


def test_a_check_that_dies_or_hangs_is_a_problem(
    model: Described, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that takes its process with it is told like any other problem."""
    ends: list[Any] = [
        subprocess.CompletedProcess([], -11, b"", b"one\nfatal: two\n"),
        subprocess.TimeoutExpired([], 600),
    ]

    def run(*_: object, **__: object) -> Any:
        end = ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    monkeypatch.setattr("histill.cli.model_check.subprocess.run", run)
    for words in ("exit code -11: fatal: two", "did not end within 600 s"):
        with pytest.raises(InvalidArgumentError, match="1 problem"):
            check(model)
        assert words in capsys.readouterr().err

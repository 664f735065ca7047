"""The check run: every kind of problem provoked once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import manifests
import torchscripts as programs
from histill.core.specs import NetworkSpec
from histill.distill.check import check_teacher, read_header
from histill.distill.nets import build_network

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from histill.core.manifests import ModelManifest

    Model = Callable[..., ModelManifest]

HEADER: dict[str, Any] = {
    "model_name": "t",
    "role": "MODEL_ROLE_TEACHER",
    "channels": 1,
    "classes": ["background", "blob"],
    "mean": [0.5],
    "std": [0.25],
}


def weights(folder: Path, **changes: Any) -> Path:
    network = NetworkSpec.model_validate({"width": 4, "depth": 2} | changes)
    net = build_network(network, channels=1, classes=2)
    save_file(net.state_dict(), folder / "weights.safetensors")
    return folder


@pytest.mark.parametrize(
    ("net", "code", "words"),
    [
        (programs.Plain(channels=3), "WRONG_CHANNELS", "takes 3 channels"),
        (programs.Crossed(channels=3), "WRONG_CHANNELS", "takes 3 channels"),
        (programs.Plain(outputs=3), "WRONG_OUTPUT_SHAPE", r"[2, 2, 48, 49] is needed"),
        (programs.Broken(), "NOT_FINITE", "NaN or infinity"),
        (programs.Rounded(), "NO_GRADIENT", "does not depend on the input"),
        (programs.Detached(), "NO_GRADIENT", "cannot be differentiated"),
        (programs.Dropping(), "NOT_DETERMINISTIC", "two runs"),
        (programs.Softened(), "NOT_LOGITS", "a softmax inside"),
    ],
)
def test_a_bad_program_is_told_by_a_code_with_what_helps(
    net: nn.Module, code: str, words: str, tmp_path: Path, model_manifest: Model
) -> None:
    """Each kind of problem has its own stable code, a sentence and a hint."""
    found = check_teacher(programs.write(net, tmp_path), model_manifest(network=None))
    problems = {problem.code: problem for problem in found.problems}
    assert words in problems[code].message
    assert problems[code].hint
    # NaN spoils the gradient too; nothing else is found twice.
    assert set(problems) <= {code, "NO_GRADIENT"}


def test_weights_of_another_network_and_no_weights_at_all(
    tmp_path: Path, model_manifest: Model
) -> None:
    """A wrong width is WEIGHTS_MISMATCH; bytes that are no safetensors are UNREADABLE."""
    (problem,) = check_teacher(weights(tmp_path, width=8), model_manifest()).problems
    assert problem.code == "WEIGHTS_MISMATCH"
    torch.save({}, tmp_path / "weights.safetensors")
    (problem,) = check_teacher(tmp_path, model_manifest()).problems
    assert problem.code == "UNREADABLE"
    (tmp_path / "model.ts").write_bytes(b"hello")
    (problem,) = check_teacher(tmp_path, model_manifest(network=None)).problems
    assert problem.code == "UNREADABLE"


@pytest.mark.parametrize("scaling", ["constant", "image_range", "image_zscore"])
def test_good_teachers_have_no_problem(scaling: str, tmp_path: Path, model_manifest: Model) -> None:
    """Programs and registry weights, however their images are scaled."""
    normalization = {"mean": (0.5,), "std": (0.25,), "scaling": scaling}
    for network in (None, NetworkSpec(width=4, depth=2)):
        manifest = model_manifest(network=network).model_copy(
            update={"normalization": type(model_manifest().normalization)(**normalization)}
        )
        folder = weights(programs.write(programs.Plain(), tmp_path))
        found = check_teacher(folder, manifest)
        assert found.problems == []
        assert found.parameters > 10
        assert found.ms_per_image > 0


def test_good_classifiers_have_no_problem(tmp_path: Path) -> None:
    """A TorchScript program, and the weights of LeNet-5."""
    manifest = manifests.classifier()
    assert manifest.network is not None
    net = build_network(manifest.network, channels=1, classes=10)
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    programs.write(programs.Classifier(outputs=10, side=32), tmp_path)
    for network in (manifest.network, None):
        found = check_teacher(tmp_path, manifests.classifier(network=network))
        assert found.problems == []
        assert found.parameters > 600
        assert found.ms_per_image > 0


@pytest.mark.parametrize(
    ("net", "code", "words"),
    [
        (programs.Classifier(outputs=3), "WRONG_OUTPUT_SHAPE", "[2, 10] is needed to classify"),
        (programs.Plain(outputs=10), "WRONG_OUTPUT_SHAPE", "[2, 10] is needed to classify"),
        (programs.Classifier(outputs=10, side=64), "WRONG_OUTPUT_SHAPE", "stops on 32x32"),
        (programs.Classifier(channels=3, outputs=10), "WRONG_CHANNELS", "takes 3 channels"),
        (
            nn.Sequential(programs.Classifier(outputs=10), nn.Softmax(dim=1)),
            "NOT_LOGITS",
            "a softmax inside",
        ),
    ],
)
def test_a_bad_classifier_is_told_by_a_code(
    net: nn.Module, code: str, words: str, tmp_path: Path
) -> None:
    """The same codes as for segmentation, and what a classifier would have to give."""
    folder = programs.write(net, tmp_path)
    (problem,) = check_teacher(folder, manifests.classifier(network=None)).problems
    assert (problem.code, bool(problem.hint)) == (code, True)
    assert words in problem.message


def test_the_command_prints_json_and_needs_no_environment(tmp_path: Path) -> None:
    """A child process without a single variable of ours; exit code 1 says there are problems."""
    programs.write(programs.Detached(), tmp_path)
    header = tmp_path / "header.json"
    header.write_text(json.dumps(HEADER))
    command = [sys.executable, "-m", "histill.distill.check", str(tmp_path), str(header)]
    done = subprocess.run(
        command, env={"PATH": os.environ["PATH"]}, capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert [problem["code"] for problem in found["problems"]] == ["NO_GRADIENT"]
    assert set(found) == {"problems", "parameters", "ms_per_image"}


def test_the_header_says_what_lies_in_the_folder(tmp_path: Path) -> None:
    """A header without a network is of the program that lies beside it."""
    header = tmp_path / "header.json"
    header.write_text(json.dumps(HEADER | {"multiple_of": 16, "scaling": "image_range"}))
    programs.write(programs.Plain(), tmp_path)
    manifest = read_header(tmp_path, header)
    assert (manifest.network, manifest.stride) == (None, 16)
    assert manifest.normalization.scaling == "image_range"

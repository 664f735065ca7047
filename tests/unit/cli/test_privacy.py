"""``histill privacy audit``: attacks on real ONNX files, with no image leaving the machine."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

from histill.api.registry.v1 import model_pb2
from histill.cli.app import app
from histill.cli.audit_examples import confidences, find_examples
from histill.cli.local_models import fetch
from histill.core.errors import CorruptArtifactError, FailedPreconditionError, InvalidArgumentError
from pictures import blobs
from students import CLASSES, student

if TYPE_CHECKING:
    from pathlib import Path

    from histill.client import Client


class Registry:
    """A client of models that are held in memory; nothing can be sent with it."""

    def __init__(self) -> None:
        self.models = self
        self.known: dict[str, tuple[bytes | None, tuple[str, ...]]] = {}
        self.budget = (0.0, 0.0)

    def add(self, name: str, data: bytes | None, classes: tuple[str, ...] = CLASSES) -> None:
        self.known[f"{name}@1"] = (data, classes)

    def get(self, reference: str) -> model_pb2.Model:
        name, _, _ = reference.partition("@")
        data, classes = self.known[f"{name}@1"]
        files = [] if data is None else [model_pb2.ArtifactFile(path="model.onnx")]
        return model_pb2.Model(
            reference=f"{name}@1",
            files=files,
            classes=classes,
            channels=len(classes),
            dp_epsilon=self.budget[0],
            dp_delta=self.budget[1],
        )

    def download(self, reference: str, folder: Path, *, paths: list[str]) -> Any:
        assert paths == ["model.onnx"]
        (folder / "model.onnx").write_bytes(self.known[reference][0] or b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry of one student."""
    stand_in = Registry()
    stand_in.add("student", student())
    monkeypatch.setattr("histill.cli.privacy.Client.connect", lambda: stand_in)
    return stand_in


def with_meta(data: bytes, **meta: str) -> bytes:
    model = onnx.load_from_string(data)
    kept = {each.key: each.value for each in model.metadata_props}
    helper.set_model_props(model, kept | {f"histill.{key}": value for key, value in meta.items()})
    return bytes(model.SerializeToString())


def classifier(classes: tuple[str, ...] = ("dark", "light")) -> bytes:
    """The logit of the second class grows with the mean of an 8 x 8 image, around 128."""
    weights = {
        "slope": np.array([[-0.1, 0.1]], np.float32),
        "bias": np.array([12.8, -12.8], np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "slope"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 8, 8, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    return with_meta(
        bytes(model.SerializeToString()),
        task="classification",
        stride="8",
        classes=json.dumps(classes),
    )


def write(folder: Path, pairs: list[tuple[np.ndarray, np.ndarray]]) -> Path:
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for index, (image, label) in enumerate(pairs):
        Image.fromarray(image).save(folder / "images" / f"{index}.png")
        Image.fromarray(label).save(folder / "labels" / f"{index}.png")
    return folder


@pytest.fixture
def members(tmp_path: Path) -> Path:
    """Discs with exact labels: what the student says is right."""
    return write(tmp_path / "members", [blobs(seed) for seed in range(5)])


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """Discs whose labels are wrong on the left: what the student says is wrong there."""
    pairs = [blobs(seed) for seed in range(5, 11)]
    for _, label in pairs:
        label[:, :16] = 1 - label[:, :16]
    return write(tmp_path / "others", pairs)


def audit(members: Path, others: Path, *more: str) -> Any:
    command = ["privacy", "audit", "student", "--members", str(members)]
    return CliRunner().invoke(app, [*command, "--non-members", str(others), *more])


def test_a_model_that_knows_its_members_is_found_out(
    registry: Registry, members: Path, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table says how sure that is, what so few cannot tell, and that nothing is promised."""
    del registry
    monkeypatch.setattr("histill.cli.output.console.width", 160, raising=False)
    result = audit(members, others)
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "student@1" in words
    assert "1.000 (0.478 to 1.000)" in words
    assert words.count("too few non-members") == 2
    assert "An AUC of 0.5 is a guess" in words
    assert "student@1: No formal guarantee" in words


def test_images_without_a_label_are_left_out(
    registry: Registry, members: Path, others: Path
) -> None:
    """Nothing says what a model should answer on them; none with a label is told."""
    del registry
    (members / "labels" / "0.png").unlink()
    assert json.loads(audit(members, others, "--json").output)[0]["attacks"][0]["members"] == 4
    for label in (members / "labels").iterdir():
        label.unlink()
    with pytest.raises(InvalidArgumentError, match="no image with a label of the same name"):
        raise_from(audit(members, others))


def test_references_add_an_attack(registry: Registry, members: Path, others: Path) -> None:
    """JSON holds both attacks, and null for what is not a number."""
    for name, threshold in (("first", 100.0), ("second", 160.0)):
        registry.add(name, student(threshold=threshold))
    result = audit(members, others, "--reference", "first", "--reference", "second", "--json")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.output)
    assert [attack["name"] for attack in found["attacks"]] == ["loss", "reference"]
    assert found["attacks"][0]["auc"] == 1.0
    # The references say the same of both groups, so that only the labels' share is left.
    assert 0 <= found["attacks"][1]["low"] <= found["attacks"][1]["auc"]
    for attack in found["attacks"]:
        assert (attack["members"], attack["non_members"]) == (5, 6)
        assert attack["tpr_at_1_percent"] is None


def test_a_proven_guarantee_is_told(registry: Registry, members: Path, others: Path) -> None:
    """What the model's manifest says replaces the sentence about none."""
    registry.budget = (3.5, 1e-5)
    words = " ".join(audit(members, others).output.split())
    assert "epsilon 3.5 and delta 1e-05" in words
    assert "No formal guarantee" not in words


def test_an_images_numbers_are_means_over_its_own_pixels(
    registry: Registry, tmp_path: Path
) -> None:
    """Padding is reflected and not counted; a sure model's logit does not overflow."""
    image, label = blobs(0)
    image, label = np.ascontiguousarray(image[:45, :37]), np.ascontiguousarray(label[:45, :37])
    folder = write(tmp_path / "one", [(image, label)])
    model = fetch(as_client(registry), "student", option="MODEL")
    found = confidences(model, find_examples(folder, model, option="--members"), objects=False)
    session = onnxruntime.InferenceSession(student(), providers=["CPUExecutionProvider"])
    padded = np.pad(image, ((0, 3), (0, 3), (0, 0)), mode="reflect")[None]
    [answer] = session.run(["probabilities"], {"image": padded})
    dark = answer[0, 1, :45, :37].astype(float)
    light = answer[0, 0, :45, :37].astype(float)
    true, other = np.where(label == 1, dark, light), np.where(label == 1, light, dark)
    assert found.losses == pytest.approx([-np.log(np.maximum(true, 1e-12)).mean()])
    logit = np.log(np.maximum(true, 1e-12)) - np.log(np.maximum(other, 1e-12))
    assert found.logits == pytest.approx([logit.mean()])


def as_client(registry: Registry) -> Client:
    stand_in: Any = registry
    return stand_in  # type: ignore[no-any-return]


def test_values_beyond_the_classes_number_objects_where_that_is_clear(
    registry: Registry, members: Path, others: Path
) -> None:
    """Of two classes they do; of three the user is asked, and --labels instance answers."""
    label = Image.open(members / "labels" / "0.png")
    values = np.asarray(label, np.uint16) * 900
    Image.fromarray(values).save(members / "labels" / "0.png")
    assert audit(members, others).exit_code == 0
    with pytest.raises(InvalidArgumentError, match="the value 900, which is none of the 2"):
        raise_from(audit(members, others, "--labels", "semantic"))
    registry.add("student", student(classes=3), ("background", "inside", "contour"))
    with pytest.raises(InvalidArgumentError, match=r"^--members: .*--labels instance"):
        raise_from(audit(members, others))
    assert audit(members, others, "--labels", "instance").exit_code == 0
    registry.add("student", student(classes=4), ("a", "b", "c", "d"))
    with pytest.raises(InvalidArgumentError, match=r"^--labels: .*has 4 classes"):
        raise_from(audit(members, others, "--labels", "instance"))


def raise_from(result: Any) -> None:
    assert result.exit_code != 0, result.output
    raise result.exception


def test_a_folder_that_does_not_fit_says_what_would(
    registry: Registry, members: Path, others: Path, tmp_path: Path
) -> None:
    """Missing folders and parts, no images, one on both sides, a wrong size, wrong channels."""
    (tmp_path / "empty" / "images").mkdir(parents=True)
    (tmp_path / "empty" / "labels").mkdir()
    (tmp_path / "split" / "train").mkdir(parents=True)
    wrong = write(tmp_path / "wrong", [(blobs(77)[0], blobs(77)[1][:10])])
    for folder, words in (
        (tmp_path / "none", r"^--members: .*none is not a folder"),
        (tmp_path / "split", r"^--members: .*holds no images/.*give .*train"),
        (tmp_path / "empty", r"^--members: .*holds no image$"),
        (wrong, r"^--members: label .* is 48x10, its image 48x48"),
    ):
        with pytest.raises(InvalidArgumentError, match=words):
            raise_from(audit(folder, others))
    with pytest.raises(InvalidArgumentError, match=r"^--non-members: .* a member; take it out"):
        raise_from(audit(members, members))
    registry.add("student", student(channels=2))
    with pytest.raises(InvalidArgumentError, match=r"^--members: .*3 channels; the model takes 2"):
        raise_from(audit(members, others))


def test_models_that_do_not_fit_are_named(registry: Registry, members: Path, others: Path) -> None:
    """No model.onnx, one reference, the model as its own, other classes, a damaged file."""
    for name, data, classes in (
        ("program", None, CLASSES),
        ("more", student(classes=3), ("a", "b", "c")),
        ("fits", student(), CLASSES),
        ("damaged", b"nothing", CLASSES),
    ):
        registry.add(name, data, classes)
    for names, words in (
        (["program", "fits"], r"^--reference: program@1 has no model\.onnx"),
        (["fits"], r"^--reference: one model alone has no spread; give at least 2"),
        (["fits", "student"], r"^--reference: student@1 is audited itself"),
        (["fits", "more"], r"^--reference: more@1 has the classes a, b, c"),
    ):
        flags = [word for name in names for word in ("--reference", name)]
        with pytest.raises(InvalidArgumentError, match=words):
            raise_from(audit(members, others, *flags))
    with pytest.raises(CorruptArtifactError, match=r"damaged@1/model\.onnx cannot be run"):
        fetch(as_client(registry), "damaged", option="MODEL")


def test_without_the_runtime_it_says_what_to_install(
    registry: Registry, members: Path, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK alone comes without ONNX Runtime."""
    del registry
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(FailedPreconditionError, match="pip install onnxruntime"):
        raise_from(audit(members, others))


def grey(folder: Path, values: dict[str, list[int]], *, side: int = 8) -> Path:
    for name, levels in values.items():
        (folder / name).mkdir(parents=True)
        for level in levels:
            pixels = np.full((side, side), level, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{level}.png")
    return folder


def test_a_model_that_classifies_takes_a_folder_a_class(registry: Registry, tmp_path: Path) -> None:
    """The loss is that of the folder's class; images of other sides and names are refused."""
    registry.add("student", classifier(), ("0", "1"))
    sure = grey(tmp_path / "sure", {"dark": [1, 2], "light": [250, 251]})
    unsure = grey(tmp_path / "unsure", {"dark": [120, 121], "light": [140]})
    result = audit(sure, unsure, "--json")
    assert result.exit_code == 0, result.output
    (attack,) = json.loads(result.output)[0]["attacks"]
    assert (attack["auc"], attack["members"], attack["non_members"]) == (1.0, 4, 3)
    model = fetch(as_client(registry), "student", option="MODEL")
    found = confidences(model, find_examples(unsure, model, option="x"), objects=False)
    assert found.logits == pytest.approx([1.6, 1.4, 2.4], abs=1e-3)
    assert found.losses == pytest.approx(np.log1p(np.exp(-found.logits)), abs=1e-5)
    small = grey(tmp_path / "small", {"dark": [3]}, side=6)
    with pytest.raises(InvalidArgumentError, match=r"^--non-members: .* is 6x6, student@1 takes"):
        raise_from(audit(sure, small))
    odd = grey(tmp_path / "odd", {"grey": [3]})
    with pytest.raises(InvalidArgumentError, match=r"no class of student@1; .* of dark, light"):
        raise_from(audit(sure, odd))
    (tmp_path / "bare").mkdir()
    with pytest.raises(InvalidArgumentError, match="holds no image; one folder"):
        raise_from(audit(sure, tmp_path / "bare"))


@pytest.mark.data
def test_a_rule_that_learnt_from_nobody_tells_nobody_apart(
    registry: Registry, data_dir: Path
) -> None:
    """Dark is nucleus: on real tiles the attack's interval holds 0.5."""
    registry.add("student", student(threshold=150.0))
    tiles = data_dir / "nuclei-he"
    result = audit(tiles / "train", tiles / "val", "--json")
    assert result.exit_code == 0, result.output
    (attack,) = json.loads(result.output)[0]["attacks"]
    assert (attack["members"], attack["non_members"]) == (60, 15)
    assert attack["low"] < 0.5 < attack["high"]

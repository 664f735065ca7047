"""ONNX Runtime behind the port."""

from __future__ import annotations

import onnx
import pytest

from histill.core.errors import CorruptArtifactError
from histill.inference.models import warm_up
from histill.inference.onnx_runtime import OnnxRuntime
from students import manifest, student


def load(data: bytes, *, channels: int = 3) -> OnnxRuntime:
    return OnnxRuntime.load(data, reference="nuclei@1", channels=channels, threads=1, device="cpu")


def changed(**metadata: str) -> bytes:
    model = onnx.load_from_string(student())
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata)
    return bytes(model.SerializeToString())


def renamed() -> bytes:
    model = onnx.load_from_string(student())
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == "confidence":
                    names[index] = "certainty"
    for output in model.graph.output:
        if output.name == "confidence":
            output.name = "certainty"
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("data", "channels", "words"),
    [
        (b"", 3, "cannot be served"),
        (b"no model at all", 3, "cannot be served"),
        (student()[:-40], 3, "cannot be served"),
        (changed(), 3, "histill.stride is ''"),
        (changed(**{"histill.stride": "0"}), 3, "histill.stride is '0'"),
        (student(channels=1), 3, "not [N, H, W, 3]"),
        (renamed(), 3, "no output confidence"),
    ],
)
def test_what_is_no_student_is_refused_with_its_reason(
    data: bytes, channels: int, words: str
) -> None:
    """Broken files and other models are CorruptArtifactErrors that say what is wrong."""
    with pytest.raises(CorruptArtifactError) as caught:
        load(data, channels=channels)
    assert words in str(caught.value)


def test_a_model_must_keep_its_manifests_promise() -> None:
    """Another number of classes than the manifest's shows at the warm-up."""
    data = student(classes=3)
    with pytest.raises(CorruptArtifactError, match="its manifest promises"):
        warm_up(manifest(data), load(data))
    warm_up(manifest(data, classes=("a", "b", "c")), load(data))


def test_a_model_that_names_other_files_is_refused_unread() -> None:
    """A session would read them, relative to where the service runs."""
    model = onnx.load_from_string(student())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "pyproject.toml"
    with pytest.raises(CorruptArtifactError, match="keeps a tensor in another file"):
        load(bytes(model.SerializeToString()))


def test_a_model_with_a_loop_is_refused() -> None:
    """It would keep a thread for as long as it says."""
    model = onnx.load_from_string(student())
    body = onnx.helper.make_graph([], "body", [], [])
    model.graph.node.append(onnx.helper.make_node("Loop", [""], [], body=body))
    with pytest.raises(CorruptArtifactError, match="operator Loop"):
        load(bytes(model.SerializeToString()))

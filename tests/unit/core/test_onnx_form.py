"""ONNX files as the registry and the inference service look at them, before anything loads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from histill.core.errors import InvalidArgumentError
from histill.core.onnx_form import check_onnx, what_is_wrong
from students import student

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def node(name: str, **fields: Any) -> onnx.NodeProto:
    return helper.make_node(name, ["image"], ["x"], **fields)


def body() -> onnx.GraphProto:
    return helper.make_graph([], "body", [], [])


def outside(tensor: onnx.TensorProto) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "secrets"


def external(model: onnx.ModelProto) -> None:
    outside(model.graph.initializer[0])


def external_in_a_constant(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "c")
    outside(tensor)
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def external_by_its_mark(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def external_when_sparse(model: onnx.ModelProto) -> None:
    sparse = model.graph.sparse_initializer.add()
    outside(sparse.values)


def loop(model: onnx.ModelProto) -> None:
    model.graph.node.append(node("Loop", body=body()))


def loop_without_body(model: onnx.ModelProto) -> None:
    model.graph.node.append(node("Loop"))


def branch(model: onnx.ModelProto) -> None:
    model.graph.node.append(node("If", then_branch=body(), else_branch=body()))


def graphs(model: onnx.ModelProto) -> None:
    model.graph.node.append(node("Relu", graphs=[body()]))


def function(model: onnx.ModelProto) -> None:
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "f", ["a"], ["b"], [], opsets))


def foreign(model: onnx.ModelProto) -> None:
    model.graph.node.append(node("Trilu", domain="com.microsoft"))


def many(model: onnx.ModelProto) -> None:
    model.graph.node.extend([node("Relu")] * 50_001)


def training(model: onnx.ModelProto) -> None:
    model.training_info.add()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (external, "in another file"),
        (external_in_a_constant, "in another file"),
        (external_by_its_mark, "in another file"),
        (external_when_sparse, "in another file"),
        (loop, "operator Loop"),
        (loop_without_body, "operator Loop"),
        (branch, "operator If"),
        (graphs, "a graph within a node"),
        (function, "defines functions"),
        (foreign, "operators of com.microsoft"),
        (many, "more than 50000 nodes"),
        (training, "a training graph"),
    ],
)
def test_what_does_more_than_compute_is_refused(
    change: Callable[[onnx.ModelProto], None], words: str, tmp_path: Path
) -> None:
    """Other files, loops, functions, foreign operators: an error of the field, in words."""
    model = onnx.load_from_string(student())
    change(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidArgumentError, match=f"f: model.onnx .*{words}"):
        check_onnx(path, field="f")


def test_a_student_is_taken(tmp_path: Path) -> None:
    """What our own exporter's operators make has nothing of it."""
    path = tmp_path / "model.onnx"
    path.write_bytes(student())
    check_onnx(path, field="f")


@pytest.mark.parametrize(
    "data",
    [
        b"no model at all",
        student()[:500],
        b"\x3b\x00",  # a group
        b"\xff" * 12,
        b"\x3a\xff\xff\xff\xff\x7f",
        b"\x12\x0cxxORTM" + bytes(6),  # another format, which is a producer's name too
        b"\x08\x01" * 1_000_001,
        b"\xf8\x3f\x01",  # an unknown field
    ],
    ids=["text", "cut", "group", "varint", "length", "ort", "fields", "unknown"],
)
def test_damaged_files_are_refused(data: bytes) -> None:
    """Whatever the bytes are, it ends, with a reason."""
    assert what_is_wrong(data)


def test_a_part_that_comes_twice_is_looked_at_twice() -> None:
    """Readers join both: the second must not hide behind the first."""
    hidden = onnx.ModelProto()
    hidden.graph.node.append(node("Loop"))
    assert "Loop" in what_is_wrong(student() + hidden.SerializeToString())

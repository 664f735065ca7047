"""What requests of the Open Inference Protocol may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from histill.api.inference.v2 import grpc_service_pb2 as pb
from histill.core.errors import InvalidArgumentError
from histill.inference import parameters, tensors
from histill.inference.open_inference import OpenInferenceServicer
from histill.inference.runtime import CONFIDENCE, MASK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


def request(**values: pb.InferParameter) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="nuclei", parameters=values)
    made.inputs.add(name="image", datatype="UINT8", shape=(1, 2, 2, 3))
    made.raw_input_contents.append(bytes(12))
    return made


def test_an_output_is_asked_for_once() -> None:
    """The same name again is refused before anything is computed or copied."""
    asks = request()
    for _ in range(2):
        asks.outputs.add(name=MASK)
    with pytest.raises(InvalidArgumentError, match=r"outputs\[1\].name: 'mask' is asked for twice"):
        tensors.wanted(asks)


@pytest.mark.parametrize("of", ["inputs", "outputs"])
def test_parameters_of_tensors_are_not_ignored(of: str) -> None:
    """Shared memory and classifications are refused by name rather than left out."""
    asks = request()
    asks.outputs.add(name=MASK)
    getattr(asks, of)[0].parameters["shared_memory_region"].string_param = "x"
    read = tensors.image_batch if of == "inputs" else tensors.wanted
    with pytest.raises(InvalidArgumentError, match=rf"^{of}\[0\].parameters\[shared_memory_re"):
        read(asks)


def test_the_size_of_an_answer_is_known_before() -> None:
    """A byte a pixel of the mask, four of the confidence."""
    shape = (2, 10, 30, 3)
    assert tensors.answer_bytes(shape, [MASK]) == 600
    assert tensors.answer_bytes(shape, [MASK, CONFIDENCE]) == 3000


def test_priority_and_timeout() -> None:
    """1 is urgent; microseconds become seconds; unset and 0 say nothing."""
    plain = request()
    assert not parameters.urgent(plain)
    assert parameters.timeout_s(plain) is None
    assert not plain.parameters  # reading adds nothing
    asks = request(
        priority=pb.InferParameter(uint64_param=1), timeout=pb.InferParameter(int64_param=250_000)
    )
    assert parameters.urgent(asks)
    assert parameters.timeout_s(asks) == 0.25
    assert not parameters.urgent(request(priority=pb.InferParameter(int64_param=2)))


@pytest.mark.parametrize("name", ["priority", "timeout"])
@pytest.mark.parametrize(
    "value", [pb.InferParameter(string_param="high"), pb.InferParameter(int64_param=-1)]
)
def test_numbers_that_are_none(name: str, value: pb.InferParameter) -> None:
    """Text and negative numbers are refused by the parameter's name."""
    asks = request(**{name: value})
    read: Callable[[pb.ModelInferRequest], object] = (
        parameters.urgent if name == "priority" else parameters.timeout_s
    )
    with pytest.raises(InvalidArgumentError, match=rf"parameters\[{name}\]"):
        read(asks)


def test_a_flag_is_true_or_false() -> None:
    """A number is neither."""
    assert parameters.flag(request(on=pb.InferParameter(bool_param=True)), "on")
    assert not parameters.flag(request(), "on")
    with pytest.raises(InvalidArgumentError, match=r"parameters\[on\]: must be true or false"):
        parameters.flag(request(on=pb.InferParameter(int64_param=1)), "on")


async def test_a_stream_outlives_whatever_is_wrong_with_a_request() -> None:
    """Each wrong request is answered by its own error and its id, in order."""
    nobody: Any = None  # neither request comes as far as a model
    servicer = OpenInferenceServicer(
        *(nobody, nobody, nobody, nobody, nobody),
        workers=1,
        limits=nobody,
        max_message_bytes=1 << 20,
        ready=nobody,
    )
    flagged = request(triton_enable_empty_final_response=pb.InferParameter(int64_param=1))
    typed = request()
    typed.inputs[0].datatype = "FP32"

    async def asks() -> AsyncIterator[pb.ModelInferRequest]:
        for number, each in enumerate((flagged, typed)):
            each.id = str(number)
            yield each

    answers = [each async for each in servicer.ModelStreamInfer(asks(), nobody)]
    assert [each.infer_response.id for each in answers] == ["0", "1"]
    assert "must be true or false" in answers[0].error_message
    assert "must be UINT8" in answers[1].error_message


def test_typed_contents_are_read() -> None:
    """Numbers instead of raw bytes; those that are no bytes are refused."""
    asks = request()
    asks.ClearField("raw_input_contents")
    asks.inputs[0].contents.uint_contents.extend(range(12))
    np.testing.assert_array_equal(tensors.image_batch(asks).ravel(), np.arange(12))
    asks.inputs[0].contents.uint_contents[3] = 256
    with pytest.raises(InvalidArgumentError, match="values above 255"):
        tensors.image_batch(asks)

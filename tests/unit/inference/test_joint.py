"""What is answered to requests that share a run, and how it is counted."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from batchers import Mirror, Setting, image, model_of, values
from histill.core.errors import (
    DeadlineExceededError,
    ResourceExhaustedError,
    RuntimeFailedError,
)
from histill.inference import described, measures
from histill.inference.admission import Admission
from histill.inference.batching import Batcher
from histill.inference.call import Call
from histill.inference.computer import Computer
from histill.inference.onnx_runtime import OnnxRuntime
from histill.inference.openvino_runtime import OpenVinoRuntime
from histill.inference.runtime import CONFIDENCE, MASK
from histill.inference.settings import BatchLimits
from histill.inference.statistics import Counts
from histill.inference.watch import Watch
from serving_models import NETWORK, STUDENT, write_models

if TYPE_CHECKING:
    from histill.inference.runtime import Runtime


async def test_want_of_memory_halves_a_batch() -> None:
    """What is too much at once is computed in parts; nobody hears of it."""
    the = Setting(runtime=Mirror(most=1))
    async with the.busy():
        asked = [the.ask(image(value)) for value in range(3)]
    assert values(await asyncio.gather(*asked)) == [0, 1, 2]
    assert the.runtime.sizes == [3, 1, 2, 1, 1]
    assert [size for watch in the.watches for size, _ in watch.runs] == [1, 1, 1]


async def test_a_failure_is_its_own_request_s_alone() -> None:
    """Who would have been answered alone is answered; the others get the runtime's error."""
    the = Setting(runtime=Mirror(poison=2), max_delay_ms=1)
    async with the.busy():
        asked = [the.ask(image(value)) for value in range(4)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found.pop(2), RuntimeFailedError)
    assert values(found) == [0, 1, 3]  # type: ignore[arg-type]
    the.runtime.most = 0
    the.runtime.runs.clear()
    async with the.busy():
        asked = [the.ask(image(value)) for value in range(3)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in found] == [ResourceExhaustedError] * 3
    assert the.runtime.sizes == [3, 1, 2, 1, 1]
    assert the.admission._computing.slots.free == 1


async def test_a_mistake_of_ours_is_told_to_every_caller() -> None:
    """An error that nobody foresaw leaves nobody waiting."""
    the = Setting(runtime=Mirror(mistake=KeyError("ours")))
    async with the.busy():
        asked = [the.ask(image(value)) for value in range(3)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in found] == [KeyError] * 3


async def test_nothing_is_lost_or_mixed_up_in_a_crowd() -> None:
    """Of hundreds with random sizes, deadlines, cancels and failures each hears what is his."""
    the = Setting(workers=2, max_delay_ms=1, runtime=Mirror(most=3, poison=13), preferred=(2,))
    other = model_of(the.runtime, "other")
    rng = np.random.default_rng(0)
    asked: list[tuple[int, tuple[int, ...], asyncio.Task[Any]]] = []
    for number in range(400):
        sides = tuple(int(side) for side in rng.integers(1, 17, 2))
        left = float(rng.uniform(0, 0.02)) if rng.random() < 0.2 else None
        task = the.ask(
            image(number % 256, *sides, count=int(rng.integers(1, 4))),
            model=other if rng.random() < 0.3 else None,
            urgent=bool(rng.random() < 0.2),
            deadline=None if left is None else time.monotonic() + left,
        )
        asked.append((number % 256, sides, task))
        if rng.random() < 0.1:
            asyncio.get_running_loop().call_later(float(rng.uniform(0, 0.01)), task.cancel)
        if rng.random() < 0.2:
            await asyncio.sleep(0.001)
    found = await asyncio.gather(*(task for _, _, task in asked), return_exceptions=True)
    answered = 0
    for (value, sides, _), answer in zip(asked, found, strict=True):
        if isinstance(answer, BaseException):
            kinds = (DeadlineExceededError, asyncio.CancelledError, RuntimeFailedError)
            assert isinstance(answer, kinds)
            assert value == 13 or not isinstance(answer, RuntimeFailedError)
            continue
        answered += 1
        assert answer[0][0].shape[1:] == sides
        assert (answer[0][0] == value).all()
    assert answered > 200
    await asyncio.sleep(0.05)
    assert the.admission._computing.slots.free == 2
    assert all(not line.open for line in the.batcher._lines.values())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A student as the trainer exports it, with batch normalisation, of random weights."""
    folder = tmp_path_factory.mktemp("student")
    write_models(folder)
    return (folder / f"{STUDENT}.onnx").read_bytes()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
async def test_company_changes_no_answer(exported: bytes, runtime: str) -> None:
    """Mask and confidence of an exported student are, to the last bit, those it gives alone."""
    made: Runtime = OnnxRuntime.load(
        exported, reference="student@1", channels=3, threads=1, device="cpu"
    )
    if runtime == "openvino":
        made = OpenVinoRuntime.load(
            exported,
            reference="student@1",
            stride=NETWORK.stride,
            threads=1,
            workers=2,
            precision="f32",
        )
    model, admission = model_of(made), Admission(workers=2, max_queue=100)
    batcher = Batcher(admission, lambda _: BatchLimits(max_batch=4))
    alone = Computer(admission, tile=256, overlap=64)
    joined = Computer(admission, tile=256, overlap=64, batcher=batcher)
    rng = np.random.default_rng(0)
    sides = [(64, 64), (57, 64), (64, 50), (64, 64), (96, 32), (90, 30), (61, 61), (49, 49)]
    pictures = [rng.integers(0, 256, (1, *side, 3), dtype=np.uint8) for side in sides]
    watches = [Watch() for _ in pictures]
    wanted = (MASK, CONFIDENCE)
    # First, as a service warms a model up: OpenVINO's very first runs must not be two at a time,
    # or they wait for each other for ever.
    expected = [
        await alone.answer(model, picture, wanted, watch=Watch(), call=Call())
        for picture in pictures
    ]
    together = await asyncio.gather(
        *(
            joined.answer(model, picture, wanted, watch=watch, call=Call())
            for picture, watch in zip(pictures, watches, strict=True)
        )
    )
    assert max(size for watch in watches for size, _ in watch.runs) > 1
    assert sum(size for watch in watches for size, _ in watch.runs) == len(pictures)
    for found, should in zip(together, expected, strict=True):
        assert np.unique(should[MASK]).size > 1
        for name in wanted:
            np.testing.assert_array_equal(found[name], should[name])


async def test_a_run_is_counted_once_with_its_size() -> None:
    """Three requests in a run are one execution of three images, for Triton and Prometheus."""
    the = Setting()
    computer = Computer(the.admission, tile=256, overlap=64, batcher=the.batcher)
    watches, counts, name = [Watch() for _ in range(3)], Counts(), "counted-in-batches"
    async with the.busy():
        asked = [
            asyncio.create_task(
                computer.answer(the.model, image(value), [MASK], watch=watch, call=Call())
            )
            for value, watch in enumerate(watches)
        ]
    await asyncio.gather(*asked)
    for watch in watches:
        counts.answered(watch, images=1)
        watch.report("acme", name)
        assert watch.seconds["queue"] > 0.005
        assert watch.seconds["compute"] > 0
    made = described.statistics(f"{name}@1", counts, None)
    assert (made.inference_count, made.execution_count) == (3, 1)
    assert [(each.batch_size, each.compute_infer.count) for each in made.batch_stats] == [(3, 1)]
    assert made.inference_stats.compute_infer.count == 3
    seen = {
        sample.name.removeprefix("histill_inference_batch_size"): sample.value
        for metric in measures.BATCH_SIZE.collect()
        for sample in metric.samples
        if (sample.labels["project"], sample.labels["model"]) == ("acme", name)
        and "le" not in sample.labels
    }
    assert (seen["_count"], seen["_sum"]) == (1, 3)


async def test_a_run_is_counted_though_its_first_caller_is_gone() -> None:
    """Whoever of the batch is left has the run in its books."""
    the = Setting()
    the.runtime.gate.clear()
    async with the.busy():
        asked = [the.ask(image(value)) for value in range(3)]
    asked[0].cancel()
    the.runtime.gate.set()
    await asyncio.gather(*asked, return_exceptions=True)
    assert [[size for size, _ in watch.runs] for watch in the.watches] == [[], [3], []]


async def test_a_model_that_is_not_joined_goes_the_plain_way() -> None:
    """A most of one leaves each request to itself, also beside a model that is joined."""
    the = Setting(max_batch=1)
    assert not the.batcher.joins(the.model)
    computer = Computer(the.admission, tile=256, overlap=64, batcher=the.batcher)
    async with the.busy():
        asked = [
            asyncio.create_task(
                computer.answer(the.model, image(value), [MASK], watch=Watch(), call=Call())
            )
            for value in range(3)
        ]
    await asyncio.gather(*asked)
    assert the.runtime.sizes == [1, 1, 1]

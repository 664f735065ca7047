"""When a batch leaves, and with whom."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from typing import Any

import pytest
from pydantic import ValidationError

from batchers import LONG_MS, Mirror, Setting, image, model_of, values
from histill.core.errors import DeadlineExceededError
from histill.inference import described
from histill.inference.runtime import CONFIDENCE, MASK
from histill.inference.settings import Batching, BatchLimits


async def test_requests_that_wait_are_one_run() -> None:
    """While the slot is taken they gather, up to the most; each gets its own answer, in order."""
    the = Setting()
    async with the.busy():
        asked = [the.ask(image(value)) for value in range(10)]
    answers = await asyncio.gather(*asked)
    assert the.runtime.sizes == [4, 4, 2]
    assert values(answers) == list(range(10))
    assert all(waited > 0.005 and took >= 0 for _, waited, took in answers)


async def test_a_lone_request_waits_for_nobody() -> None:
    """Where the last run had no company, an idle slot computes at once; so one after another."""
    the = Setting()
    began = time.monotonic()
    for value in range(5):
        assert values([await the.ask(image(value))]) == [value]
    assert time.monotonic() - began < LONG_MS / 2000
    assert the.runtime.sizes == [1] * 5


async def test_company_is_waited_for_where_it_is_likely() -> None:
    """After a run of several the next waits for the delay, and whoever comes meanwhile joins."""
    the = Setting(max_delay_ms=300)
    await the.have_company()
    first = the.ask(image(1))
    await asyncio.sleep(0.05)
    assert the.runtime.runs == []
    assert values(await asyncio.gather(first, the.ask(image(2)))) == [1, 2]
    assert the.runtime.sizes == [2]


async def test_a_full_batch_leaves_at_once() -> None:
    """The most of images ends the wait for company."""
    the = Setting()
    await the.have_company()
    began = time.monotonic()
    await asyncio.gather(*(the.ask(image(value)) for value in range(4)))
    assert time.monotonic() - began < LONG_MS / 2000
    assert the.runtime.sizes == [4]


async def test_a_preferred_size_leaves_at_once() -> None:
    """Two do not wait for a third, though four would fit."""
    the = Setting(preferred=(2,))
    await the.have_company()
    began = time.monotonic()
    await asyncio.gather(the.ask(image(1)), the.ask(image(2)))
    assert time.monotonic() - began < LONG_MS / 2000
    assert the.runtime.sizes == [2]


async def test_no_delay_waits_for_a_slot_only() -> None:
    """With a delay of 0 nobody waits while a slot is free."""
    the = Setting(max_delay_ms=0)
    await the.have_company()
    assert values([await the.ask(image(1))]) == [1]
    assert the.runtime.sizes == [1]


async def test_urgent_requests_overtake_and_never_wait_for_company() -> None:
    """STAT leaves without the delay, before batches that are full, in batches of its own."""
    the = Setting()
    await the.have_company()
    began = time.monotonic()
    assert values([await the.ask(image(9), urgent=True)]) == [9]
    assert time.monotonic() - began < LONG_MS / 2000
    the.runtime.runs.clear()
    order: list[int] = []

    async def ask(value: int, *, urgent: bool = False) -> None:
        order.extend(values([await the.ask(image(value), urgent=urgent)]))

    async with the.busy():
        asked = [asyncio.create_task(ask(value)) for value in range(4)]
        asked += [asyncio.create_task(ask(value, urgent=True)) for value in (10, 11)]
    await asyncio.gather(*asked)
    assert the.runtime.sizes == [2, 4]
    assert order == [10, 11, 0, 1, 2, 3]


async def test_only_images_of_one_padded_shape_share_a_run() -> None:
    """Sides that the stride makes equal go together, each cut back to its own; others apart."""
    the = Setting()
    async with the.busy():
        sides = [(8, 8), (5, 7), (8, 16), (16, 8), (1, 1), (9, 8)]
        asked = [the.ask(image(value, *side)) for value, side in enumerate(sides)]
    answers = await asyncio.gather(*asked)
    assert sorted(the.runtime.runs) == [(1, 8, 16, 3), (2, 16, 8, 3), (3, 8, 8, 3)]
    assert values(answers) == list(range(6))
    assert [outputs[0].shape[1:] for outputs, _, _ in answers] == sides


async def test_models_do_not_mix() -> None:
    """Two models, and two versions in memory under one name, have batches of their own."""
    the, other = Setting(), Mirror()
    async with the.busy():
        asked = [
            the.ask(image(value), model=model)
            for value, model in enumerate([the.model, model_of(other), the.model, model_of(other)])
        ]
    assert values(await asyncio.gather(*asked)) == list(range(4))
    assert (the.runtime.sizes, other.sizes) == ([2], [1, 1])


async def test_images_of_one_request_count_each_and_stay_together() -> None:
    """Three images and two do not fit four; six in one request are one run all the same."""
    the = Setting()
    async with the.busy():
        asked = [the.ask(image(n, count=n)) for n in (3, 2, 1, 6)]
    answers = await asyncio.gather(*asked)
    assert the.runtime.sizes == [3, 3, 6]
    assert [len(outputs[0]) for outputs, _, _ in answers] == [3, 2, 1, 6]
    assert all((outputs[0] == len(outputs[0])).all() for outputs, _, _ in answers)


async def test_each_gets_the_outputs_that_it_asked_for() -> None:
    """A run makes what any of its requests wants; order and selection are each one's own."""
    the = Setting()
    async with the.busy():
        asked = [
            the.ask(image(51), outputs=names)
            for names in ([MASK], [CONFIDENCE, MASK], [CONFIDENCE])
        ]
    mask, both, confidence = await asyncio.gather(*asked)
    assert the.runtime.sizes == [3]
    assert [each.dtype.name for each in mask[0]] == ["uint8"]
    assert [each.dtype.name for each in both[0]] == ["float32", "uint8"]
    assert [float(each.max()) for each in confidence[0]] == [pytest.approx(0.2)]


async def test_an_expired_request_is_never_computed() -> None:
    """Its deadline ends its wait on time and without it the batch goes on."""
    the = Setting()
    with pytest.raises(DeadlineExceededError):
        await the.ask(image(0), deadline=time.monotonic() - 1)
    async with the.busy():
        asked = [the.ask(image(1)), the.ask(image(2), deadline=time.monotonic() + 0.03)]
        began = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            await asked[1]
        assert time.monotonic() - began < 2  # the slot is free after 5
    assert values([await asked[0]]) == [1]
    assert the.runtime.sizes == [1]


async def test_a_deadline_that_passes_unnoticed_is_seen_at_the_turn() -> None:
    """Where the event loop is late, the request is refused rather than begun."""
    the = Setting()
    await the.have_company()
    kept = the.ask(image(1))
    late = the.ask(image(2), deadline=time.monotonic() + 0.02)
    await asyncio.sleep(0)
    time.sleep(0.03)  # noqa: ASYNC251 - the loop is to be late
    with pytest.raises(DeadlineExceededError):
        await late
    assert values([await kept]) == [1]
    assert the.runtime.sizes == [1]


async def test_a_delay_costs_nobody_his_deadline() -> None:
    """Who has less time than the delay does not wait for company, nor do those with him."""
    the = Setting()
    await the.have_company()
    began = time.monotonic()
    asked = [the.ask(image(1)), the.ask(image(2), deadline=time.monotonic() + 5)]
    assert values(await asyncio.gather(*asked)) == [1, 2]
    assert time.monotonic() - began < 4


async def test_a_cancelled_caller_leaves_its_batch() -> None:
    """Before the turn nothing is computed for it, after it the others still get theirs."""
    the = Setting()
    async with the.busy():
        asked = [the.ask(image(value)) for value in range(3)]
        await asyncio.sleep(0.01)
        asked[1].cancel()
    assert values(await asyncio.gather(asked[0], asked[2])) == [0, 2]
    assert the.runtime.sizes == [2]
    the.runtime.gate.clear()
    asked = [the.ask(image(value), urgent=True) for value in range(2)]
    await asyncio.sleep(0.02)
    asked[0].cancel()
    await asyncio.sleep(0.01)
    the.runtime.gate.set()
    assert values([await asked[1]]) == [1]
    assert the.runtime.sizes == [2, 2]


async def test_a_batch_that_all_have_left_gives_its_place_up() -> None:
    """Nobody waits for a slot on behalf of callers who are gone, whether it had asked or not."""
    the = Setting()
    await the.have_company()
    waiting = the.ask(image(1))
    await asyncio.sleep(0.01)
    waiting.cancel()
    slots = the.admission._computing.slots
    async with the.busy():
        asked = [the.ask(image(value)) for value in range(4)]
        await asyncio.sleep(0.01)
        assert slots.ahead(urgent=False) == 1
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.sleep(0)
        assert slots.ahead(urgent=False) == 0
    assert the.runtime.runs == []
    assert slots.free == 1
    assert values([await the.ask(image(7), urgent=True)]) == [7]


async def test_a_model_that_was_let_go_is_not_held() -> None:
    """The batcher remembers models only as long as others do."""
    the = Setting()
    await the.have_company()
    gone = weakref.ref(the.model)
    del the.model
    await asyncio.sleep(0)
    gc.collect()
    assert gone() is None


def test_batching_is_off_on_a_cpu_and_on_on_a_gpu() -> None:
    """Unless somebody says otherwise, for all models or for one by name."""
    plain = Batching()
    assert plain.of("nuclei", device="cpu").max_batch == plain.largest(device="cpu") == 1
    assert plain.of("nuclei", device="cuda").max_batch == plain.largest(device="cuda") == 8
    some = Batching.model_validate(
        {"max_delay_ms": 5, "models": {"nuclei": {"max_batch": 16, "preferred": [4, 16]}}}
    )
    nuclei = BatchLimits(max_batch=16, max_delay_ms=5, preferred=(4, 16))
    assert some.of("nuclei", device="cpu") == nuclei
    assert some.of("other", device="cpu") == BatchLimits(max_batch=1, max_delay_ms=5)
    assert some.largest(device="cpu") == 16


def test_only_batching_that_is_on_is_advertised() -> None:
    """Triton's clients read sizes and delay; the most of one request stays what it is."""
    limits = BatchLimits(max_batch=8, max_delay_ms=2.5, preferred=(4,))
    made = described.config(model_of(Mirror()), workers=2, limits=limits)
    assert list(made.dynamic_batching.preferred_batch_size) == [4, 8]
    assert made.dynamic_batching.max_queue_delay_microseconds == 2500
    assert made.max_batch_size == 64
    off = described.config(model_of(Mirror()), workers=2, limits=BatchLimits(max_batch=1))
    assert not off.HasField("dynamic_batching")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_batch": 4, "preferred": [8]}, "must not exceed max_batch, 4"),
        ({"models": {"nuclei": {"preferred": [9]}}}, "of nuclei must not exceed max_batch, 8"),
        ({"models": {"nuclei": {"max_btach": 4}}}, "max_btach"),
    ],
)
def test_limits_that_make_no_sense(wrong: dict[str, Any], words: str) -> None:
    """Sizes that no batch can reach, and misspelled ones, are refused at the start."""
    with pytest.raises(ValidationError, match=words):
        Batching.model_validate(wrong)

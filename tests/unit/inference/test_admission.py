"""Bounds on what is inside and what computes."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from prometheus_client import REGISTRY

from histill.core.errors import DeadlineExceededError, ResourceExhaustedError
from histill.inference.admission import Admission
from histill.inference.call import Call


async def test_a_full_house_refuses_at_once() -> None:
    """Beyond workers and queue the error says when to come back; a place left is free."""
    admission = Admission(workers=1, max_queue=1)
    with admission.admitted(Call()):
        with admission.admitted(Call()):
            with pytest.raises(ResourceExhaustedError) as caught:
                admission.admitted(Call()).__enter__()
            assert caught.value.retry_after_s is not None
            assert caught.value.retry_after_s >= 0.1
        with admission.admitted(Call()):
            pass


async def test_no_more_computations_than_workers() -> None:
    """With two workers, at most two run at a time, and each tells how long it waited."""
    admission = Admission(workers=2, max_queue=10)
    running, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    done = await asyncio.gather(*(admission.compute(work, Call()) for _ in range(6)))
    assert most == 2
    assert max(waited for _, waited in done) > 0.02


async def test_an_expired_deadline_is_never_computed() -> None:
    """Neither a deadline that has passed nor one that passes while waiting is computed."""
    admission = Admission(workers=1, max_queue=10)
    computed: list[str] = []
    with pytest.raises(DeadlineExceededError):
        await admission.compute(
            lambda: computed.append("past"), Call(deadline=time.monotonic() - 1)
        )
    busy = asyncio.create_task(admission.compute(lambda: time.sleep(0.2), Call()))
    await asyncio.sleep(0.05)
    with pytest.raises(DeadlineExceededError):
        await admission.compute(
            lambda: computed.append("late"), Call(deadline=time.monotonic() + 0.05)
        )
    await busy
    assert computed == []


async def test_a_cancelled_caller_gives_its_place_up() -> None:
    """Cancelled while waiting, work never starts; cancelled while running, its slot lasts."""
    admission = Admission(workers=1, max_queue=10)
    ended = threading.Event()

    def slow() -> None:
        time.sleep(0.2)
        ended.set()

    running = asyncio.create_task(admission.compute(slow, Call()))
    await asyncio.sleep(0.02)
    computed: list[str] = []
    waiting = asyncio.create_task(admission.compute(lambda: computed.append("cancelled"), Call()))
    await asyncio.sleep(0.02)
    waiting.cancel()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not ended.is_set()
    await admission.compute(lambda: computed.append(str(ended.is_set())), Call())
    assert computed == ["True"]


async def test_what_the_work_raises_reaches_the_caller() -> None:
    """An error frees the slot and is the caller's."""
    admission = Admission(workers=1, max_queue=0)

    def fails() -> None:
        raise ResourceExhaustedError("no memory")

    with pytest.raises(ResourceExhaustedError, match="no memory"):
        await admission.compute(fails, Call())
    assert (await admission.compute(lambda: 7, Call()))[0] == 7


async def test_an_urgent_large_image_waits_for_no_routine_one() -> None:
    """A STAT slide has room although others fill theirs."""
    admission = Admission(workers=1, max_queue=10)
    async with (
        admission.large(Call()),
        admission.large(Call(urgent=True, deadline=time.monotonic() + 1)),
    ):
        pass


async def test_work_aside_holds_its_slot_until_it_has_ended() -> None:
    """A cancelled caller's encoding goes on in its own slot, not in one of the computations."""
    admission = Admission(workers=1, max_queue=10)
    ended = threading.Event()
    slow = asyncio.create_task(
        admission.aside(lambda: (time.sleep(0.2), ended.set()), Call())  # type: ignore[func-returns-value]
    )
    await asyncio.sleep(0.02)
    slow.cancel()
    assert (await admission.compute(ended.is_set, Call()))[0] is False
    assert await admission.aside(ended.is_set, Call())


async def test_large_images_wait_for_each_other() -> None:
    """As many large images as workers are in memory; a deadline ends the wait."""
    admission = Admission(workers=1, max_queue=10)
    async with admission.large(Call()):
        with pytest.raises(DeadlineExceededError):
            await admission.large(Call(deadline=time.monotonic() + 0.05)).__aenter__()
    async with admission.large(Call(deadline=time.monotonic() + 1)):
        pass


async def test_urgent_work_overtakes() -> None:
    """STAT comes before what has waited longer; routine work keeps its order."""
    admission = Admission(workers=1, max_queue=10)
    order: list[str] = []

    async def ask(name: str) -> None:
        await admission.compute(lambda: order.append(name), Call(urgent="stat" in name))

    busy = asyncio.create_task(admission.compute(lambda: time.sleep(0.1), Call()))
    await asyncio.sleep(0.02)
    names = ("first", "second", "stat 1", "third", "stat 2")
    waiting = [asyncio.create_task(ask(name)) for name in names]
    await asyncio.gather(busy, *waiting)
    assert order == ["stat 1", "stat 2", "first", "second", "third"]


async def test_urgent_requests_have_places_of_their_own() -> None:
    """A house full of routine work lets STAT in, within the same bound."""
    admission = Admission(workers=1, max_queue=0)
    with admission.admitted(Call()):
        with pytest.raises(ResourceExhaustedError):
            admission.admitted(Call()).__enter__()
        with admission.admitted(Call(urgent=True)), pytest.raises(ResourceExhaustedError):
            admission.admitted(Call(urgent=True)).__enter__()


async def test_a_project_has_a_quota() -> None:
    """One project's requests beyond its quota are refused by name; others are let in."""
    admission = Admission(workers=2, max_queue=10, max_per_project=1)
    ours, theirs = Call(project="ours"), Call(project="theirs")
    with admission.admitted(ours):
        with pytest.raises(ResourceExhaustedError, match="project ours") as caught:
            admission.admitted(ours).__enter__()
        assert caught.value.retry_after_s
        with admission.admitted(theirs):
            pass
        with admission.admitted(Call(project="ours", urgent=True)):
            pass  # what is urgent does not wait for the project's own routine work
    with admission.admitted(ours):
        pass


async def test_a_deadline_that_cannot_be_met_is_refused_before_any_work() -> None:
    """Where others' work lasts longer than the deadline, the request is not let in at all."""
    admission = Admission(workers=1, max_queue=20)
    for _ in range(20):  # until it knows that a computation takes 20 ms
        await admission.compute(lambda: time.sleep(0.02), Call())
    running = [
        asyncio.create_task(admission.compute(lambda: time.sleep(0.02), Call())) for _ in range(10)
    ]
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceededError, match="nothing was done"):
        admission.admitted(Call(deadline=time.monotonic() + 0.05)).__enter__()
    with admission.admitted(Call(deadline=time.monotonic() + 60)):
        pass
    with admission.admitted(Call(deadline=time.monotonic() + 0.05, urgent=True)):
        pass  # nobody is before it but the one who computes
    await asyncio.gather(*running)


async def test_an_idle_house_never_refuses_a_deadline() -> None:
    """However slow the work was before: what is asked next may be quick."""
    admission = Admission(workers=1, max_queue=1)
    await admission.compute(lambda: time.sleep(0.3), Call())
    with admission.admitted(Call(deadline=time.monotonic() + 0.01)):
        pass


def told(name: str, **labels: str) -> float:
    found = REGISTRY.get_sample_value(f"histill_inference_{name}", labels)
    assert found is not None
    return found


async def test_it_tells_how_full_the_house_is() -> None:
    """Up to the slots requests are worked on; those beyond wait; a place left is free."""
    admission = Admission(workers=2, max_queue=2)
    admission.show(slots=2)
    assert told("slots") == 2
    assert (told("running"), told("waiting")) == (0, 0)
    with admission.admitted(Call()):
        assert (told("running"), told("waiting")) == (1, 0)
        with admission.admitted(Call()), admission.admitted(Call(urgent=True)):
            assert (told("running"), told("waiting")) == (2, 1)
    assert (told("running"), told("waiting")) == (0, 0)


async def test_it_tells_why_requests_are_sent_away() -> None:
    """A full house, a full project, and deadlines that cannot be or were not kept, apart."""
    names = ("full", "project", "hopeless", "expired")
    before = {name: told("refused_total", reason=name) for name in names}
    crowded = Admission(workers=1, max_queue=0, max_per_project=0)
    with crowded.admitted(Call()), pytest.raises(ResourceExhaustedError):
        crowded.admitted(Call()).__enter__()
    fair = Admission(workers=1, max_queue=5, max_per_project=1)
    with fair.admitted(Call()), pytest.raises(ResourceExhaustedError):
        fair.admitted(Call()).__enter__()
    admission = Admission(workers=1, max_queue=5)
    busy = asyncio.create_task(admission.compute(lambda: time.sleep(0.2), Call()))
    await asyncio.sleep(0.05)
    with pytest.raises(DeadlineExceededError):
        admission.admitted(Call(deadline=time.monotonic() + 0.001)).__enter__()
    patient = Call(deadline=time.monotonic() + 0.1)
    with pytest.raises(DeadlineExceededError), admission.admitted(patient):
        await admission.compute(lambda: None, patient)
    await busy
    after = {name: told("refused_total", reason=name) - before[name] for name in names}
    assert after == dict.fromkeys(names, 1)

"""Puts requests that wait for the same model into one run of it.

The policy is that of Triton's dynamic batcher (``max_batch_size``, ``preferred_batch_size``,
``max_queue_delay_microseconds``) with one difference. A batch asks for a slot when it is
full, when it has a preferred size, or when its oldest request has waited for the delay; it
grows on while it waits for the slot. The difference: where the model's last run had one
request only, company is unlikely, and nobody waits for it. An urgent request never does.

What an image is answered does not depend on its company: a batch holds images of one padded
shape, and none is padded further to fit it, since what a network sees beyond an edge changes
what it says inside.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import structlog

from histill.core.errors import DeadlineExceededError
from histill.inference.call import Call
from histill.inference.joint import Wanted, answers
from histill.inference.slots import TOO_LATE
from histill.inference.stages import tell_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from histill.inference.admission import Admission
    from histill.inference.joint import Outputs, Pixels
    from histill.inference.models import LoadedModel
    from histill.inference.settings import BatchLimits
    from histill.inference.stages import Stages
    from histill.inference.watch import Watch

    # Padded height and width, in strides of the network, and whether it is urgent.
    Bucket = tuple[int, int, bool]

log = structlog.get_logger()


@dataclass(frozen=True, eq=False)
class _Request:
    """What one caller waits for.

    Attributes:
        wanted: Images and outputs.
        call: The caller's terms.
        stages: Of a request that is traced.
        answered: Gets the outputs, or what went wrong.
        asked: ``time.monotonic()``.
    """

    wanted: Wanted
    call: Call
    stages: Stages | None
    answered: asyncio.Future[Outputs | Exception]
    asked: float = field(default_factory=time.monotonic)

    async def answer(self) -> Outputs:
        """The outputs.

        Raises:
            Exception: What went wrong.
        """
        found = await self.answered
        if isinstance(found, Exception):
            raise found
        return found

    def refuse(self) -> None:
        """Answers that it is too late, unless it was answered."""
        if not self.answered.done():
            self.answered.set_result(DeadlineExceededError(TOO_LATE))


@dataclass(eq=False)
class _Batch:
    """Requests that will be one run.

    Attributes:
        model: Of all of them.
        bucket: Of all of them.
        requests: In the order in which they came.
        delay: Ends the wait for company, where there is one.
        place: Waits for a slot and computes, once the batch has asked for one.
        began: ``time.monotonic()`` of its turn; ``None`` before. After it nobody joins or
            leaves.
        took: Seconds from its turn until all were answered.
        runs: Of the network, for nobody yet: images, and seconds.
    """

    model: LoadedModel
    bucket: Bucket
    requests: list[_Request] = field(default_factory=list)
    delay: asyncio.TimerHandle | None = None
    place: asyncio.Task[None] | None = None
    began: float | None = None
    took: float = 0.0
    runs: list[tuple[int, float]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Images."""
        return sum(len(each.wanted.images) for each in self.requests)

    def refuse(self, request: _Request) -> None:
        """Its deadline has come: nothing is computed for it any more, if it has not begun."""
        if self.began is None:
            request.refuse()


@dataclass(eq=False)
class _Line:
    """What waits for one model.

    Attributes:
        limits: Of its batches.
        open: The batches that may be joined.
        company: Whether its last run had more than one request.
    """

    limits: BatchLimits
    open: dict[Bucket, _Batch] = field(default_factory=dict)
    company: bool = False


class Batcher:
    """Joins requests for one model, padded shape and priority.

    Args:
        admission: Gives out the compute slots.
        limits: Of a model's batches.
    """

    def __init__(self, admission: Admission, limits: Callable[[LoadedModel], BatchLimits]) -> None:
        self._admission = admission
        self._limits = limits
        # Weak: whoever lets a model go must not be kept from it.
        self._lines: WeakKeyDictionary[LoadedModel, _Line] = WeakKeyDictionary()

    def joins(self, model: LoadedModel) -> bool:
        """Whether requests for the model are joined at all."""
        return self._line(model).limits.max_batch > 1

    async def run(
        self,
        model: LoadedModel,
        images: Pixels,
        outputs: Sequence[str],
        *,
        watch: Watch,
        call: Call,
    ) -> tuple[Outputs, float, float]:
        """Outputs of images of one size, computed with those of others that wait.

        A caller that is cancelled, or whose deadline passes, leaves its batch to the others.
        A batch that fails is computed again in halves, so that want of memory, or what is
        wrong with one request, fails nobody who would have been answered alone.

        Args:
            model: What to run.
            images: uint8 [N, H, W, C]; N counts against the most of a batch, but one request
                is never taken apart.
            outputs: Names of what is wanted.
            watch: Gets the runs: a batch's are those of one of its requests.
            call: After its deadline nothing begins.

        Returns:
            [N, H, W] for each name; seconds of waiting, and of computing the whole batch.

        Raises:
            DeadlineExceededError: The deadline passed before the work began.
            HistillError: What the runtime raises.
        """
        loop, left = asyncio.get_running_loop(), call.left_s
        if left is not None and left <= 0:
            raise DeadlineExceededError(TOO_LATE)
        request = _Request(Wanted(images, outputs), call, watch.stages, loop.create_future())
        batch = self._joined(model, request)
        expiry = loop.call_later(left, batch.refuse, request) if left is not None else None
        try:
            found = await request.answer()
        except BaseException:
            # Whoever was too late when the turn came is in no run.
            began = batch.began if request in batch.requests else None
            watch.unanswered(request.asked, began)
            raise
        finally:
            if expiry is not None:
                expiry.cancel()
            self._left(batch, request)
        watch.runs += batch.runs
        batch.runs = []
        return found, (batch.began or request.asked) - request.asked, batch.took

    def _line(self, model: LoadedModel) -> _Line:
        line = self._lines.get(model)
        if line is None:
            line = self._lines[model] = _Line(self._limits(model))
        return line

    def _joined(self, model: LoadedModel, request: _Request) -> _Batch:
        """The batch that the request is in."""
        line = self._line(model)
        limits = line.limits
        size, height, width = request.wanted.images.shape[:3]
        stride, urgent = model.runtime.stride, request.call.urgent
        bucket = -(-height // stride), -(-width // stride), urgent
        batch = line.open.get(bucket)
        if batch is not None and batch.size + size > limits.max_batch:
            self._ask(batch)  # nobody will join it any more
            batch = None
        if batch is None:
            batch = line.open[bucket] = _Batch(model, bucket)
        batch.requests.append(request)
        delay, left = limits.max_delay_ms / 1000, request.call.left_s
        hurry = urgent or not line.company or (left is not None and left <= delay)
        if hurry or batch.size >= limits.max_batch or batch.size in limits.preferred:
            self._ask(batch)
        elif batch.delay is None:
            batch.delay = asyncio.get_running_loop().call_later(delay, self._ask, batch)
        return batch

    def _left(self, batch: _Batch, request: _Request) -> None:
        """Takes a request out of its batch, if that has not begun."""
        if batch.began is not None:
            return
        batch.requests.remove(request)
        if not batch.requests:
            self._close(batch)
            if batch.place is not None:
                batch.place.cancel()

    def _close(self, batch: _Batch) -> None:
        """Nobody may join it any more."""
        opened = self._line(batch.model).open
        if opened.get(batch.bucket) is batch:
            del opened[batch.bucket]
        if batch.delay is not None:
            batch.delay.cancel()

    def _ask(self, batch: _Batch) -> None:
        """Has the batch wait for a slot, if it does not yet."""
        if batch.place is None:
            batch.place = asyncio.create_task(self._compute(batch))

    async def _compute(self, batch: _Batch) -> None:
        """Waits for a slot, and answers whoever is in the batch then."""
        call = Call(urgent=batch.bucket[-1])
        found: Sequence[Outputs | Exception]
        try:
            found, _ = await self._admission.compute(
                lambda: answers(batch.model, [each.wanted for each in batch.requests], batch.runs),
                call,
                turn=lambda: self._begin(batch),
            )
        except Exception as exc:  # noqa: BLE001 - whatever it is, every caller must hear of it
            found = [exc] * len(batch.requests)
        batch.took = time.monotonic() - (batch.began or 0.0)
        for request, answer in zip(batch.requests, found, strict=True):
            if not request.answered.done():
                request.answered.set_result(answer)
        # Behind the answers, so that nothing about traces can keep them from anybody; before the
        # callers go on, since nothing is awaited in between.
        if batch.began is not None:
            told = [each.stages for each in batch.requests]
            try:
                tell_run(batch.model, told, images=batch.size, began=batch.began, took=batch.took)
            except Exception:
                log.exception("run_not_traced")

    def _begin(self, batch: _Batch) -> None:
        """It is the batch's turn: those who gave up are out, nobody else comes in."""
        self._close(batch)
        batch.began = time.monotonic()
        for request in batch.requests:
            left = request.call.left_s
            if left is not None and left <= 0:
                request.refuse()
        batch.requests = [each for each in batch.requests if not each.answered.done()]
        self._line(batch.model).company = len(batch.requests) > 1

"""How much is let in, of whom, and how much computes at a time."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from histill.core.errors import DeadlineExceededError, ResourceExhaustedError
from histill.inference import measures
from histill.inference.lanes import Lane, nothing
from histill.inference.measures import Refusal
from histill.inference.slots import Slots

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from histill.inference.call import Call

T = TypeVar("T")
# Weight of the newest computation in the mean that waiting callers are told.
_NEWEST = 0.2
_SOONEST_S = 0.1  # before which nobody is asked to come back


class Admission:
    """Bounds on requests, computations and large images.

    Args:
        workers: Computations at a time, each on a thread of its own.
        max_queue: Requests that may be inside beyond that; as many urgent ones besides.
        max_per_project: Requests of one project that may be inside, and as many urgent ones; 0
            sets no bound.
        coders: Images that are decoded or encoded at a time; 0 means as many as ``workers``.

    Attributes:
        workers: Computations at a time.
    """

    def __init__(
        self, *, workers: int, max_queue: int, max_per_project: int = 0, coders: int = 0
    ) -> None:
        self._most = workers + max_queue
        self._most_of_project = max_per_project
        self.workers = workers
        self._inside: Counter[bool] = Counter()
        self._of_project: Counter[tuple[str, bool]] = Counter()
        self._computing = Lane(workers, "compute")
        self._coding = Lane(coders or workers, "code")
        self._large = {urgent: Slots(workers) for urgent in (False, True)}
        self._mean_s = 0.1

    def show(self, slots: int) -> None:
        """Tells from now on how much is inside, and how much of it has to wait.

        Whoever is inside beyond the slots waits for somebody, in whatever stage: neither tiles
        nor batches nor decoding make a difference to how much more could be taken in.

        Args:
            slots: Requests that may be worked on at a time: workers times images of a run.
        """
        measures.SLOTS.set(slots)
        measures.RUNNING.set_function(lambda: min(self._inside.total(), slots))
        measures.WAITING.set_function(lambda: max(self._inside.total() - slots, 0))

    @contextmanager
    def admitted(self, call: Call) -> Iterator[None]:
        """Holds a place for the whole of a request.

        Raises:
            ResourceExhaustedError: Every place, or every place of the project, is taken; says
                when to come back.
            DeadlineExceededError: Those who are first take longer than the caller waits.
        """
        self._check(call)
        self._inside[call.urgent] += 1
        mine = call.project, call.urgent
        self._of_project[mine] += 1
        try:
            yield
        except DeadlineExceededError:
            measures.refused(Refusal.EXPIRED)
            raise
        finally:
            self._inside[call.urgent] -= 1
            self._of_project[mine] -= 1
            if not self._of_project[mine]:
                del self._of_project[mine]

    def _check(self, call: Call) -> None:
        inside, own = self._inside[call.urgent], self._of_project[call.project, call.urgent]
        if self._most_of_project and own >= self._most_of_project:
            measures.refused(Refusal.PROJECT)
            raise ResourceExhaustedError(
                f"{own} requests of project {call.project} are being worked on or wait, which is "
                "all that it may have (HISTILL_INFERENCE__MAX_PER_PROJECT)",
                retry_after_s=self._later(own),
            )
        if inside >= self._most:
            measures.refused(Refusal.FULL)
            raise ResourceExhaustedError(
                f"{inside} requests are being worked on or wait, which is all that may "
                "(HISTILL_INFERENCE__MAX_QUEUE)",
                retry_after_s=self._later(inside),
            )
        # Of the others only: were its own time counted, one slow model could make the
        # service refuse all that follows, and never learn that it is quick again.
        wait = self._wait_s(urgent=call.urgent)
        if call.left_s is not None and wait > call.left_s:
            measures.refused(Refusal.HOPELESS)
            raise DeadlineExceededError(
                f"about {wait:.2g} s of other work comes first, and the deadline leaves "
                f"{max(0.0, call.left_s):.2g} s; nothing was done"
            )

    def _later(self, ahead: int) -> float:
        return max(_SOONEST_S, self._mean_s * ahead / self.workers)

    def _wait_s(self, *, urgent: bool) -> float:
        """Seconds until a newcomer would have a slot: those who compute are half done."""
        slots = self._computing.slots
        if slots.free:
            return 0.0
        return self._mean_s * (slots.ahead(urgent=urgent) / self.workers + 0.5)

    @asynccontextmanager
    async def large(self, call: Call) -> AsyncIterator[None]:
        """Held while an image of many tiles is in memory: as many as there are workers.

        Urgent ones have as much room again, and need not wait until others are done.

        Raises:
            DeadlineExceededError: The deadline passed before there was room.
        """
        room = self._large[call.urgent]
        await room.acquire(call)
        try:
            yield
        finally:
            room.release()

    async def compute(
        self, work: Callable[[], T], call: Call, *, turn: Callable[[], None] = nothing
    ) -> tuple[T, float]:
        """One run of a network, when its turn comes; see ``Lane.run``."""
        return await self._computing.run(work, call, turn=turn, ended=self._took)

    async def aside(self, work: Callable[[], T], call: Call) -> T:
        """Decoding or encoding, beside the computations."""
        result, _ = await self._coding.run(work, call)
        return result

    def _took(self, seconds: float) -> None:
        self._mean_s += _NEWEST * (seconds - self._mean_s)

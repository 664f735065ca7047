"""Health of the worker, told on a port of its own: the empty service is readiness."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from histill.core.errors import HistillError
from histill.rpc import measures
from histill.rpc.health import HealthServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from histill.distill.settings import WorkerPart
    from histill.distill.vitals import Vitals

_EVERY_S = 2.0
_SOON_S = 0.5
_PATIENCE_S = 5.0
_HANGS_S = 2.0
log = structlog.get_logger()


@dataclass
class Signs:
    """What is known of a worker's health.

    Attributes:
        vitals: Of its own parts.
        draining: Set when it stops.
        redis: Returns when Redis answers; raises a HistillError else.
        store: Returns when S3 answers; raises a HistillError else.
    """

    vitals: Vitals
    draining: threading.Event
    redis: Callable[[], None]
    store: Callable[[], None]
    _answered: bool = False
    _asked: float | None = None
    _stalled: str = ""

    def look(self) -> str:
        """Why the worker is not ready; empty when it is. Waits for both servers."""
        self._asked = time.monotonic()
        try:
            self.redis()
            self._answered, self._asked = True, None
        except HistillError as exc:
            self._answered = False
            return str(exc)
        try:
            self.store()
        except HistillError as exc:
            return str(exc)
        return "" if self.vitals.taking else "no messages are taken yet"

    def alive(self) -> bool:
        """Whether all parts go on; says once what does not."""
        asked = self._asked
        hangs = asked is not None and time.monotonic() - asked > _HANGS_S
        found = self.vitals.stalled(
            redis_answers=self._answered and not hangs, draining=self.draining.is_set()
        )
        if found and not self._stalled:
            log.error("worker_stalled", what=found)
        self._stalled = found
        return not found


@contextmanager
def health_told(settings: WorkerPart, signs: Signs) -> Iterator[Callable[[], None]]:
    """Tells health while the block runs, from a thread and a child process.

    Yields:
        What to call when the worker begins to drain; also from a signal's handler.

    Raises:
        SettingsError: The port is taken.
    """
    if settings.health_port < 0:
        yield lambda: None
        return
    server = HealthServer(
        settings.health_host,
        settings.health_port,
        (),
        settings.health_silence_s,
        alive=signs.alive,
        setting="HISTILL_WORKER__HEALTH_PORT",
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="health", daemon=True)
    thread.start()

    def tell_drain() -> None:
        loop.call_soon_threadsafe(_tell, server, signs, "it stops")

    telling: list[asyncio.Task[None]] = []
    try:
        asyncio.run_coroutine_threadsafe(_start(server, signs, telling), loop).result()
        yield tell_drain
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server, telling), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _start(server: HealthServer, signs: Signs, telling: list[asyncio.Task[None]]) -> None:
    await server.start()
    telling += [asyncio.create_task(each) for each in (server.run(), _follow(server, signs))]


async def _stop(server: HealthServer, telling: list[asyncio.Task[None]]) -> None:
    for each in telling:
        each.cancel()
    # Before the child ends: it would be started again.
    await asyncio.gather(*telling, return_exceptions=True)
    server.stop()


async def _follow(server: HealthServer, signs: Signs) -> None:
    """Tells the truth every two seconds, and sooner while it is a sad one."""
    before: bool | None = None
    while True:
        looking = asyncio.ensure_future(asyncio.to_thread(signs.look))
        # A server that hangs is away; there is never more than one look at it.
        done, _ = await asyncio.wait({looking}, timeout=_PATIENCE_S)
        if not done:
            _tell(server, signs, "no answer in time")
        why = await _outcome(looking)
        now = _tell(server, signs, why)
        if now != before:
            log.info("readiness", process="worker", ready=now, why=why)
        before = now
        await asyncio.sleep(_EVERY_S if now else _SOON_S)


async def _outcome(looking: asyncio.Future[str]) -> str:
    try:
        return await looking
    except Exception as exc:
        # It goes on whatever a look raises: health must never freeze.
        log.exception("readiness_check_crashed", process="worker")
        return type(exc).__name__


def _tell(server: HealthServer, signs: Signs, why: str) -> bool:
    ready = not why and not signs.draining.is_set()
    server.tell(ready=ready)
    measures.READY.labels("worker").set(ready)
    return ready

"""Events of a job as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import grpc

from histill.core.errors import HistillError, ResourceExhaustedError
from histill.core.json_form import as_dict
from histill.web import failures

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    Failed = Callable[[grpc.RpcError], HistillError]

# Proxies close connections that say nothing for a minute.
_SILENCE_S = 15.0


class Watchers:
    """Those who follow jobs at a time: each holds a connection, and a call to the jobs service.

    Args:
        most: How many there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = 0

    def check(self) -> None:
        """Returns when there is room for one more.

        Raises:
            ResourceExhaustedError: There is none.
        """
        if self._now >= self._most:
            raise ResourceExhaustedError(
                "too many follow jobs (HISTILL_WEB__MAX_WATCHERS)", retry_after_s=5.0
            )

    async def counted(self, watch: Callable[[], Any], failed: Failed) -> AsyncGenerator[str]:
        """As ``stream``, of what is watched once this is read, and counted until it ends."""
        if self._now >= self._most:
            return  # the last place went to another one; the browser comes back by itself
        self._now += 1
        try:
            told = stream(watch(), failed)
            try:
                async for each in told:
                    yield each
            finally:
                await told.aclose()
        except HistillError as exc:
            yield _failure(exc)
        finally:
            self._now -= 1


async def stream(watched: Any, failed: Failed) -> AsyncGenerator[str]:
    """Each event with its id, so that a browser resumes after the last one it saw.

    Ends with ``end`` when the job has ended.

    Args:
        watched: A call of WatchJob.
        failed: What its errors mean.

    Raises:
        HistillError: The job cannot be followed, or no longer.
    """
    events = aiter(watched)
    waiting = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=_SILENCE_S)
            if not done:
                yield ": still there\n\n"
                continue
            response = waiting.result()
            if response is None:
                yield "event: end\ndata: {}\n\n"
                return
            yield _written(response.event)
            waiting = asyncio.ensure_future(anext(events, None))
    except grpc.RpcError as exc:
        raise failed(exc) from exc
    finally:
        watched.cancel()
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError, grpc.RpcError):
            await waiting


def _failure(exc: HistillError) -> str:
    return f"event: failure\ndata: {json.dumps(failures.as_json(exc))}\n\n"


def _written(event: Any) -> str:
    data = json.dumps(as_dict(event))
    return f"id: {event.event_id}\nevent: {event.WhichOneof('event')}\ndata: {data}\n\n"

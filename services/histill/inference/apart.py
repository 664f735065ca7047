"""Work that may hang, away from the threads that everything else shares."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def in_own_thread(work: Callable[[], T], *, seconds: float) -> T:
    """What a call returns that blocks.

    Its thread cannot be ended: where it hangs it is left behind, and ends with the process.

    Raises:
        TimeoutError: It takes longer.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def tell(result: T | None, exc: BaseException | None) -> None:
        if done.done():
            return
        if exc is not None:
            done.set_exception(exc)
        else:
            done.set_result(result)  # type: ignore[arg-type] # T may be None itself

    def run() -> None:
        result, failure = None, None
        try:
            result = context.run(work)
        except BaseException as exc:  # noqa: BLE001 - whoever waits gets it
            failure = exc
        try:
            loop.call_soon_threadsafe(tell, result, failure)
        except RuntimeError:
            return  # the loop has ended meanwhile

    threading.Thread(target=run, name="load", daemon=True).start()
    async with asyncio.timeout(seconds):
        return await done

"""The start of every service: settings once, logs, then run; a sentence when that fails."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import uvloop

from histill.core.errors import HistillError
from histill.core.settings import ProcessSettings, load
from histill.rpc.logs import configure
from histill.rpc.measures import tell_build
from histill.rpc.private_memory import keep_memory_private
from histill.rpc.tracing import traces_exported

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

S = TypeVar("S", bound=ProcessSettings)


def main(
    settings_type: type[S],
    run: Callable[[S], Awaitable[None]],
    *,
    process: str,
    threads: int | None = None,
) -> int:
    """Reads the settings and runs a service to its end.

    Args:
        settings_type: What the process reads from ``HISTILL_*``.
        run: Serves until told to stop.
        process: Name for logs and messages.
        threads: For calls that block; ``None`` takes asyncio's few.

    Returns:
        The exit code: 0 after a clean stop, 1 when it could not start.
    """
    keep_memory_private()
    try:
        settings = load(settings_type)
        configure(settings.log, process=process)
        tell_build(process)
        with traces_exported(settings.tracing, process=process):
            uvloop.run(_awaited(run(settings), threads))
    except HistillError as exc:
        sys.stderr.write(f"histill {process}: {exc}\n")
        return 1
    return 0


async def _awaited(work: Awaitable[None], threads: int | None) -> None:
    if threads:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads))
    await work

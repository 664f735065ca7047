"""Answers health checks for another process: ``python -m histill.rpc.health_process``.

A process of its own, because a server within a busy one answers only when that one's
threads let it. Its parent writes a line every now and then: ``1`` ready, ``0`` not. A parent that
is silent for long, or gone, is not healthy; when it is gone this process ends too.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import SERVICE_NAME

from histill.core.errors import HistillError
from histill.rpc.first_message import first_message
from histill.rpc.health_checks import HealthChecks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    Context = grpc.aio.ServicerContext[Any, Any]

LIVENESS = "liveness"
LISTENING = "listening"
_LOOK_EVERY_S = 0.25
_LAST_WORDS_S = 0.5
_MOST_STREAMS = 100
_MOST_WATCHERS = 100
# Probes send their message with their headers. Others may take their time, unless there are many.
_MOST_PATIENT = 100
_MESSAGE_S = 2.0
_PRESSED_MESSAGE_S = 0.1
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", _MOST_STREAMS),
    ("grpc.max_receive_message_length", 4096),
    ("grpc.max_metadata_size", 8192),
    ("grpc.absolute_max_metadata_size", 8192),
    ("grpc.server_handshake_timeout_ms", 5000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5000),
    ("grpc.max_connection_idle_ms", 60_000),
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 10_000),
)


class Guarded:
    """The health service, of which no caller can keep another out.

    Calls run in one event loop and not in a thread each, and both methods read their message
    themselves, since grpc would wait for it for ever.

    Args:
        checks: Has the answers.
    """

    def __init__(self, checks: HealthChecks) -> None:
        self._checks = checks
        self._waiting = 0
        self._watching = 0

    def register(self, server: grpc.aio.Server) -> None:
        """Adds both methods to a server."""
        formats: Any = (
            health_pb2.HealthCheckRequest.FromString,
            health_pb2.HealthCheckResponse.SerializeToString,
        )
        handlers = {
            "Check": grpc.stream_unary_rpc_method_handler(self._check, *formats),
            "Watch": grpc.stream_stream_rpc_method_handler(self._watch, *formats),
        }
        handler = grpc.method_handlers_generic_handler(SERVICE_NAME, handlers)
        server.add_generic_rpc_handlers((handler,))

    async def _check(self, messages: AsyncIterator[Any], context: Context) -> Any:
        return await self._checks.Check(await self._asked(messages, context), context)

    async def _watch(self, messages: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        asked = await self._asked(messages, context)
        if self._watching >= _MOST_WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watch; use Check")
        self._watching += 1
        try:
            async for answer in self._checks.Watch(asked, context):
                yield answer
        finally:
            self._watching -= 1

    async def _asked(self, messages: AsyncIterator[Any], context: Context) -> Any:
        limit_s = _MESSAGE_S if self._waiting < _MOST_PATIENT else _PRESSED_MESSAGE_S
        self._waiting += 1
        try:
            return await first_message(messages, limit_s)
        except HistillError as exc:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))
        finally:
            self._waiting -= 1


def main() -> int:
    """Serves until the parent is gone; the exit code is 1 when the port is taken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True, help="host:port")
    parser.add_argument("--silence-s", type=float, required=True)
    parser.add_argument("--name", action="append", default=[], help="full name of a service")
    arguments = parser.parse_args()
    # Whoever stops the parent may signal every process of its group; the checks must go on
    # while it drains.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    return asyncio.run(_serve(arguments.address, arguments.name, silence_s=arguments.silence_s))


async def _serve(address: str, names: Sequence[str], *, silence_s: float) -> int:
    checks = HealthChecks(("", LIVENESS, *names))
    server = grpc.aio.server(options=_OPTIONS)
    Guarded(checks).register(server)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        return 1
    await server.start()
    sys.stdout.write(f"{LISTENING}\n")
    sys.stdout.flush()
    await _follow(checks, names, silence_s=silence_s)
    await server.stop(_LAST_WORDS_S)
    return 0


async def _follow(checks: HealthChecks, names: Sequence[str], *, silence_s: float) -> None:
    """Says what the parent says, until it is gone."""
    parent = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(parent), sys.stdin.buffer
    )
    heard = time.monotonic()
    while True:
        try:
            async with asyncio.timeout(_LOOK_EVERY_S):
                words = await parent.read(4096)
        except TimeoutError:
            if time.monotonic() - heard > silence_s:
                checks.tell(("", LIVENESS, *names), serving=False)
            continue
        if not words:
            break
        heard = time.monotonic()
        ready = words.rstrip(b"\n").endswith(b"1")
        checks.tell((LIVENESS,), serving=True)
        checks.tell(("", *names), serving=ready)
    checks.tell(("", LIVENESS, *names), serving=False)


if __name__ == "__main__":
    sys.exit(main())

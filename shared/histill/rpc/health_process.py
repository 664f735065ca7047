"""Answers health checks for another process: ``python -m histill.rpc.health_process``.

A process of its own, because a server within a busy one answers only when that one's
threads let it. Its parent writes a line at least every second: ``1`` ready, ``0`` not. A parent
that is silent for long, or gone, is not healthy; when it is gone this process ends too.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

LIVENESS = "liveness"
LISTENING = "listening"
_LOOK_EVERY_S = 0.25
_LAST_WORDS_S = 0.5
_MOST_CALLS = 100
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", _MOST_CALLS),
    ("grpc.max_receive_message_length", 4096),
    ("grpc.server_handshake_timeout_ms", 5000),
)


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
    checks = health.HealthServicer()
    _tell(checks, ("", LIVENESS, *arguments.name), serving=False)
    server = grpc.server(
        ThreadPoolExecutor(4), options=_OPTIONS, maximum_concurrent_rpcs=_MOST_CALLS
    )
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    try:
        bound = server.add_insecure_port(arguments.address)
    except RuntimeError:
        bound = 0
    if not bound:
        return 1
    server.start()
    sys.stdout.write(f"{LISTENING}\n")
    sys.stdout.flush()
    _follow(checks, arguments.name, silence_s=arguments.silence_s)
    server.stop(_LAST_WORDS_S).wait()
    return 0


def _follow(checks: health.HealthServicer, names: Sequence[str], *, silence_s: float) -> None:
    """Says what the parent says, until it is gone."""
    parent = sys.stdin.fileno()
    heard = time.monotonic()
    while True:
        if select.select([parent], [], [], _LOOK_EVERY_S)[0]:
            words = os.read(parent, 4096)
            if not words:
                break
            heard = time.monotonic()
            ready = words.rstrip(b"\n").endswith(b"1")
            _tell(checks, (LIVENESS,), serving=True)
            _tell(checks, ("", *names), serving=ready)
        elif time.monotonic() - heard > silence_s:
            _tell(checks, ("", LIVENESS, *names), serving=False)
    _tell(checks, ("", LIVENESS, *names), serving=False)


def _tell(checks: health.HealthServicer, names: Sequence[str], *, serving: bool) -> None:
    for name in names:
        checks.set(name, _SERVING if serving else _NOT_SERVING)


if __name__ == "__main__":
    sys.exit(main())

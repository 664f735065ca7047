"""The port of metrics: few connections, of few seconds, and an answer all the same."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from contextlib import ExitStack

import pytest

from free_ports import free_port
from histill.rpc.metrics import start_metrics


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def test_silent_connections_take_no_threads_and_keep_nobody_out() -> None:
    """Two hundred of them are one thread, and metrics are told meanwhile."""
    port = free_port()
    before = threading.active_count()
    start_metrics(port, "127.0.0.1", request_s=60)
    with ExitStack() as held:
        for _ in range(200):
            held.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert "python_info" in scraped(port)
        assert threading.active_count() <= before + 1


def test_who_asks_for_nothing_is_closed() -> None:
    """A connection has a time to ask and to take its answer."""
    port = free_port()
    start_metrics(port, "127.0.0.1", request_s=0.2)
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=5) as silent:
        assert silent.recv(1) == b""
        assert time.monotonic() - started < 3


def test_a_request_without_end_is_closed() -> None:
    """Headers have a bound."""
    port = free_port()
    start_metrics(port, "127.0.0.1", request_s=60)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as loud,
        pytest.raises((ConnectionResetError, BrokenPipeError)),
    ):
        loud.sendall(b"x" * (64 << 20))
    assert "python_info" in scraped(port)


def test_a_taken_port_is_an_error_at_once() -> None:
    """It is found before the thread is begun."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        start_metrics(taken.getsockname()[1], "127.0.0.1")

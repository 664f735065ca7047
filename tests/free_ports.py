"""Ports for the servers that tests start."""

from __future__ import annotations

import itertools
import os
import socket
from typing import TYPE_CHECKING

from histill.embedded.layout import Ports

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOST = "127.0.0.1"
# Below those that systems take for outgoing connections, which could come between a port's choice
# and its use.
_ALL = range(20_000, 32_000)
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_SHARE = len(_ALL) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_OWN = _ALL[_WORKER * _SHARE : (_WORKER + 1) * _SHARE]
# Each process begins elsewhere, for other runs on the same machine.
_FIRST = os.getpid() % _SHARE
_NEXT: Iterator[int] = itertools.cycle([*_OWN[_FIRST:], *_OWN[:_FIRST]])


def free_port() -> int:
    """A port that nobody listens on; two calls in a row never give the same."""
    for port in _NEXT:
        with socket.socket() as bound:
            try:
                bound.bind((_HOST, port))
            except OSError:
                continue
        return port
    raise AssertionError("a cycle has no end")


def system_ports() -> Ports:
    """Ports for a whole system that runs embedded."""
    return Ports.model_validate({name: free_port() for name in Ports.model_fields})

"""Replicas of a service behind one name, each at an address of its own, as pods are (Linux)."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Self

import pytest

from distance import distant
from free_ports import free_port
from histill.embedded.processes import serving
from names import Name, named
from services import service

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from services import Service

_READY_S = 60.0
_END_S = 90.0
_MIDST_S = 0.5  # after it a call or more waits for a server that no longer runs


@dataclass
class Replicas:
    """Real processes that come and go; the name has the addresses of those that are ready.

    Attributes:
        process: Which of ours.
        folder: For logs, one folder a replica.
        variables: Their settings.
        away_s: How far clients are from them: seconds, one way.
    """

    process: str
    folder: Path
    variables: Mapping[str, str]
    away_s: float = 0.0
    port: int = field(default_factory=free_port)
    live: dict[str, Service] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=lambda: count(2))
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.name: Name = self._stack.enter_context(named())
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def target(self) -> str:
        """What clients are given."""
        return self.name.target(self.port)

    def add(self) -> Service:
        """Starts one more, and lets clients know of it as soon as it is ready."""
        number = next(self._numbers)
        address = f"127.0.0.{number}"
        host = f"127.0.1.{number}" if self.away_s else address
        folder = self.folder / address
        folder.mkdir()
        at = {"HISTILL_SERVER__HOST": host, "HISTILL_SERVER__PORT": str(self.port)}
        started = self._stack.enter_context(service(self.process, folder, {**self.variables, **at}))
        if self.away_s:
            way = distant(address, host, self.port, seconds=self.away_s)
            self._stack.enter_context(way)
        deadline = time.monotonic() + _READY_S
        while not serving(self.port, host):
            if time.monotonic() > deadline:
                pytest.fail(f"{address} is not ready:\n{started.log.read_text()[-2000:]}")
            time.sleep(0.1)
        self.live[address] = started
        self.name.addresses.append(address)
        return started

    def retire(self, address: str, *, late_s: float = 1.0) -> int:
        """Stops one; clients can learn of it only some seconds later, as in a cluster.

        Returns:
            Its exit code.
        """
        old = self.live.pop(address)
        old.process.send_signal(signal.SIGTERM)
        time.sleep(late_s)
        self.name.addresses.remove(address)
        return old.process.wait(_END_S)

    def lose(self, address: str) -> None:
        """Kills one in the midst of calls; nobody takes its address from the name."""
        lost = self.live.pop(address).process
        lost.send_signal(signal.SIGSTOP)
        time.sleep(_MIDST_S)
        lost.kill()

    def roll(self, *, late_s: float = 1.0) -> list[int]:
        """Puts a new one in the place of each, one after the other; their exit codes."""
        codes = []
        for address in list(self.live):
            self.add()
            codes.append(self.retire(address, late_s=late_s))
        return codes

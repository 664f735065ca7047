"""The whole system behind the page, with models that were not trained, for tests of the page."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from free_ports import free_port, system_ports
from histill.adapters.s3 import S3ObjectStore
from histill.client import Client
from histill.core.settings import PREFIX, S3Settings
from histill.embedded import processes, stack
from histill.embedded.layout import HOST, Secrets
from histill.embedded.servers import ServerProcess, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from histill.embedded.processes import ProcessPlan
    from histill.embedded.stack import Stack

_READY_S = 30.0
# By which the page lets somebody in who has not signed in.
_GUEST_KEY = "HISTILL_WEB__GUEST_KEY"


@dataclass
class System:
    """A running system, whose processes a test may take away and bring back.

    Attributes:
        stack: Its processes.
        client: The SDK, with an admin's key.
    """

    stack: Stack
    client: Client

    @property
    def url(self) -> str:
        """Of the page."""
        return f"http://{HOST}:{self.stack.ports.web}"

    @property
    def key(self) -> str:
        """An admin's."""
        return self.stack.client.api_key.get_secret_value()

    @property
    def store(self) -> S3ObjectStore:
        """The registry's objects."""
        keys = Secrets.of(self.stack.home)
        settings = S3Settings.model_validate(
            {
                "endpoint": f"{HOST}:{self.stack.ports.s3}",
                "access_key": keys.s3_access_key,
                "secret_key": keys.s3_secret_key,
            }
        )
        return S3ObjectStore.connect(settings)

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Kills a process, and starts it again after the block, whatever happens in it."""
        child = self._child(name)
        child.process.kill()
        child.process.wait()
        try:
            yield
        finally:
            self._launch(self._plan(name))

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Stops a process as a debugger does, for as long as the block lasts."""
        process = self._child(name).process
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    @contextmanager
    def another_page(self, **settings: str) -> Iterator[str]:
        """One more server of the page, which asks for a key; its address.

        Args:
            settings: By their names within ``HISTILL_WEB__``.
        """
        plan = self._plan("web")
        port = free_port()
        own = {name: value for name, value in plan.settings.items() if name != _GUEST_KEY}
        own |= {"HISTILL_WEB__PORT": str(port), "HISTILL_WEB__METRICS_PORT": "-1"}
        own |= {f"HISTILL_WEB__{name.upper()}": value for name, value in settings.items()}
        child = self._start("another-page", plan.command, own)
        try:
            _wait(child, lambda: processes.answers(port, "/healthz"))
            yield f"http://{HOST}:{port}"
        finally:
            child.process.kill()
            child.process.wait()

    def _plan(self, name: str) -> ProcessPlan:
        home, ports = self.stack.home, self.stack.ports
        keys = Secrets.of(home)
        plans = processes.process_plans(ports, keys, workers=1, scratch=home / "scratch")
        return next(plan for plan in plans if plan.name == name)

    def _child(self, name: str) -> ServerProcess:
        return next(child for child in self.stack.children if child.name == name)

    def _launch(self, plan: ProcessPlan) -> None:
        child = self._start(plan.name, plan.command, plan.settings)
        names = [each.name for each in self.stack.children]
        self.stack.children[names.index(plan.name)] = child
        _wait(child, plan.ready)

    def _start(self, name: str, command: list[str], settings: dict[str, str]) -> ServerProcess:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        log = self.stack.home / "logs" / f"{name}.log"
        return start(name, command, log=log, environment=clean | settings)


@contextmanager
def page_system(home: Path) -> Iterator[System]:
    """The system in a folder, on free ports."""
    with (
        stack.running(home, ports=system_ports(), say=lambda _: None) as running,
        Client(running.client) as client,
    ):
        yield System(running, client)


def _wait(child: ServerProcess, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _READY_S
    while not ready():
        if child.process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{child.name} is not ready:\n{child.log.read_text()[-2000:]}")
        time.sleep(0.1)

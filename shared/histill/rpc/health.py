"""The health server of a service: a child process that is told the state through a pipe."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from histill.core.errors import SettingsError
from histill.rpc.addresses import joined
from histill.rpc.health_process import LISTENING

if TYPE_CHECKING:
    from collections.abc import Callable

# Between two signs of life at most, and how many there are at least within a silence that is borne.
_BEAT_S = 1.0
_BEATS = 4
_START_S = 30.0
_RESTART_S = 1.0
_OURS = "HISTILL_"
log = structlog.get_logger()


@dataclass
class HealthServer:
    """Starts the child, tells it the state, and starts it anew when it has ended.

    Attributes:
        host: Where it listens.
        port: Where it listens.
        names: Full names of the services whose health it tells, besides the empty one, all
            of which mean readiness, and ``liveness``.
        silence_s: Without a sign of this process's event loop; then it is not healthy.
        alive: Asked before each sign: whether what this process is for goes on too.
        setting: Variable of the port, for words.
    """

    host: str
    port: int
    names: tuple[str, ...]
    silence_s: float
    alive: Callable[[], bool] = lambda: True
    setting: str = "HISTILL_SERVER__HEALTH_PORT"
    _ready: bool = False
    _child: subprocess.Popen[bytes] | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Starts the child and returns when it listens.

        Raises:
            SettingsError: The port is taken.
        """
        address = joined(self.host, self.port)
        names = [word for name in self.names for word in ("--name", name)]
        self._child = subprocess.Popen(  # noqa: ASYNC220, S603 - it takes a moment; our own command
            [
                *(sys.executable, "-m", "histill.rpc.health_process"),
                *("--address", address, "--silence-s", str(self.silence_s), *names),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # It needs none of our secrets.
            env={name: value for name, value in os.environ.items() if not name.startswith(_OURS)},
        )
        stdin, stdout = self._child.stdin, self._child.stdout
        if stdin is None or stdout is None:
            raise AssertionError("both were asked for")
        # A child that hangs must not stop us with a full pipe.
        os.set_blocking(stdin.fileno(), False)
        try:
            async with asyncio.timeout(_START_S):
                words = await asyncio.to_thread(stdout.readline)
        except TimeoutError:
            words = b""
        if words.strip() != LISTENING.encode():
            self.stop()
            raise SettingsError(
                f"cannot listen on {address} for health checks; is the port taken? "
                f"set {self.setting}, or -1 for none"
            )
        self._beat()

    def tell(self, *, ready: bool) -> None:
        """Says from now on that the service is ready, or not."""
        self._ready = ready
        self._changed.set()

    async def run(self) -> None:
        """Beats as long as the event loop turns; never returns."""
        beat_s = min(_BEAT_S, self.silence_s / _BEATS)
        while True:
            self._beat()
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(beat_s):
                    await self._changed.wait()
            if self._child is None or self._child.poll() is not None:
                await self._restart()

    async def _restart(self) -> None:
        code = self._child.returncode if self._child else None
        log.error("health_server_ended", code=code)
        self.stop()
        try:
            await self.start()
        except (SettingsError, OSError) as exc:
            log.error("health_server_does_not_start", why=str(exc))  # noqa: TRY400 - it says it all
            await asyncio.sleep(_RESTART_S)

    def _beat(self) -> None:
        if self._child and self._child.stdin and self.alive():
            with suppress(BrokenPipeError, BlockingIOError):
                os.write(self._child.stdin.fileno(), b"1\n" if self._ready else b"0\n")

    def stop(self) -> None:
        """Ends the child, which says NOT_SERVING once more."""
        if self._child is None:
            return
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()
        try:
            self._child.wait(2)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None

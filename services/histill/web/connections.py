"""Connections of browsers: none is held for long by who is too slow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

# All headers of a request: a token of 7,000 characters fits, and the cookies of a proxy.
MOST_HEAD_BYTES = 64 << 10
# From the connection's beginning, or a request's first byte, to the end of its headers.
_HEAD_S = 20.0
# For how long an answer waits to be taken. A slow line needs some of it until we see that anything
# moves: the kernel keeps more of an answer than we do.
_TAKEN_S = 60.0


class Connection(H11Protocol):
    """As uvicorn's, but who begins no request, or takes no answer, is cut off.

    Who makes the answer hears then that its reader has gone. Without that, a reader who stands
    still would hold a place among the uploads, or among those who follow jobs, for ever.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody is there, and should say what they want."""
        super().connection_made(transport)
        self._late = _Alarm(self, _HEAD_S)
        self._untaken = _Alarm(self, _TAKEN_S)
        self._late.set()

    def data_received(self, data: bytes) -> None:
        """A piece of a request."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._late.set()
        else:
            self._late.stop()

    def pause_writing(self) -> None:
        """As much of the answer waits to be taken as is kept."""
        super().pause_writing()
        self._untaken.set()

    def resume_writing(self) -> None:
        """Most of it has been taken."""
        self._untaken.stop()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self._late.stop()
        self._untaken.stop()
        super().connection_lost(exc)


class _Alarm:
    """Cuts a connection off unless it is stopped in time."""

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._loop = connection.loop
        # To close it would be to wait for what nobody takes.
        self._ring = connection.transport.abort
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def set(self) -> None:
        """From now on, unless it is set."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._ring)

    def stop(self) -> None:
        """It does not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

"""A client of HTTP/2 that does what gRPC's own clients never would."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, RemoteSettingsChanged
from h2.exceptions import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

ENHANCE_YOUR_CALM = 11


@dataclass
class Raw:
    """A connection, and what has come over it."""

    socket: socket.socket
    state: H2Connection
    events: list[Any]
    closed: bool = False

    def send(self) -> None:
        try:
            self.socket.sendall(self.state.data_to_send())
        except OSError:
            self.closed = True

    def read(self, *, seconds: float, answer: bool = True) -> None:
        """Takes what comes until the connection ends or the time is over."""
        end = time.monotonic() + seconds
        while not self.closed and (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                return
            except OSError:
                data = b""
            if not data:
                self.closed = True
                return
            try:
                self.events += self.state.receive_data(data)
            except ProtocolError:
                self.closed = True
            if answer:
                self.send()

    def goaway(self) -> int | None:
        """The code with which the server said goodbye."""
        codes = [e.error_code for e in self.events if isinstance(e, ConnectionTerminated)]
        return None if not codes or codes[0] is None else int(codes[0])

    def settings(self) -> dict[int, int]:
        """What the server asked for."""
        return {
            int(code): change.new_value
            for event in self.events
            if isinstance(event, RemoteSettingsChanged)
            for code, change in event.changed_settings.items()
        }


@contextmanager
def raw(port: int) -> Iterator[Raw]:
    """A connection whose greetings are over."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as opened:
        made = Raw(opened, H2Connection(H2Configuration(client_side=True)), [])
        made.state.initiate_connection()
        made.send()
        made.read(seconds=0.3)
        yield made

"""Calls made of single HTTP/2 frames: what no gRPC client would send."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events
from hyperframe.frame import DataFrame

if TYPE_CHECKING:
    from collections.abc import Sequence

HOST = "127.0.0.1"


def framed(data: bytes, *, announced: int | None = None, compressed: int = 0) -> bytes:
    """A message as gRPC puts it into a stream: a flag, its size, and itself.

    Args:
        data: The message.
        announced: Its size, when that is to be wrong.
        compressed: The flag.
    """
    return struct.pack(">BI", compressed, len(data) if announced is None else announced) + data


def raw_call(
    port: int,
    path: str,
    parts: Sequence[bytes],
    *,
    key: str,
    after: bytes = b"",
    end: str = "half-close",
    seconds: float = 3.0,
) -> dict[str, str]:
    """Sends bytes as the body of a call.

    Args:
        port: Of the server.
        path: ``/package.Service/Method``.
        parts: Of the body; where they are cut means nothing to gRPC.
        key: An API key.
        after: Sent in the same stream when it has ended, which HTTP/2 forbids.
        end: ``half-close``, or ``reset`` or ``hang-up`` in the middle of the body.
        seconds: To wait for an answer.

    Returns:
        Headers and trailers of the answer; empty when the stream was reset.
    """
    with socket.create_connection((HOST, port), timeout=seconds) as line:
        own = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        own.initiate_connection()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", HOST),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("authorization", f"Bearer {key}"),
        ]
        own.send_headers(1, headers)
        for part in parts:
            own.send_data(1, part)
        if end == "half-close":
            own.end_stream(1)
        if end == "reset":
            own.reset_stream(1)
        line.sendall(own.data_to_send())
        if after:
            line.sendall(DataFrame(1, after).serialize())
        return _answer(line, own) if end == "half-close" else {}


def _answer(line: socket.socket, own: h2.connection.H2Connection) -> dict[str, str]:
    found: dict[str, str] = {}
    while True:
        try:
            data = line.recv(65_536)
        except (TimeoutError, ConnectionError):
            return found
        if not data:
            return found
        for event in own.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                found |= {str(name): str(value) for name, value in event.headers}
            if isinstance(
                event,
                h2.events.StreamEnded | h2.events.StreamReset | h2.events.ConnectionTerminated,
            ):
                return found
        line.sendall(own.data_to_send())

"""A name with several addresses: a DNS server of our own, as a cluster's for headless services."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from conftest import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = 12
_A = 1
_INTERNET = 1
_IS_ANSWER = 0x8580  # that of who is in charge of the name
_QUESTION_IS_AT = b"\xc0\x0c"


@dataclass
class Name:
    """What the server says of every name that it is asked for.

    Attributes:
        dns_port: Of the server.
        addresses: IPv4.
        asked: How often it was asked for them.
    """

    dns_port: int
    addresses: list[str] = field(default_factory=list)
    asked: int = 0

    def target(self, port: int, *, host: str = "replicas") -> str:
        """The name as gRPC takes it."""
        return f"dns://{HOST}:{self.dns_port}/{host}:{port}"

    def answer(self, question: bytes) -> bytes:
        """One packet for another (RFC 1035)."""
        end = _HEAD
        while question[end]:
            end += question[end] + 1
        (kind,) = struct.unpack_from(">H", question, end + 1)
        found = list(self.addresses) if kind == _A else []
        self.asked += kind == _A
        head = question[:2] + struct.pack(">HHHHH", _IS_ANSWER, 1, len(found), 0, 0)
        records = [
            _QUESTION_IS_AT + struct.pack(">HHIH", _A, _INTERNET, 0, 4) + socket.inet_aton(each)
            for each in found
        ]
        return head + question[_HEAD : end + 5] + b"".join(records)


@contextmanager
def named() -> Iterator[Name]:
    """A DNS server while the block runs."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind((HOST, 0))
        name = Name(bound.getsockname()[1])

        def serve() -> None:
            while True:
                question, sender = bound.recvfrom(4096)
                if len(question) <= _HEAD:
                    return
                bound.sendto(name.answer(question), sender)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield name
        finally:
            bound.sendto(b"", (HOST, name.dns_port))
            thread.join(10)

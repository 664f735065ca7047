"""What a service and the processes that decode for it say to each other.

Messages are JSON, one a packet; bytes of pixels and files go beside them as descriptors of
files in memory, which are sealed before they are looked at, so that a process that was
taken over cannot change or shorten what has been checked. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import socket
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from histill.ml.images import Pixels

_MOST_BYTES = 64 << 10
_MOST_FILES = 2
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

Message = dict[str, Any]


class WireError(Exception):
    """The other side is gone, or does not keep to these words."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: Message, *files: int) -> None:
    """Sends a message, and descriptors that stay open here.

    Raises:
        WireError: Nobody listens.
    """
    try:
        socket.send_fds(end, [json.dumps(message).encode()], files)
    except OSError as exc:
        raise WireError("it is gone") from exc


def receive(end: socket.socket) -> tuple[Message, list[int]]:
    """The next message, and descriptors that are the caller's to close.

    Raises:
        WireError: The other side is gone, or what comes is no message.
        TimeoutError: None came in the time that is set for ``end``.
    """
    try:
        data, files, flags, _ = socket.recv_fds(end, _MOST_BYTES, _MOST_FILES)
    except TimeoutError:
        raise
    except OSError as exc:
        raise WireError("it is gone") from exc
    message = _parsed(data, flags)
    if message is None:
        close(files)
        raise WireError("it is gone, or sends no message")
    return message, files


def _parsed(data: bytes, flags: int) -> Message | None:
    if not data or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        return None
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def close(files: Sequence[int]) -> None:
    """Closes descriptors."""
    for file in files:
        with contextlib.suppress(OSError):
            os.close(file)


def in_memory(data: bytes | memoryview) -> int:
    """A descriptor of a file in memory that holds these bytes, and can be sealed."""
    file = os.memfd_create("pixels", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    try:
        rest = memoryview(data).cast("B")
        while len(rest):
            rest = rest[os.write(file, rest) :]
    except BaseException:
        os.close(file)
        raise
    return file


def array_in_memory(pixels: Pixels) -> int:
    """As ``in_memory``, of an array of at least one value."""
    return in_memory(np.ascontiguousarray(pixels).data)


def mapped(file: int, shape: Sequence[int]) -> Pixels:
    """What a file in memory holds, sealed, as an array that cannot be written.

    Args:
        file: Closed in any case; its pages live as long as the array.
        shape: Of uint8; checked against the size.

    Raises:
        WireError: It is no file in memory, or holds another number of bytes.
    """
    try:
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
        size = os.fstat(file).st_size
        if not shape or min(shape) < 1 or size != _product(shape):
            raise WireError("an array of another size")
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        held = mmap.mmap(file, size, flags=flags, prot=mmap.PROT_READ)
    except OSError as exc:
        raise WireError("no file in memory") from exc
    finally:
        os.close(file)
    return np.frombuffer(held, np.uint8).reshape(shape)


def _product(shape: Sequence[int]) -> int:
    product = 1
    for side in shape:
        product *= side
    return product

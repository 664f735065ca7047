"""Processes that decode for this one, with bounds on what a file can make them use."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from histill.core.errors import (
    FieldViolation,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)
from histill.ml import decoder_wire
from histill.ml.decoder_wire import WireError
from histill.ml.images import FIELD

if TYPE_CHECKING:
    import socket

    from histill.ml.confinement import Budget
    from histill.ml.decoder_wire import Message

_START_S = 60.0
# By the clock, when the processor is shared with others.
_CLOCK_FACTOR, _CLOCK_SLACK_S = 4, 30.0
# After which it makes way for a fresh one, whatever files have left in it.
_MOST_FILES = 500
_CODE = "histill.ml.decoder_process"


class Decoder:
    """One process, which holds one file at a time. Its calls block, one at a time.

    Args:
        end: Connection to it.
        process: Descriptor of it.
        budget: What it may use, for words.

    Attributes:
        files: How many it has opened.
        usable: Whether it may be asked again.
        once: Whether it makes way for a fresh one after the file that it has.
    """

    def __init__(self, end: socket.socket, process: int, budget: Budget) -> None:
        self._end, self._process, self._budget = end, process, budget
        self.files = 0
        self.usable = True
        self.once = False

    def ask(self, message: Message, *files: int) -> tuple[Message, int | None]:
        """Its answer, and a descriptor where one comes with it, which is the caller's to close.

        Raises:
            InvalidArgumentError: As the file's reader says; or the process gave up, of a file
                that is damaged or takes more than it may use. Names the field.
            ResourceExhaustedError: The file takes more memory or time than it may.
        """
        try:
            decoder_wire.send(self._end, message, *files)
            answer, found = decoder_wire.receive(self._end)
        except TimeoutError:
            self.kill()
            raise ResourceExhaustedError(
                f"{FIELD}: reading it takes more than {self._budget.cpu_s} s"
            ) from None
        except WireError as exc:
            self.kill()
            raise InvalidArgumentError.of(
                FIELD,
                "its decoder gave up: the file is damaged, or reading it takes more than "
                f"{self._budget.memory_bytes} bytes of memory or {self._budget.cpu_s} s",
            ) from exc
        if len(found) > 1 or not answer.keys().isdisjoint({"invalid", "exhausted", "memory"}):
            decoder_wire.close(found)
            self._refuse(answer)
        return answer, found[0] if found else None

    def waits(self) -> bool:
        """Whether it is there, and says nothing unasked."""
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        return self.usable and not poll.poll(0)

    def forget(self) -> None:
        """Has it close its file."""
        try:
            decoder_wire.send(self._end, {"do": "close"})
        except WireError:
            self.kill()

    def kill(self) -> None:
        """Ends it, also while it works; may be called from another thread, and twice."""
        self.usable = False
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def close(self) -> None:
        """Ends it and lets go of it, when nobody asks it any more."""
        self.kill()
        self._end.close()
        os.close(self._process)

    def _refuse(self, answer: Message) -> None:
        if "invalid" in answer:
            raise InvalidArgumentError(*violations(answer["invalid"]))
        if "exhausted" in answer:
            raise ResourceExhaustedError(str(answer["exhausted"]))
        # What it could not get is fragmented memory for the next one.
        self.kill()
        raise ResourceExhaustedError(
            f"{FIELD}: reading it takes more than {self._budget.memory_bytes} bytes of memory; "
            "cut or shrink it"
        )


def violations(told: object) -> list[FieldViolation]:
    """What is wrong, as a decoder tells it."""
    pairs = told if isinstance(told, list) else []
    found = [
        FieldViolation(str(each[0]), str(each[1]))
        for each in pairs
        if isinstance(each, list) and len(each) == 2  # noqa: PLR2004
    ]
    return found or [FieldViolation(FIELD, "its decoder refuses it")]


class Decoders:
    """Decoders that wait for work, and are replaced when they end.

    Args:
        budget: Of each.
        ahead: How many wait.
        spare: Further ones that may read files which others have open, at a time.
    """

    def __init__(self, budget: Budget, *, ahead: int, spare: int) -> None:
        self._budget = budget
        self._ahead = ahead
        self._lock = threading.Lock()
        self._idle: list[Decoder] = []
        self._nursery: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._closed = False
        self._starting = threading.Lock()
        self._started = False
        self.spare = threading.BoundedSemaphore(max(1, spare))

    def start(self) -> None:
        """Starts those that wait, at the first call; blocks while libraries load, a second.

        Raises:
            UnavailableError: They do not start, or another call still starts them.
        """
        if self._started:
            return
        if not self._starting.acquire(blocking=False):
            raise UnavailableError("the processes that decode images are still being started")
        try:
            for each in [self._new() for _ in range(self._ahead)]:
                self.put(each)
            self._started = True
        finally:
            self._starting.release()

    def take(self) -> Decoder:
        """A decoder without a file, for the caller alone.

        Raises:
            UnavailableError: None can be started.
        """
        while True:
            with self._lock:
                decoder = self._idle.pop() if self._idle else None
            if decoder is None:
                return self._new()
            if decoder.waits():
                return decoder
            decoder.close()  # the system may have ended it for want of memory

    def put(self, decoder: Decoder) -> None:
        """Takes one back, or ends it where it is no use."""
        if decoder.usable and decoder.files:
            decoder.forget()
        with self._lock:
            if (
                decoder.usable
                and not decoder.once
                and decoder.files < _MOST_FILES
                and len(self._idle) < self._ahead
                and not self._closed
            ):
                self._idle.append(decoder)
                return
        decoder.close()

    def close(self) -> None:
        """Ends all of them."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            self._end_nursery()
        for each in idle:
            each.close()

    def _new(self) -> Decoder:
        for last in (False, True):
            end, other = decoder_wire.pair()
            end.settimeout(_START_S)
            try:
                with other, self._lock:
                    decoder_wire.send(self._connected(), {}, other.fileno())
                hello, files = decoder_wire.receive(end)
                decoder_wire.close(files)
                process = os.pidfd_open(int(hello["pid"]))
            except (WireError, TimeoutError, OSError, KeyError) as exc:
                end.close()
                with self._lock:
                    self._end_nursery()
                if last or self._closed:
                    raise UnavailableError("no process to decode images could be started") from exc
            else:
                end.settimeout(_CLOCK_FACTOR * self._budget.cpu_s + _CLOCK_SLACK_S)
                return Decoder(end, process, self._budget)
        raise AssertionError("unreachable")

    def _connected(self) -> socket.socket:
        """The connection to the nursery, which is started where there is none."""
        if self._control is None:
            self._control, theirs = decoder_wire.pair()
            with theirs:
                self._nursery = subprocess.Popen(  # noqa: S603 - our own code
                    [
                        *(sys.executable, "-I", "-m", _CODE),
                        str(self._budget.memory_bytes),
                        str(self._budget.cpu_s),
                    ],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    # No settings and no credentials; and one thread, which can be forked.
                    env={"LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                    cwd="/",
                    start_new_session=True,
                )
        return self._control

    def _end_nursery(self) -> None:
        """Ends it and its decoders, those at work, too."""
        self._started = False
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._nursery is not None:
            self._nursery.kill()
            self._nursery.wait()
            self._nursery = None

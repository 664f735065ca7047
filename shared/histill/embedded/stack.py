"""Starts, watches and stops the whole system on one machine."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from histill.client.settings import ClientSettings, client_file
from histill.core.errors import EmbeddedError
from histill.core.settings import PREFIX
from histill.embedded import processes
from histill.embedded.layout import HOST, Ports, Secrets
from histill.embedded.servers import ServerProcess, start, start_s3, start_valkey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from histill.embedded.processes import ProcessPlan

START_S = 60.0
STOP_S = 15.0
_LOG_LINES = 15


@dataclass
class Stack:
    """A running system.

    Attributes:
        home: Its folder: data, logs, secrets.
        ports: Where each process listens.
        client: What a client needs to reach it.
    """

    home: Path
    ports: Ports
    client: ClientSettings
    children: list[ServerProcess] = field(default_factory=list)

    def check(self) -> None:
        """Returns while every process runs.

        Raises:
            EmbeddedError: One has ended; carries the last lines of its log.
        """
        for child in self.children:
            if (code := child.process.poll()) is not None:
                raise EmbeddedError(
                    f"{child.name} {_ending(code)}; everything was stopped. Start again: queued "
                    f"and running jobs go on. The end of {child.log}:\n{_tail(child)}"
                )

    def signed_in(self) -> str:
        """Address at which the page opens signed in; what follows # is sent to no server."""
        return f"{self.client.web}/#key={quote(self.client.api_key.get_secret_value(), safe='')}"

    def endpoints(self) -> dict[str, str]:
        """Every endpoint by name, for people."""
        ports = self.ports
        metrics = ("jobs", "registry", "inference", "web", "worker")
        return {
            "web page": f"http://{HOST}:{ports.web}",
            "jobs (gRPC)": f"{HOST}:{ports.jobs}",
            "registry (gRPC)": f"{HOST}:{ports.registry}",
            "inference (gRPC)": f"{HOST}:{ports.inference}",
            "S3": f"http://{HOST}:{ports.s3}",
            "Valkey": f"{HOST}:{ports.valkey}",
            **{
                f"metrics of {name}": f"http://{HOST}:{getattr(ports, f'{name}_metrics')}/metrics"
                for name in metrics
            },
        }


@contextmanager
def running(
    home: Path, *, ports: Ports, workers: int = 1, say: Callable[[str], None]
) -> Iterator[Stack]:
    """Runs the system while the block does.

    Args:
        home: Folder for data, logs and secrets; made when missing.
        ports: Where each process listens.
        workers: Jobs at once.
        say: Told what is being started or stopped.

    Raises:
        EmbeddedError: A port is taken, the folder is in use or full, or a process
            does not come up.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise EmbeddedError(
            f"{home} cannot be made ({exc.strerror}); choose another --home"
        ) from exc
    home.chmod(0o700)
    with _only_one(home):
        if taken := ports.taken():
            which = ", ".join(f"{name} {port}" for name, port in taken.items())
            raise EmbeddedError(
                f"ports are taken: {which}; stop what uses them or add --free-ports"
            )
        stack = Stack(home, ports, _client_settings(home, ports))
        try:
            _start(stack, workers=workers, say=say)
            yield stack
        finally:
            client_file(home).unlink(missing_ok=True)
            _stop(stack, say=say)


def _client_settings(home: Path, ports: Ports) -> ClientSettings:
    return ClientSettings.model_validate(
        {
            "jobs": f"{HOST}:{ports.jobs}",
            "registry": f"{HOST}:{ports.registry}",
            "inference": f"{HOST}:{ports.inference}",
            "web": f"http://{HOST}:{ports.web}",
            "api_key": Secrets.of(home).api_key,
        }
    )


def _start(stack: Stack, *, workers: int, say: Callable[[str], None]) -> None:
    home, ports, keys = stack.home, stack.ports, Secrets.of(stack.home)
    say("starting Valkey and the S3 server")
    stack.children.append(
        start_valkey(home / "valkey", port=ports.valkey, password=keys.valkey_password)
    )
    stack.children.append(
        start_s3(
            home / "s3", port=ports.s3, access_key=keys.s3_access_key, secret_key=keys.s3_secret_key
        )
    )
    _wait(stack, "Valkey", lambda: processes.valkey_answers(ports.valkey, keys.valkey_password))
    _wait(stack, "the S3 server", lambda: processes.s3_answers(ports.s3, keys))
    scratch = home / "scratch"
    scratch.mkdir(exist_ok=True)
    plans = processes.process_plans(ports, keys, workers=workers, scratch=scratch)
    say("starting " + ", ".join(plan.name for plan in plans))
    for plan in plans:
        stack.children.append(_launch(plan, home))
    for plan in plans:
        _wait(stack, plan.name, plan.ready)
    _write_client_file(stack)


def _launch(plan: ProcessPlan, home: Path) -> ServerProcess:
    # Settings of the caller's shell are not ours: each child gets exactly its own.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return start(
        plan.name,
        plan.command,
        log=home / "logs" / f"{plan.name}.log",
        environment=clean | plan.settings,
    )


def _wait(stack: Stack, name: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_S
    while not ready():
        stack.check()
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"{name} is not ready after {START_S:.0f} s; its log is in {stack.home / 'logs'}"
            )
        time.sleep(0.1)


def _write_client_file(stack: Stack) -> None:
    path = client_file(stack.home)
    path.touch(mode=0o600)
    values = stack.client.model_dump(mode="json")
    values["api_key"] = stack.client.api_key.get_secret_value()
    path.write_text(json.dumps(values))


def _stop(stack: Stack, *, say: Callable[[str], None]) -> None:
    """Stops what was started, last first, so that the servers outlive their clients."""
    if stack.children:
        say("stopping")
    servers, ours = stack.children[:2], stack.children[2:]
    for group in (ours, servers):
        for child in reversed(group):
            child.process.terminate()
        deadline = time.monotonic() + STOP_S
        for child in reversed(group):
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                say(f"{child.name} did not stop within {STOP_S:.0f} s and was killed")
                child.process.kill()
                child.process.wait()


def in_use(home: Path) -> bool:
    """Whether a system runs in this folder, by its lock and not by what it left."""
    try:
        with (home / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise EmbeddedError(
                f"{home} is in use by another histill; stop it or choose another --home"
            ) from exc
        yield


def _ending(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"was ended by {name}" + (" (often for want of memory)" if name == "SIGKILL" else "")
    return f"ended with code {code}"


def _tail(child: ServerProcess) -> str:
    text = child.log.read_bytes()[child.log_start :].decode(errors="replace")
    return "\n".join(text.splitlines()[-_LOG_LINES:])

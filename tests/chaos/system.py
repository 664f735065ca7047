"""The whole system as processes that can be killed, frozen and started again, by name."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from redis import Redis

from chaos.proxy import HOST, Proxy, proxied
from conftest import wait_for_port
from free_ports import free_port
from histill.adapters.s3 import S3ObjectStore
from histill.client import Client, ClientSettings
from histill.core.settings import S3Settings
from histill.embedded.processes import serving
from histill.embedded.servers import start_s3, start_valkey
from running import running as running_processes
from services import KEY, own_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from histill.embedded.servers import ServerProcess

_PASSWORD = "chaos-password"
_ACCESS, _SECRET = "chaos-access", "chaos-secret-key"
LEASE_S = 4.0
SERVICES = ("jobs", "registry", "inference")
WORKERS = ("worker-1", "worker-2")
# Impatient, so that an hour of faults fits into minutes; the proportions are the defaults'.
_IMPATIENT = {
    "HISTILL_REAPER__EVERY_S": "0.5",
    "HISTILL_REAPER__GRACE_S": "2",
    "HISTILL_REAPER__RESUBMIT_S": "2",
    "HISTILL_REAPER__SCAN_S": "2",
    "HISTILL_REAPER__MAX_LOSSES": "100",
    "HISTILL_WORKER__MAX_LOSSES": "100",
    "HISTILL_WORKER__LEASE_TTL_S": str(LEASE_S),
    "HISTILL_WORKER__CHECKPOINT_S": "0.5",
    "HISTILL_WORKER__PATIENCE_S": "60",
    "HISTILL_S3__TIMEOUT_S": "3",
    "HISTILL_REDIS__TIMEOUT_S": "2",
}


@dataclass
class Running:
    """One process of ours, which comes back on the same ports."""

    name: str
    module: str
    port: int
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, unless it runs."""
        if self.process and self.process.poll() is None:
            return
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def signal(self, number: signal.Signals) -> None:
        """Signals it, if it runs."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            if number == signal.SIGKILL:
                self.process.wait()

    def memory_bytes(self) -> int:
        """What it holds now (Linux: VmRSS); 0 when it does not run."""
        if self.process is None or self.process.poll() is not None:
            return 0
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:  # noqa: PTH123
            line = next((line for line in status if line.startswith("VmRSS")), "VmRSS: 0")
        return int(line.split()[1]) * 1024


@dataclass
class System:
    """Everything that runs, and what stands between.

    Attributes:
        cancelled: Names of jobs that were cancelled, unless they ended before.
        deleted: Names of jobs that were deleted after they had succeeded.
    """

    folder: Path
    valkey_port: int
    s3_proxy: Proxy
    registry_proxy: Proxy
    processes: dict[str, Running]
    valkey: ServerProcess | None = None
    s3: ServerProcess | None = None
    clients: list[Client] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"redis://:{_PASSWORD}@{HOST}:{self.valkey_port}/0"

    def redis(self) -> Redis:
        """A client of the queue's server."""
        return Redis.from_url(self.url, decode_responses=True, socket_timeout=5)

    def objects(self) -> S3ObjectStore:
        """The store itself, past the proxy."""
        return S3ObjectStore.connect(
            S3Settings.model_validate(
                {
                    "endpoint": f"{HOST}:{self.s3_proxy.target}",
                    "access_key": _ACCESS,
                    "secret_key": _SECRET,
                    "bucket": "chaos",
                }
            )
        )

    def client(self, *, registry_port: int | None = None) -> Client:
        """A client of its own channels, as another program would have."""
        ports = {name: self.processes[name].port for name in SERVICES}
        ports["registry"] = registry_port or ports["registry"]
        targets = {name: f"{HOST}:{port}" for name, port in ports.items()}
        settings = ClientSettings.model_validate({**targets, "api_key": KEY, "timeout_s": 20})
        made = Client(settings)
        self.clients.append(made)
        return made

    def start_valkey(self) -> None:
        """Starts it on what it has on its disk."""
        self.valkey = start_valkey(
            self.folder / "valkey", port=self.valkey_port, password=_PASSWORD
        )
        wait_for_port(self.valkey_port)

    def kill_valkey(self, *, data: bool) -> None:
        """Kills it without a word; without ``data`` its disk is lost too."""
        if self.valkey:
            self.valkey.process.kill()
            self.valkey.process.wait()
        if not data:
            shutil.rmtree(self.folder / "valkey")

    def signal_valkey(self, number: signal.Signals) -> None:
        """Signals it, if it runs."""
        if self.valkey and self.valkey.process.poll() is None:
            self.valkey.process.send_signal(number)

    def trainers(self) -> list[int]:
        """Process numbers of the trainers of our workers."""
        return list(running_processes(f"histill.distill.trainer {self.folder}"))

    def ready(self, name: str) -> bool:
        """Whether a service serves."""
        return serving(self.processes[name].port)

    def heal(self) -> None:
        """Ends every fault: all runs, nothing stands between."""
        self.s3_proxy.mode = "pass"
        if self.valkey is None or self.valkey.process.poll() is not None:
            self.start_valkey()
        self.signal_valkey(signal.SIGCONT)
        for process in self.processes.values():
            process.signal(signal.SIGCONT)
            process.start()


def until(condition: Callable[[], bool], *, seconds: float, what: str) -> float:
    """Waits for something, and returns how long it took.

    Raises:
        TimeoutError: It did not come about.
    """
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            raise TimeoutError(f"{what} took more than {seconds} s")
        time.sleep(0.05)
    return time.monotonic() - start


@contextmanager
def running(folder: Path) -> Iterator[System]:
    """The system, all of it running, while the block does; nothing is left after it."""
    s3_port, valkey_port = free_port(), free_port()
    s3_proxy = Proxy(free_port(), s3_port)
    variables = _IMPATIENT | {
        "HISTILL_S3__ENDPOINT": f"{HOST}:{s3_proxy.port}",
        "HISTILL_S3__ACCESS_KEY": _ACCESS,
        "HISTILL_S3__SECRET_KEY": _SECRET,
        "HISTILL_S3__BUCKET": "chaos",
        "HISTILL_REDIS__URL": f"redis://:{_PASSWORD}@{HOST}:{valkey_port}/0",
        "HISTILL_WORKER__SCRATCH": str(folder),
        "HISTILL_WORKER__THREADS": "1",
    }
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HISTILL_")}
    processes = {}
    for name in (*SERVICES, *WORKERS):
        module = "distill" if name in WORKERS else name
        port = free_port()
        own = own_settings(module, folder, port=port, metrics=free_port())
        environment = clean | own | variables
        processes[name] = Running(
            name, f"histill.{module}", port, environment, folder / f"{name}.log"
        )
    registry_proxy = Proxy(free_port(), processes["registry"].port)
    system = System(folder, valkey_port, s3_proxy, registry_proxy, processes)
    with ExitStack() as stack:
        stack.enter_context(proxied(s3_proxy, registry_proxy))
        stack.callback(_stop, system)
        system.s3 = start_s3(folder / "s3", port=s3_port, access_key=_ACCESS, secret_key=_SECRET)
        wait_for_port(s3_port)
        system.objects().ensure_bucket()
        system.heal()
        for name in SERVICES:
            until(lambda name=name: system.ready(name), seconds=120, what=f"start of {name}")  # type: ignore[misc]
        yield system


def _stop(system: System) -> None:
    for client in system.clients:
        client.close()
    for process in system.processes.values():
        process.signal(signal.SIGCONT)
        process.signal(signal.SIGKILL)
    for number in system.trainers():
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    for server in (system.valkey, system.s3):
        if server and server.process.poll() is None:
            server.process.kill()
            server.process.wait()

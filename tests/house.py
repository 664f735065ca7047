"""A whole system of a test's own, of which every disk can be looked through."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conftest import end, run_s3, run_valkey
from histill.adapters.s3 import S3ObjectStore
from histill.client import Client, ClientSettings
from services import service, settings_of
from traces import files, found_in, redis_values

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3, Valkey
    from services import Service


def keys() -> str:
    """The setting with an admin of each project, and an operator."""
    holders = [("default", "admin"), ("acme", "admin"), ("default", "operator")]
    return json.dumps(
        [
            {
                "id": f"{project}-{role}",
                "sha256": hashlib.sha256(f"{project}-{role}".encode()).hexdigest(),
                "role": role,
                "project": project,
            }
            for project, role in holders
        ]
    )


@dataclass
class House:
    """Servers and processes of a test, with the folders that they write.

    Attributes:
        variables: Settings of every process.
        processes: By name.
        open: Ends them.
    """

    folder: Path
    s3: S3
    valkey: Valkey
    variables: dict[str, str]
    processes: dict[str, Service]
    open: ExitStack

    @property
    def cache(self) -> Path:
        """Of what teachers said."""
        return self.folder / "cache"

    @property
    def store(self) -> S3ObjectStore:
        """All of the object store."""
        return S3ObjectStore.connect(self.s3.settings)

    def start(self, name: str, **also: str) -> Service:
        """Starts a process, in place of one of that name that is gone."""
        variables = self.variables | also
        if name == "distill":
            variables |= {
                "HISTILL_WORKER__TEACHER_CACHE": str(self.cache),
                "HISTILL_WORKER__SCRATCH": str(self.folder / "scratch"),
            }
        started = self.open.enter_context(service(name, self.folder / "logs", variables))
        self.processes[name] = started
        return started

    def client(self, key: str = "default-admin") -> Client:
        """The SDK with somebody's key."""
        targets = {
            name: f"127.0.0.1:{self.processes[name].port}"
            for name in ("jobs", "registry", "inference")
            if name in self.processes
        }
        return Client(ClientSettings.model_validate({**targets, "api_key": key}))

    def everything(self) -> Iterator[tuple[str, bytes]]:
        """All that lies on disks of the store, of processes and in their logs, and in Redis."""
        names = ("cache", "scratch", "logs", "tmp")
        yield from files(self.s3.folder, *(self.folder / name for name in names))
        yield from redis_values(self.valkey)

    def traces(self, *secrets: str | bytes) -> list[str]:
        """Where secrets stand: ``place: secret``."""
        return found_in(self.everything(), secrets)

    def traces_of_names(self, *names: str) -> list[str]:
        """As ``traces``, but for the logs, which name what was done to which resource."""
        found = self.traces(*names)
        return [each for each in found if "/audit/" not in each and not each.startswith("logs/")]


@contextmanager
def house(folder: Path, **also: str) -> Iterator[House]:
    """Servers of a test's own, with a registry and a jobs service, at debug level."""
    s3, valkey = run_s3(folder / "s3"), run_valkey(folder / "valkey")
    for name in ("cache", "logs", "scratch", "tmp"):
        (folder / name).mkdir()
    variables = settings_of(s3.settings, valkey.settings) | {
        "HISTILL_LOG__LEVEL": "debug",
        "HISTILL_REAPER__GRACE_S": "1",
        "HISTILL_AUTH__API_KEYS": keys(),
        "TMPDIR": str(folder / "tmp"),
        **also,
    }
    try:
        with ExitStack() as stack:
            made = House(folder, s3, valkey, variables, {}, stack)
            for name in ("jobs", "registry"):
                made.start(name)
            for name in ("jobs", "registry"):
                made.processes[name].wait()
            yield made
    finally:
        end(s3.server)
        end(valkey.server)

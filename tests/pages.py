"""The web process over whatever services a test has, and who signs in there."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from free_ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "127.0.0.1"
ROLES = ("viewer", "operator", "admin")


def key_of(role: str, project: str = "default") -> str:
    """The key of a project's holder of a role."""
    return f"key-of-{project}-{role}"


def api_keys(project: str = "default") -> str:
    """The services' setting with a key for each role."""
    return json.dumps(
        [
            {
                "id": f"{project}-{role}",
                "sha256": hashlib.sha256(key_of(role, project).encode()).hexdigest(),
                "role": role,
                "project": project,
            }
            for role in ROLES
        ]
    )


def bearer_of(role: str) -> dict[str, str]:
    """The header of a program that holds a role's key."""
    return {"authorization": f"Bearer {key_of(role)}"}


@dataclass
class Page:
    """A running web process.

    Attributes:
        port: It listens there.
        metrics_port: It tells its metrics there.
        process: To signal it.
        log: File of its output.
    """

    port: int
    metrics_port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://{HOST}:{self.port}"

    def visitor(self, role: str = "", **settings: Any) -> httpx.Client:
        """A browser's stand-in; with a role, a program that shows that role's key."""
        return httpx.Client(
            base_url=self.url,
            headers=bearer_of(role) if role else {},
            timeout=30,
            transport=httpx.HTTPTransport(retries=3),
            **settings,
        )

    @contextmanager
    def signed_in(self, role: str) -> Iterator[httpx.Client]:
        """Somebody who has signed in, with the cookie."""
        with self.visitor() as visitor:
            answer = visitor.post("/api/session", json={"token": key_of(role)})
            assert answer.status_code == 200, answer.text
            yield visitor

    def peak_memory_bytes(self) -> int:
        """Most memory that it ever held (Linux: VmHWM)."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:  # noqa: PTH123
            line = next(line for line in status if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024


@contextmanager
def page_of(folder: Path, **settings: str) -> Iterator[Page]:
    """The web process, ended with SIGTERM, which must succeed.

    Settings are those of ``HISTILL_WEB__``. Over plain HTTP, no client but a browser sends the
    cookie back that is for HTTPS only.
    """
    variables = {"secure_cookies": "false"} | settings
    started = _started(folder, {f"HISTILL_WEB__{k.upper()}": v for k, v in variables.items()})
    try:
        yield started
    finally:
        started.process.send_signal(signal.SIGTERM)
        try:
            code: int | None = started.process.wait(30)
        except subprocess.TimeoutExpired:
            started.process.kill()
            code = None
    assert code == 0, f"the page ended with {code}:\n{started.log.read_text()}"


def _started(folder: Path, variables: dict[str, str]) -> Page:
    """Starts it, again on other ports where somebody took one in between."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HISTILL_")}
    words = ""
    for _ in range(5):
        port, metrics = free_port(), free_port()
        log = folder / f"web-{port}.log"
        ports = {"HISTILL_WEB__PORT": str(port), "HISTILL_WEB__METRICS_PORT": str(metrics)}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "histill.web"],
                env=kept | variables | ports,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        page = Page(port, metrics, process, log)
        if _answers(page):
            return page
        process.kill()
        process.wait()
        words = log.read_text()
        if "cannot listen" not in words:
            break
    pytest.fail(f"the page did not come up:\n{words}")


def _answers(page: Page) -> bool:
    deadline = time.monotonic() + 30
    while page.process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{page.url}/healthz", timeout=2).is_success:
                return True
        except httpx.TransportError:
            time.sleep(0.05)
    return False

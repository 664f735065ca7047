"""A real Prometheus over running processes."""

from __future__ import annotations

import json
import math
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from conftest import HOST
from free_ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Prometheus:
    """What it knows."""

    http: httpx.Client

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API.

        Raises:
            AssertionError: It says that the question is wrong.
        """
        answer = self.http.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", f"{parameters}: {answer.get('error')}"
        return answer["data"]

    def numbers(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of what a query finds now, without what is no number."""
        found = self.get("query", query=expr)
        assert found["resultType"] == "vector", expr
        pairs = [(each["metric"], float(each["value"][1])) for each in found["result"]]
        return [(labels, value) for labels, value in pairs if not math.isnan(value)]

    def wait_for(self, expr: str, *, seconds: float = 60) -> None:
        """Returns when a query finds something."""
        deadline = time.monotonic() + seconds
        while not self.numbers(expr):
            assert time.monotonic() < deadline, f"nothing comes of {expr}"
            time.sleep(0.2)


@contextmanager
def prometheus(
    program: str, folder: Path, rules: Sequence[Path], ports: Mapping[str, int]
) -> Iterator[Prometheus]:
    """Reads the metrics of processes each second, with labels as in a cluster.

    Args:
        program: The binary.
        folder: For its configuration and data.
        rules: Files of rules.
        ports: Where metrics are told, by a name for the pod; its first word is the job.
    """
    jobs = [
        {
            "job_name": name,
            "static_configs": [
                {
                    "targets": [f"{HOST}:{port}"],
                    "labels": {"job": name.split("-")[0], "namespace": "ward", "pod": name},
                }
            ],
        }
        for name, port in ports.items()
    ]
    interval = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    settings = {
        "global": interval,
        "rule_files": [str(path) for path in rules],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yml").write_text(json.dumps(settings))  # JSON is YAML, too
    port = free_port()
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={HOST}:{port}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        transport = httpx.HTTPTransport(retries=5)
        address = f"http://{HOST}:{port}"
        with httpx.Client(base_url=address, transport=transport, timeout=30) as client:
            deadline = time.monotonic() + 30
            while not _ready(client):
                words = (folder / "prometheus.log").read_text()
                assert process.poll() is None, words
                assert time.monotonic() < deadline, words
                time.sleep(0.1)
            yield Prometheus(client)
    finally:
        process.terminate()
        process.wait(30)


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False

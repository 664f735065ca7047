"""The processes of embedded mode: what each is started with, and how it shows it is ready."""

from __future__ import annotations

import json
import socket
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from redis import Redis
from redis.exceptions import RedisError

from histill.adapters.s3 import S3ObjectStore
from histill.core.errors import StorageUnavailableError
from histill.core.settings import S3Settings
from histill.embedded.layout import HOST
from histill.rpc.probe import is_serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

from histill.embedded.layout import Ports, Secrets

_PROBE_S = 1.0


@dataclass(frozen=True)
class ProcessPlan:
    """One process of ours: module, settings and the probe that says it is ready."""

    name: str
    command: list[str]
    settings: dict[str, str]
    ready: Callable[[], bool]


def process_plans(ports: Ports, keys: Secrets, *, workers: int, scratch: Path) -> list[ProcessPlan]:
    """Every process of ours; they stop in the reverse of this order."""
    common = {
        "HISTILL_S3__ENDPOINT": f"{HOST}:{ports.s3}",
        "HISTILL_S3__ACCESS_KEY": keys.s3_access_key,
        "HISTILL_S3__SECRET_KEY": keys.s3_secret_key,
        "HISTILL_REDIS__URL": f"redis://:{keys.valkey_password}@{HOST}:{ports.valkey}/0",
        "HISTILL_LOG__JSON_LINES": "true",
    }
    holder = {"id": "embedded", "sha256": keys.api_key_sha256, "role": "admin"}

    def service(name: str, port: int, metrics: int, **settings: str) -> ProcessPlan:
        own = {
            "HISTILL_SERVER__HOST": HOST,
            "HISTILL_SERVER__PORT": str(port),
            "HISTILL_SERVER__METRICS_PORT": str(metrics),
            # Nobody probes it here but us, and we ask the service itself.
            "HISTILL_SERVER__HEALTH_PORT": "-1",
            "HISTILL_AUTH__API_KEYS": json.dumps([holder]),
            "HISTILL_AUTH__SEAL": keys.seal,
            "HISTILL_AUDIT__FOLDER": str(scratch.parent / "audit"),
            **settings,
        }
        return ProcessPlan(name, _module(name), common | own, lambda: serving(port))

    web = {
        "HISTILL_WEB__HOST": HOST,
        "HISTILL_WEB__PORT": str(ports.web),
        "HISTILL_WEB__METRICS_PORT": str(ports.web_metrics),
        # Nobody else is on this way, and Safari takes no other cookies over HTTP.
        "HISTILL_WEB__SECURE_COOKIES": "false",
        "HISTILL_WEB__JOBS": f"{HOST}:{ports.jobs}",
        "HISTILL_WEB__REGISTRY": f"{HOST}:{ports.registry}",
        "HISTILL_WEB__INFERENCE": f"{HOST}:{ports.inference}",
        "HISTILL_LOG__JSON_LINES": "true",
    }
    worker = {
        "HISTILL_WORKER__CONCURRENCY": str(workers),
        "HISTILL_WORKER__METRICS_HOST": HOST,
        "HISTILL_WORKER__HEALTH_PORT": "-1",
        "HISTILL_WORKER__METRICS_PORT": str(ports.worker_metrics),
        "HISTILL_WORKER__SCRATCH": str(scratch),
        "HISTILL_WORKER__TEACHER_CACHE": str(scratch.parent / "teacher-cache"),
    }
    return [
        service("registry", ports.registry, ports.registry_metrics),
        service("jobs", ports.jobs, ports.jobs_metrics),
        service("inference", ports.inference, ports.inference_metrics),
        ProcessPlan("web", _module("web"), web, lambda: answers(ports.web, "/healthz")),
        ProcessPlan(
            "worker",
            _module("distill"),
            common | worker,
            lambda: answers(ports.worker_metrics, "/metrics"),
        ),
    ]


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", f"histill.{name}"]


def serving(port: int, host: str = HOST) -> bool:
    """Whether a gRPC service says that it is ready."""
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        try:
            return is_serving(channel, timeout_s=_PROBE_S)
        except grpc.RpcError:
            return False


def answers(port: int, path: str) -> bool:
    """Whether an HTTP server answers with success."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=_PROBE_S):
            return True
    except (urllib.error.URLError, OSError):
        return False


def valkey_answers(port: int, password: str) -> bool:
    """Whether Valkey takes our password."""
    with Redis(HOST, port, password=password, socket_timeout=_PROBE_S) as client:
        try:
            return bool(client.ping())
        except RedisError:
            return False


def s3_answers(port: int, keys: Secrets) -> bool:
    """Whether the S3 server takes our keys."""
    if not _open(port):
        return False
    settings = S3Settings.model_validate(
        {
            "endpoint": f"{HOST}:{port}",
            "access_key": keys.s3_access_key,
            "secret_key": keys.s3_secret_key,
            "timeout_s": _PROBE_S,
        }
    )
    try:
        S3ObjectStore.connect(settings).ensure_bucket()
    except StorageUnavailableError:
        return False
    return True


def _open(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=_PROBE_S):
            return True
    except OSError:
        return False

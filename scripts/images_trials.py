"""What each image is started with when it is tried, and how it shows that it is ready."""

# ruff: noqa: INP001 - a script is no package
from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from histill.embedded.layout import HOST
from histill.embedded.processes import answers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from histill.embedded.layout import Ports, Secrets

# All but the command line, which runs a command and ends.
SERVICES = ("jobs", "registry", "inference", "web", "worker")
_DATA = "/var/lib/histill"
_PROBE_S = 2.0


@dataclass(frozen=True)
class Servers:
    """The servers that are there, and the ports of ours that are not yet.

    Attributes:
        volumes: A folder for those of the containers.
    """

    volumes: Path
    ports: Ports
    keys: Secrets

    @property
    def settings(self) -> dict[str, str]:
        """What reaches them."""
        return {
            "HISTILL_S3__ENDPOINT": f"{HOST}:{self.ports.s3}",
            "HISTILL_S3__ACCESS_KEY": self.keys.s3_access_key,
            "HISTILL_S3__SECRET_KEY": self.keys.s3_secret_key,
            "HISTILL_REDIS__URL": f"redis://:{self.keys.valkey_password}@{HOST}:{self.ports.valkey}/0",
        }


@dataclass(frozen=True)
class Trial:
    """How an image is started.

    Attributes:
        settings: Its environment.
        folders: That it may write, besides /tmp.
        volumes: Where those lie on this machine.
        ready: Whether it says so, as the kubelet would ask.
    """

    target: str
    settings: dict[str, str]
    folders: tuple[str, ...]
    volumes: Path
    ready: Callable[[], bool]


def trials(servers: Servers) -> list[Trial]:
    """One for each image, on free ports."""
    ports, keys = servers.ports, servers.keys
    places = {name: f"{HOST}:{getattr(ports, name)}" for name in ("jobs", "registry", "inference")}
    return [
        *(_service(name, servers) for name in places),
        _web(servers, places),
        _worker(servers),
        Trial(
            "cli",
            {
                **{k: v for k, v in servers.settings.items() if k.startswith("HISTILL_S3__")},
                "HISTILL_CLIENT__API_KEY": keys.api_key,
                **{f"HISTILL_CLIENT__{name.upper()}": place for name, place in places.items()},
            },
            (),
            servers.volumes / "cli",
            lambda: True,
        ),
    ]


def _service(name: str, servers: Servers) -> Trial:
    holder = {"id": "check", "sha256": servers.keys.api_key_sha256, "role": "admin"}
    health = _free_port()
    own = {
        "HISTILL_SERVER__PORT": str(getattr(servers.ports, name)),
        "HISTILL_SERVER__METRICS_PORT": str(getattr(servers.ports, f"{name}_metrics")),
        "HISTILL_SERVER__HEALTH_PORT": str(health),
        "HISTILL_AUTH__API_KEYS": json.dumps([holder]),
        "HISTILL_AUTH__SEAL": servers.keys.seal,
    }
    folders = (f"{_DATA}/audit", *([f"{_DATA}/scratch"] if name == "registry" else []))
    settings = servers.settings | own
    return Trial(name, settings, folders, servers.volumes / name, lambda: probed(health))


def _web(servers: Servers, places: dict[str, str]) -> Trial:
    port = servers.ports.web
    settings = {
        "HISTILL_WEB__PORT": str(port),
        "HISTILL_WEB__METRICS_PORT": str(servers.ports.web_metrics),
        **{f"HISTILL_WEB__{name.upper()}": place for name, place in places.items()},
    }
    return Trial("web", settings, (), servers.volumes / "web", lambda: answers(port, "/healthz"))


def _worker(servers: Servers) -> Trial:
    health = _free_port()
    settings = servers.settings | {
        "HISTILL_WORKER__METRICS_PORT": str(servers.ports.worker_metrics),
        "HISTILL_WORKER__HEALTH_PORT": str(health),
    }
    folders = (f"{_DATA}/scratch", f"{_DATA}/cache")
    return Trial("worker", settings, folders, servers.volumes / "worker", lambda: probed(health))


def probed(port: int) -> bool:
    """Whether the health server on a port tells both liveness and readiness."""
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            told = [
                stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=_PROBE_S).status
                for name in ("liveness", "")
            ]
        except grpc.RpcError:
            return False
    return told == [health_pb2.HealthCheckResponse.SERVING] * 2


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        return int(bound.getsockname()[1])

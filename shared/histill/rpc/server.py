"""Starts a gRPC server, keeps its health true, and drains it at SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from histill.core.errors import HistillError, SettingsError
from histill.rpc.interceptor import ServerInterceptor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from histill.core.settings import ServerSettings, ServiceSettings, TlsSettings

READY_EVERY_S = 2.0
_READY_TIMEOUT_S = 5.0
log = structlog.get_logger()


@dataclass(frozen=True)
class ServiceDescription:
    """What is served.

    Attributes:
        process: Name for logs.
        port: Taken when the settings say 0.
        metrics_port: Taken when the settings say 0.
        names: Full names of the gRPC services, for health and reflection.
        register: Adds the servicers to a server.
        ready: Returns when the service can do its work; raises a HistillError else.
        drain: Called once when the service must stop, before running calls are waited for.
    """

    process: str
    port: int
    metrics_port: int
    names: tuple[str, ...]
    register: Callable[[grpc.aio.Server], None]
    ready: Callable[[], Awaitable[None]]
    drain: Callable[[], None] = lambda: None


async def serve(settings: ServiceSettings, service: ServiceDescription) -> None:
    """Serves until SIGTERM or SIGINT, then drains and returns.

    Raises:
        SettingsError: A port is taken or a TLS file cannot be read.
    """
    server = grpc.aio.server(
        interceptors=[ServerInterceptor(settings.auth)], options=_options(settings.server)
    )
    service.register(server)
    checks = health.aio.HealthServicer()
    # It begins with SERVING, which nobody has found out yet.
    await _set_health(checks, service, ready=False)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflected = (*service.names, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(reflected, server)
    port = settings.server.port or service.port
    _listen(server, f"{settings.server.host}:{port}", settings.tls)
    _serve_metrics(settings.server, service)
    await server.start()
    log.info("serving", process=service.process, port=port, tls=bool(settings.tls.certificate))
    stopped = _stop_event()
    watcher = asyncio.create_task(_keep_health(checks, service))
    await stopped.wait()
    watcher.cancel()
    await checks.enter_graceful_shutdown()
    service.drain()
    log.info("draining", process=service.process)
    await server.stop(settings.server.drain_s)
    log.info("stopped", process=service.process)


def _options(server: ServerSettings) -> Sequence[tuple[str, int]]:
    return (
        ("grpc.max_receive_message_length", server.max_message_bytes),
        ("grpc.max_send_message_length", server.max_message_bytes),
        # Without it two servers share a port silently and each gets half the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    )


def _listen(server: grpc.aio.Server, address: str, tls: TlsSettings) -> None:
    try:
        if tls.certificate:
            bound = server.add_secure_port(address, _credentials(tls))
        else:
            bound = server.add_insecure_port(address)
    except (RuntimeError, OSError) as exc:
        raise SettingsError(
            f"cannot listen on {address}: {exc}; is the port taken? set HISTILL_SERVER__PORT, "
            "or correct HISTILL_TLS__*"
        ) from exc
    if bound == 0:
        raise SettingsError(f"cannot listen on {address}; set HISTILL_SERVER__PORT")


def _credentials(tls: TlsSettings) -> grpc.ServerCredentials:
    pair = (Path(tls.key).read_bytes(), Path(tls.certificate).read_bytes())
    authority = Path(tls.client_ca).read_bytes() if tls.client_ca else None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=bool(authority))


def _serve_metrics(server: ServerSettings, service: ServiceDescription) -> None:
    port = server.metrics_port or service.metrics_port
    if port < 0:
        return
    try:
        start_http_server(port, server.host)
    except OSError as exc:
        raise SettingsError(
            f"cannot listen on {server.host}:{port} for metrics: {exc.strerror}; "
            "set HISTILL_SERVER__METRICS_PORT"
        ) from exc


def _stop_event() -> asyncio.Event:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


async def _keep_health(checks: health.aio.HealthServicer, service: ServiceDescription) -> None:
    """Tells the truth every two seconds: SERVING only while ``ready`` succeeds."""
    before: bool | None = None
    while True:
        now = await _is_ready(service)
        if now != before:
            await _set_health(checks, service, ready=now)
            log.info("readiness", process=service.process, ready=now)
            before = now
        await asyncio.sleep(READY_EVERY_S if now else READY_EVERY_S / 4)


async def _set_health(
    checks: health.aio.HealthServicer, service: ServiceDescription, *, ready: bool
) -> None:
    answer = health_pb2.HealthCheckResponse
    for name in ("", *service.names):
        await checks.set(name, answer.SERVING if ready else answer.NOT_SERVING)


async def _is_ready(service: ServiceDescription) -> bool:
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            await service.ready()
    except (HistillError, TimeoutError) as exc:
        log.warning("not_ready", process=service.process, why=str(exc) or "no answer in time")
        return False
    except Exception:
        # The watcher outlives whatever a check raises: health must never freeze.
        log.exception("readiness_check_crashed", process=service.process)
        return False
    return True

"""Starts a gRPC server, keeps its health true, and drains it at SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_reflection.v1alpha import reflection

from histill.core.errors import HistillError, SettingsError
from histill.rpc import measures
from histill.rpc.addresses import joined
from histill.rpc.audit_interceptor import AuditInterceptor
from histill.rpc.expected import expect_calls
from histill.rpc.gate import Gate
from histill.rpc.health import HealthServer
from histill.rpc.health_checks import HealthChecks
from histill.rpc.interceptor import ServerInterceptor
from histill.rpc.metrics import start_metrics
from histill.rpc.options import server_options
from histill.rpc.tls import reloading_credentials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from histill.core.service_settings import ServerSettings, TlsSettings
    from histill.core.settings import ServiceSettings
    from histill.rpc.audit import Audit
    from histill.rpc.stored_keys import StoredKeys

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
        health_port: Taken when the settings say 0; -1: none.
    """

    process: str
    port: int
    metrics_port: int
    names: tuple[str, ...]
    register: Callable[[grpc.aio.Server], None]
    ready: Callable[[], Awaitable[None]]
    drain: Callable[[], None] = lambda: None
    health_port: int = -1


async def serve(
    settings: ServiceSettings,
    service: ServiceDescription,
    *,
    keys: StoredKeys | None = None,
    audit: Audit | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then lingers, drains and returns.

    While it lingers it says that it is not ready, and serves whoever has not heard yet.

    Args:
        settings: Ports, limits, keys, certificates.
        service: What is served.
        keys: Keys that come and go, besides those of the settings.
        audit: Where calls are recorded.

    Raises:
        SettingsError: A port is taken or a TLS file cannot be read.
    """
    gate = Gate(settings.auth, keys, settings.server.limits)
    around = [AuditInterceptor(audit)] if audit else []
    server = grpc.aio.server(
        interceptors=[*around, ServerInterceptor(gate, settings.server.limits)],
        options=server_options(settings.server),
        maximum_concurrent_rpcs=settings.server.limits.concurrent_calls,
    )
    service.register(server)
    expect_calls(service.names)
    checks = HealthChecks(("", *service.names))
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflected = (*service.names, HEALTH, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(reflected, server)
    port = settings.server.port or service.port
    _listen(server, joined(settings.server.host, port), settings.tls)
    _serve_metrics(settings.server, service)
    async with _health_server(settings.server, service) as outside:
        with keys.followed() if keys else nullcontext():
            await server.start()
            log.info(
                "serving", process=service.process, port=port, tls=bool(settings.tls.certificate)
            )
            signals = _signals()
            watcher = asyncio.create_task(_keep_health(checks, outside, service))
            await signals.get()
            watcher.cancel()
            _tell(checks, outside, service, ready=False)
            await _linger(settings.server.linger_s, signals, service)
            service.drain()
            log.info("draining", process=service.process)
            await server.stop(settings.server.drain_s)
    if audit:
        audit.strangers.flush()
    log.info("stopped", process=service.process)


@asynccontextmanager
async def _health_server(
    server: ServerSettings, service: ServiceDescription
) -> AsyncIterator[HealthServer | None]:
    port = server.health_port or service.health_port
    if port < 0:
        yield None
        return
    outside = HealthServer(server.host, port, service.names, server.health_silence_s)
    await outside.start()
    beating = asyncio.create_task(outside.run())
    try:
        yield outside
    finally:
        beating.cancel()
        await asyncio.to_thread(outside.stop)


def _listen(server: grpc.aio.Server, address: str, tls: TlsSettings) -> None:
    try:
        if tls.certificate:
            bound = server.add_secure_port(address, reloading_credentials(tls))
        else:
            bound = server.add_insecure_port(address)
    except (RuntimeError, OSError) as exc:
        raise SettingsError(
            f"cannot listen on {address}: {exc}; is the port taken? set HISTILL_SERVER__PORT, "
            "or correct HISTILL_TLS__*"
        ) from exc
    if bound == 0:
        raise SettingsError(f"cannot listen on {address}; set HISTILL_SERVER__PORT")


def _serve_metrics(server: ServerSettings, service: ServiceDescription) -> None:
    port = server.metrics_port or service.metrics_port
    if port < 0:
        return
    try:
        start_metrics(port, server.host)
    except OSError as exc:
        raise SettingsError(
            f"cannot listen on {server.host}:{port} for metrics: {exc.strerror}; "
            "set HISTILL_SERVER__METRICS_PORT"
        ) from exc


def _signals() -> asyncio.Queue[int]:
    """Each signal that asks us to stop, as it comes."""
    came: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, came.put_nowait, number)
    return came


async def _linger(seconds: float, signals: asyncio.Queue[int], service: ServiceDescription) -> None:
    """Goes on serving for a while; whoever is in a hurry sends a second signal."""
    if not seconds:
        return
    log.info("lingering", process=service.process, seconds=seconds)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await signals.get()


async def _keep_health(
    checks: HealthChecks, outside: HealthServer | None, service: ServiceDescription
) -> None:
    """Tells the truth every two seconds: SERVING only while ``ready`` succeeds."""
    before: bool | None = None
    # Whoever never becomes ready must be told of, too.
    measures.READY.labels(service.process).set(0)
    while True:
        now = await _is_ready(service)
        if now != before:
            _tell(checks, outside, service, ready=now)
            log.info("readiness", process=service.process, ready=now)
            before = now
        await asyncio.sleep(READY_EVERY_S if now else READY_EVERY_S / 4)


def _tell(
    checks: HealthChecks,
    outside: HealthServer | None,
    service: ServiceDescription,
    *,
    ready: bool,
) -> None:
    checks.tell(("", *service.names), serving=ready)
    if outside:
        outside.tell(ready=ready)
    measures.READY.labels(service.process).set(ready)


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

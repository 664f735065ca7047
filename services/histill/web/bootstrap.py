"""Puts the web process together and serves until SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import structlog
import uvicorn

from histill.core.errors import SettingsError
from histill.rpc.metrics import start_metrics
from histill.rpc.tls import tell_client_certificate
from histill.web.app import make_app, routes_of
from histill.web.backends import Backends
from histill.web.connections import MOST_HEAD_BYTES, Connection
from histill.web.measures import Measured, expect
from histill.web.tracing import traced

if TYPE_CHECKING:
    from histill.web.settings import WebPart, WebSettings

log = structlog.get_logger()
_DRAIN_S = 5


async def run(settings: WebSettings) -> None:
    """Serves until told to stop.

    Raises:
        SettingsError: A port is taken.
    """
    part = settings.web
    backends = Backends(part)
    if part.certificate:
        tell_client_certificate(part.certificate)
    routes = routes_of(backends, part)
    expect(routes)
    config = uvicorn.Config(
        traced(Measured(make_app(routes, part))),
        host=part.host,
        port=part.port,
        log_config=None,
        access_log=False,
        server_header=False,
        # Whoever else says on whose behalf it asks, is taken for the one who asks.
        proxy_headers=bool(part.trusted_proxies),
        forwarded_allow_ips=list(part.trusted_proxies),
        http=Connection,
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=_DRAIN_S,
    )
    server = uvicorn.Server(config)
    # uvicorn raises the signal that stopped it once more when it has drained; with a
    # handler of our own that no longer ends the process with the signal's exit code.
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, log.info, "signal")
    _serve_metrics(part)
    log.info("serving", port=part.port)
    try:
        await server.serve()
    except SystemExit as exc:
        raise SettingsError(
            f"cannot listen on {part.host}:{part.port}; set HISTILL_WEB__PORT"
        ) from exc
    finally:
        await backends.close()
    log.info("stopped")


def _serve_metrics(part: WebPart) -> None:
    if part.metrics_port < 0:
        return
    try:
        start_metrics(part.metrics_port, part.host)
    except OSError as exc:
        raise SettingsError(
            f"cannot listen on {part.host}:{part.metrics_port} for metrics: {exc.strerror}; "
            "set HISTILL_WEB__METRICS_PORT"
        ) from exc

"""Channels to the services: credentials on every call, bounded messages, safe retries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from histill.rpc.client_spans import CallDetails, ProgramSpans
from histill.rpc.client_spans_aio import interceptors
from histill.rpc.service_config import service_config

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_MESSAGE_BYTES = 64 << 20
_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", service_config()),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A message that is not kept cannot be sent again; by default only 256 KiB are.
    ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Without it the wait for the answer is a minute.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # Replicas come and go; by default a name is looked up every 30 s at most.
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
]


class _SyncBearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds the API key to every call; call credentials would refuse channels without TLS."""

    def __init__(self, api_key: str) -> None:
        self._header = ("authorization", f"Bearer {api_key}")

    def _call(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(CallDetails.of(details, self._header), request)

    intercept_unary_unary: Any = _call
    intercept_unary_stream: Any = _call
    intercept_stream_unary: Any = _call
    intercept_stream_stream: Any = _call


@dataclass(frozen=True)
class ChannelTls:
    """PEM files of a channel; without an authority it is in clear text.

    Attributes:
        ca_file: Of the authority that signed the server's certificate.
        certificate: Our own, where the server asks for one (mTLS).
        key: Of our certificate.
    """

    ca_file: str = ""
    certificate: str = ""
    key: str = ""

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Reads the files; ``None`` in clear text.

        Raises:
            OSError: A file cannot be read.
        """
        if not self.ca_file:
            return None
        return grpc.ssl_channel_credentials(
            Path(self.ca_file).read_bytes(),
            Path(self.key).read_bytes() if self.key else None,
            Path(self.certificate).read_bytes() if self.certificate else None,
        )


CLEAR = ChannelTls()


def sync_channel(target: str, *, api_key: str = "", tls: ChannelTls = CLEAR) -> grpc.Channel:
    """A channel for threads.

    Args:
        target: ``host:port``, or another of gRPC's names (``dns:///replicas:50053``).
        api_key: Sent as a bearer token with every call.
        tls: Its files.
    """
    if trust := tls.credentials():
        channel = grpc.secure_channel(target, trust, options=_OPTIONS)
    else:
        channel = grpc.insecure_channel(target, options=_OPTIONS)
    around = [_SyncBearer(api_key)] if api_key else []
    return grpc.intercept_channel(channel, ProgramSpans(), *around)


def channel(
    target: str, *, tls: ChannelTls = CLEAR, further: Sequence[tuple[str, Any]] = ()
) -> grpc.aio.Channel:
    """A channel for asyncio; the API key is the caller's to send (``bearer``).

    Args:
        target: As of ``sync_channel``.
        tls: Its files.
        further: gRPC's options that count before ours.
    """
    options = list((dict(_OPTIONS) | dict(further)).items())
    if trust := tls.credentials():
        return grpc.aio.secure_channel(target, trust, options, interceptors=interceptors())
    return grpc.aio.insecure_channel(target, options, interceptors=interceptors())


def bearer(api_key: str) -> tuple[tuple[str, str], ...]:
    """Metadata that carries an API key; empty when there is none."""
    return (("authorization", f"Bearer {api_key}"),) if api_key else ()

"""What a server allows a connection, in gRPC's own words.

Source: https://github.com/grpc/grpc/blob/master/include/grpc/impl/channel_arg_names.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from histill.core.service_settings import ServerSettings


# Of the time for which a stopping server lingers, a connection lives at most so much.
_OF_LINGER = 1 / 3


def server_options(server: ServerSettings) -> tuple[tuple[str, int], ...]:
    """Channel arguments of a server."""
    limits, connection = server.limits, server.connection
    return (
        ("grpc.max_receive_message_length", server.max_message_bytes),
        ("grpc.max_send_message_length", server.max_message_bytes),
        # Without it two servers share a port silently and each gets half the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", limits.concurrent_streams),
        # gRPC refuses at random between the first and the second: one bound for everyone.
        ("grpc.max_metadata_size", limits.metadata_bytes),
        ("grpc.absolute_max_metadata_size", limits.metadata_bytes),
        ("grpc.server_handshake_timeout_ms", _ms(limits.handshake_s)),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(limits.ping_interval_s)),
        ("grpc.http2.max_ping_strikes", limits.ping_strikes),
        ("grpc.keepalive_time_ms", _ms(connection.keepalive_s)),
        ("grpc.keepalive_timeout_ms", _ms(connection.keepalive_timeout_s)),
        # The wait for any ping's answer, which holds for keepalive too.
        ("grpc.http2.ping_timeout_ms", _ms(connection.keepalive_timeout_s)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_connection_idle_ms", _ms(connection.idle_s)),
        ("grpc.max_connection_age_ms", _ms(_age_s(server))),
        ("grpc.max_connection_age_grace_ms", _ms(connection.grace_s)),
    )


def _age_s(server: ServerSettings) -> float:
    """How long a connection lives.

    gRPC cancels calls that reach a server between its last word and the client's hearing of it.
    Connections that end by age lose none, so all of them must have ended before the server
    stops: those that were made while clients still had its address, too.
    """
    age_s = server.connection.age_s
    return min(age_s, server.linger_s * _OF_LINGER) if server.linger_s else age_s


def _ms(seconds: float) -> int:
    return max(1, round(1000 * seconds))

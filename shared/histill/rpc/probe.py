"""Asks a service's standard health service whether it is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    import grpc


def is_serving(channel: grpc.Channel, *, timeout_s: float) -> bool:
    """Whether the service says SERVING.

    Raises:
        grpc.RpcError: It does not answer in time.
    """
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

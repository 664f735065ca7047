"""What clients may be told of where a service is: names with several addresses, and lists."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from free_ports import free_port
from histill.client import ClientSettings
from histill.client.client import open_channel
from histill.client.settings import load_client
from names import named

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "histill-inference-headless"
ADDRESSES = ("127.0.0.2", "127.0.0.3")
AUTHORITY = trustme.CA()


class Counting(HealthServicer):
    """Counts the calls of one replica."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the API's name
        self.calls += 1
        return super().Check(request, context)


@contextmanager
def replicas(*, tls: tuple[str, ...] = ()) -> Iterator[tuple[int, list[Counting]]]:
    """A server at each address, on one port; with certificates of some names."""
    port, counting = free_port(), [Counting() for _ in ADDRESSES]
    with ExitStack() as stack:
        for address, servicer in zip(ADDRESSES, counting, strict=True):
            server = grpc.server(ThreadPoolExecutor(2))
            health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
            if tls:
                made = AUTHORITY.issue_cert(*tls)
                chain = b"".join(pem.bytes() for pem in made.cert_chain_pems)
                pair = (made.private_key_pem.bytes(), chain)
                server.add_secure_port(f"{address}:{port}", grpc.ssl_server_credentials([pair]))
            else:
                server.add_insecure_port(f"{address}:{port}")
            server.start()
            stack.callback(server.stop, None)
        yield port, counting


def ask(settings: ClientSettings, times: int = 20) -> None:
    with open_channel(settings.inference, settings) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for _ in range(times):
            stub.Check(health_pb2.HealthCheckRequest(), timeout=10)


def test_calls_go_to_every_address_of_a_name() -> None:
    """In turn, so that no replica idles while others are full."""
    with replicas() as (port, counting), named() as name:
        name.addresses.extend(ADDRESSES)
        ask(ClientSettings(inference=name.target(port, host=NAME)), times=40)
    assert min(each.calls for each in counting) >= 10


def test_calls_go_to_every_address_of_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no name, the variable takes all addresses."""
    with replicas() as (port, counting):
        target = "ipv4:" + ",".join(f"{address}:{port}" for address in ADDRESSES)
        monkeypatch.setenv("HISTILL_CLIENT__INFERENCE", target)
        ask(load_client(), times=40)
    assert min(each.calls for each in counting) >= 10


@pytest.mark.parametrize("shown", [NAME, "somebody-else"])
def test_certificates_are_checked_against_the_name(tmp_path: Path, shown: str) -> None:
    """Not against the addresses that it has, nor the DNS server that told them."""
    authority = tmp_path / "ca.crt"
    authority.write_bytes(AUTHORITY.cert_pem.bytes())
    with replicas(tls=(shown,)) as (port, counting), named() as name:
        name.addresses.extend(ADDRESSES)
        target = name.target(port, host=NAME)
        settings = ClientSettings(inference=target, ca_file=str(authority))
        if shown == NAME:
            ask(settings)
        else:
            with pytest.raises(grpc.RpcError) as refused:
                ask(settings)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert (sum(each.calls for each in counting) == 20) is (shown == NAME)

"""Which calls are made again."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from histill.api.access.v1 import access_service_pb2
from histill.api.distillation.v1 import distillation_service_pb2
from histill.api.privacy.v1 import privacy_service_pb2
from histill.api.registry.v1 import registry_service_pb2
from histill.rpc.channel import sync_channel
from histill.rpc.service_config import NEVER, REPEATABLE, service_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILES = (access_service_pb2, distillation_service_pb2, privacy_service_pb2, registry_service_pb2)
# Twice is not the same as once for these, though nothing is lost: the second finds nothing.
ONLY_IF_NOT_REACHED = {
    "DeleteJob",
    "DeleteModel",
    "DeleteDataset",
    "SetAlias",
    "DeleteAlias",
}


def test_every_method_was_thought_of() -> None:
    """A new method is repeatable, never repeated, or repeated where nobody was reached."""
    served = {
        method.name
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    kinds = [
        {name for methods in REPEATABLE.values() for name in methods},
        {name for methods in NEVER.values() for name in methods},
        ONLY_IF_NOT_REACHED,
    ]
    assert set.union(*kinds) == served
    assert sum(map(len, kinds)) == len(served)


def test_the_names_are_those_of_the_api() -> None:
    """A misspelled one would leave its method to the rule for all."""
    served = {
        (service.full_name, method.name)
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    named = {
        (name["service"], name["method"])
        for config in json.loads(service_config())["methodConfig"]
        for name in config["name"]
        if "method" in name
    }
    assert named <= served


@pytest.mark.parametrize(
    ("method", "tries"),
    [
        ("/histill.api.registry.v1.RegistryService/DeleteModel", 1),
        ("/histill.api.privacy.v1.PrivacyService/Purge", 1),
        ("/histill.api.registry.v1.RegistryService/GetModel", 2),
        ("/inference.GRPCInferenceService/ModelInfer", 2),
    ],
)
def test_what_a_stopping_server_cancelled_is_only_repeated_where_that_is_harmless(
    method: str, tries: int, answering: Callable[[str, grpc.StatusCode], tuple[str, list[str]]]
) -> None:
    """A cancelled call may have taken effect."""
    target, calls = answering(method, grpc.StatusCode.CANCELLED)
    with sync_channel(target) as channel:
        ask: Any = channel.unary_unary(method)
        if tries == 1:
            with pytest.raises(grpc.RpcError) as caught:
                ask(b"", timeout=20)
            assert isinstance(caught.value, grpc.Call)
            assert caught.value.code() is grpc.StatusCode.CANCELLED
        else:
            assert ask(b"", timeout=20) == b"done"
    assert len(calls) == tries


@pytest.fixture
def answering() -> Iterator[Callable[[str, grpc.StatusCode], tuple[str, list[str]]]]:
    """Starts a server whose method fails once with a code, then answers."""
    servers: list[grpc.Server] = []

    def start(method: str, code: grpc.StatusCode) -> tuple[str, list[str]]:
        calls: list[str] = []

        def handle(_: bytes, context: grpc.ServicerContext) -> bytes:
            calls.append(method)
            if len(calls) == 1:
                context.abort(code, "stopping")
            return b"done"

        service, _, name = method.removeprefix("/").partition("/")
        handlers: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(handle)}
        server = grpc.server(ThreadPoolExecutor(1))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}", calls

    yield start
    for server in servers:
        server.stop(None)

"""Keys and tokens against every method of the real services, and how fast they come and go."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from typer.testing import CliRunner

from conftest import end, run_s3, wait_for_port
from free_ports import free_port
from histill.adapters.s3 import S3ObjectStore
from histill.api.access.v1 import access_service_pb2
from histill.api.distillation.v1 import distillation_service_pb2
from histill.api.inference.v2 import grpc_service_pb2
from histill.api.privacy.v1 import privacy_service_pb2
from histill.api.registry.v1 import registry_service_pb2
from histill.api.segmentation.v1 import segmentation_service_pb2
from histill.cli.app import app
from histill.core import access
from histill.core.api_keys import new_secret
from histill.core.errors import (
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from histill.embedded.servers import start_s3
from histill.rpc.roles import RANKS, ROLES
from issuers import AUDIENCE, Issuer, serving
from services import KEY, client_of, service, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import S3, Valkey
    from histill.client import Client
    from services import Service

FILES: dict[str, list[Any]] = {
    "registry": [registry_service_pb2, access_service_pb2],
    "jobs": [distillation_service_pb2, privacy_service_pb2],
    "inference": [segmentation_service_pb2, grpc_service_pb2],
}
SEAL = "s" * 40
BOUND_S = 5.0
CODES = grpc.StatusCode


@dataclass
class House:
    """The three services and what they share.

    Attributes:
        secrets: Stored keys by what is the matter with them.
    """

    services: dict[str, Service]
    objects: S3ObjectStore
    issuer: Issuer
    secrets: dict[str, str]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, s3: S3, valkey: Valkey) -> Iterator[House]:
    """Jobs, registry and inference, with an issuer, over a bucket of their own."""
    folder = tmp_path_factory.mktemp("house")
    objects = S3ObjectStore.connect(s3.settings.model_copy(update={"bucket": "access"}))
    objects.ensure_bucket()
    issuer = Issuer()
    issuer.rotate("k1")
    with serving(issuer):
        variables = settings_of(s3.settings, valkey.settings) | {
            "HISTILL_S3__BUCKET": "access",
            "HISTILL_AUTH__OIDC__ISSUER": issuer.url,
            "HISTILL_AUTH__OIDC__AUDIENCE": AUDIENCE,
            "HISTILL_AUTH__OIDC__ROLES": json.dumps({"staff": "viewer", "chief": "admin"}),
            "HISTILL_AUTH__OIDC__PROJECT_CLAIM": "project",
            "HISTILL_SERVER__LIMITS__FAILURES_PER_MINUTE": "0",
            "HISTILL_AUTH__SEAL": SEAL,
        }
        secrets: dict[str, str] = {role: stored(objects, role) for role in RANKS}
        secrets["expired"] = stored(objects, "admin", age=timedelta(hours=2))
        secrets["revoked"] = stored(objects, "admin", revoked=True)
        secrets["forged"] = stored(objects, "admin", seal=None)
        with (
            service("registry", folder, variables) as registry,
            service("jobs", folder, variables) as jobs,
            service("inference", folder, variables) as inference,
        ):
            running = {"registry": registry, "jobs": jobs, "inference": inference}
            for each in running.values():
                each.wait()
            yield House(running, objects, issuer, secrets)


def stored(
    objects: S3ObjectStore,
    role: Any,
    *,
    age: timedelta = timedelta(0),
    revoked: bool = False,
    seal: str | None = SEAL,
) -> str:
    now = datetime.now(UTC)
    key_seal = seal.encode() if seal else None
    key, secret = access.create(
        objects, role=role, project="default", description="a test", ttl=timedelta(hours=1),
        creator="test", now=now - age, seal=key_seal,
    )  # fmt: skip
    if revoked:
        access.revoke(objects, key.id, now=now, may=lambda _: True, seal=key_seal)
    return secret


def methods() -> list[tuple[str, str, bool, bool]]:
    """Service, full method, and whether requests and answers are streams."""
    found = []
    for name, files in FILES.items():
        for module in files:
            file = descriptor_pb2.FileDescriptorProto()
            module.DESCRIPTOR.CopyToProto(file)
            found += [
                (
                    name,
                    f"/{file.package}.{each.name}/{method.name}",
                    method.client_streaming,
                    method.server_streaming,
                )
                for each in file.service
                for method in each.method
            ]
    return found


def code_of(target: str, method: tuple[str, str, bool, bool], credential: str | None) -> CODES:
    """How the real server answers an empty request."""
    _, path, asks, answers = method
    metadata = () if credential is None else (("authorization", f"Bearer {credential}"),)
    request: Any = iter([b""]) if asks else b""
    with grpc.insecure_channel(target) as channel:
        kind = f"{'stream' if asks else 'unary'}_{'stream' if answers else 'unary'}"
        call = getattr(channel, kind)(path)
        try:
            answer = call(request, metadata=metadata, timeout=10)
            if answers:
                next(answer, None)
                answer.cancel()
        except grpc.RpcError as exc:
            return CODES.UNKNOWN if not isinstance(exc, grpc.Call) else exc.code()
    return CODES.OK


def target(house: House, name: str) -> str:
    return f"127.0.0.1:{house.services[name].port}"


def test_the_list_of_methods_is_whole() -> None:
    """What is called below is what the table knows."""
    assert {path for _, path, _, _ in methods()} == set(ROLES)


@pytest.mark.parametrize("method", methods(), ids=lambda m: m[1].rpartition(".")[2])
def test_every_method_of_the_real_services_refuses_who_may_not(
    house: House, method: tuple[str, str, bool, bool]
) -> None:
    """Without, with wrong, damaged, expired or revoked credentials, and with too low a role."""
    at = target(house, method[0])
    wrong = {
        "missing": None,
        "unknown": new_secret(),
        "malformed": "hunter2",
        "damaged": house.secrets["admin"][:-1],
        "expired": house.secrets["expired"],
        "revoked": house.secrets["revoked"],
        "put into the store": house.secrets["forged"],
        "expired token": house.issuer.token(roles="chief", project="default", exp=1),
        "token for another": house.issuer.token(roles="chief", project="default", aud="x"),
    }
    codes = {words: code_of(at, method, credential) for words, credential in wrong.items()}
    assert codes == dict.fromkeys(wrong, CODES.UNAUTHENTICATED)
    refusing = {CODES.UNAUTHENTICATED, CODES.PERMISSION_DENIED}
    for role, rank in RANKS.items():
        code = code_of(at, method, house.secrets[role])
        if rank < RANKS[ROLES[method[1]]]:
            assert code is CODES.PERMISSION_DENIED, role
        else:
            assert code not in refusing, role
    assert code_of(at, method, house.issuer.token(roles="chief", project="default")) not in refusing
    for token in (
        house.issuer.token(roles="nobody", project="default"),
        house.issuer.token(roles="chief", project="../default"),
        house.issuer.token(roles="chief"),
    ):
        assert code_of(at, method, token) is CODES.PERMISSION_DENIED


def seconds_until(what: Callable[[], bool]) -> float:
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < BOUND_S, f"not within {BOUND_S} s"
        time.sleep(0.02)
    return time.monotonic() - started


def methods_by_service() -> dict[str, tuple[str, str, bool, bool]]:
    """One method of each service that a viewer may call."""
    return {
        method[0]: method
        for method in reversed(methods())
        if ROLES[method[1]] == "viewer" and not method[2] and not method[3]
    }


def test_a_key_comes_and_goes_everywhere_within_the_bound(house: House) -> None:
    """Made through the SDK it works in all three services, and revoked it stops, in 5 s each."""
    with client_of(registry=house.services["registry"]) as client:
        key, secret = client.keys.create(role="viewer", description="comes and goes")
        for name, method in methods_by_service().items():
            seconds_until(
                lambda n=name, m=method: (  # type: ignore[misc]
                    code_of(target(house, n), m, secret) is not CODES.UNAUTHENTICATED
                )
            )
        assert client.keys.revoke(key.key_id).HasField("revoke_time")
        for name, method in methods_by_service().items():
            seconds_until(
                lambda n=name, m=method: (  # type: ignore[misc]
                    code_of(target(house, n), m, secret) is CODES.UNAUTHENTICATED
                )
            )


def test_keys_are_listed_without_their_secrets(house: House) -> None:
    """Page by page, newest first, ended ones too."""
    with client_of(registry=house.services["registry"]) as client:
        made = [client.keys.create(role="viewer", description=f"n{n}") for n in range(3)]
        keys = list(client.keys.list())
        stub = client.keys._stub
        first = stub.ListKeys(access_service_pb2.ListKeysRequest(page_size=2))
        rest = stub.ListKeys(
            access_service_pb2.ListKeysRequest(page_size=1000, page_token=first.next_page_token)
        )
    assert [key.description for key in keys[:3]] == ["n2", "n1", "n0"]
    assert [*first.keys, *rest.keys] == keys
    assert any(key.HasField("revoke_time") for key in keys)
    assert all(secret not in str(keys) for _, secret in made)


def admin_of(house: House, project: str) -> Client:
    """A client with an admin key of a project, once it works."""
    with client_of(registry=house.services["registry"]) as client:
        _, secret = client.keys.create(role="admin", project=project, description="its admin")
    own = client_of(registry=house.services["registry"], key=secret)

    def works() -> bool:
        try:
            list(own.keys.list())
        except UnauthenticatedError:
            return False
        return True

    seconds_until(works)
    return own


def test_an_admin_of_a_project_rules_there_only(house: House) -> None:
    """Sees, makes and ends keys of its own project, and learns of no other."""
    with client_of(registry=house.services["registry"]) as root, admin_of(house, "team-a") as own:
        foreign, _ = root.keys.create(role="viewer", project="team-b", description="theirs")
        mine, _ = own.keys.create(role="operator", description="ours")
        assert (mine.project, mine.creator) != ("default", "test")
        assert {key.project for key in own.keys.list()} == {"team-a"}
        with pytest.raises(PermissionDeniedError, match="team-b is not yours"):
            own.keys.create(role="viewer", project="team-b", description="x")
        with pytest.raises(PermissionDeniedError):
            list(own.keys.list(project="team-b"))
        with pytest.raises(NotFoundError) as hidden:
            own.keys.revoke(foreign.key_id)
        with pytest.raises(NotFoundError) as nothing:
            own.keys.revoke("0" * 16)
        assert str(hidden.value).replace(foreign.key_id, "0" * 16) == str(nothing.value)
        assert own.keys.revoke(mine.key_id).HasField("revoke_time")
        assert root.keys.revoke(foreign.key_id).HasField("revoke_time")


def test_wrong_orders_name_their_fields(house: House) -> None:
    """Role, project, description and end."""
    with client_of(registry=house.services["registry"]) as client:
        for changes, field in (
            ({"project": "No Name"}, "project"),
            ({"description": ""}, "description"),
            ({"description": "x" * 201}, "description"),
            ({"ttl": timedelta(seconds=1)}, "ttl"),
            ({"ttl": timedelta(days=4000)}, "ttl"),
            ({"role": "king"}, "role"),
        ):
            order: dict[str, Any] = {"role": "viewer", "description": "d", **changes}
            with pytest.raises(InvalidArgumentError) as caught:
                client.keys.create(**order)
            assert caught.value.violations[0].field == field


def test_the_command_line_makes_lists_and_revokes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The secret stands alone on standard output; the list tells the state."""
    monkeypatch.setenv("HISTILL_CLIENT__REGISTRY", target(house, "registry"))
    monkeypatch.setenv("HISTILL_CLIENT__API_KEY", KEY)
    made = CliRunner().invoke(app, ["keys", "create", "the PACS", "--role", "operator"])
    assert made.exit_code == 0, made.output
    assert made.stdout.strip().startswith("hst_")
    assert len(made.stdout.split()) == 1
    listed = json.loads(CliRunner().invoke(app, ["keys", "ls", "--json"]).stdout)
    assert (listed[0]["description"], listed[0]["role"]) == ("the PACS", "KEY_ROLE_OPERATOR")
    assert made.stdout.strip() not in json.dumps(listed)
    done = CliRunner().invoke(app, ["keys", "revoke", listed[0]["key_id"]])
    assert "is revoked (the PACS)" in done.stdout
    listed = json.loads(CliRunner().invoke(app, ["keys", "ls", "--json"]).stdout)
    assert listed[0]["revoke_time"].startswith("20")


def asked(client: Client) -> tuple[str, str, str]:
    """Who a client is to the registry: id, role and project."""
    with client:
        caller = client.keys.caller()
    return caller.caller_id, access_service_pb2.KeyRole.Name(caller.role), caller.project


def test_who_calls_is_told_by_the_services(house: House) -> None:
    """A key of the settings, stored ones and a token, each with its role and its project."""
    registry = house.services["registry"]
    assert asked(client_of(registry=registry)) == ("test", "KEY_ROLE_ADMIN", "default")
    with client_of(registry=registry) as root:
        ids = {key.role: key.key_id for key in root.keys.list() if key.description == "a test"}
    for role in RANKS:
        named = f"KEY_ROLE_{role.upper()}"
        found = asked(client_of(registry=registry, key=house.secrets[role]))
        assert found[1:] == (named, "default")
        if role != "admin":  # of which there is an ended one, too
            assert found[0] == ids[access_service_pb2.KeyRole.Value(named)]
    token = house.issuer.token(project="ward-3")
    assert asked(client_of(registry=registry, key=token)) == (
        "oidc:grace", "KEY_ROLE_VIEWER", "ward-3",
    )  # fmt: skip
    with admin_of(house, "team-c") as own:
        told = own.keys.caller()
        assert told.project == "team-c"
        assert told.caller_id in {key.key_id for key in own.keys.list()}


@pytest.mark.parametrize("kind", ["", "hunter2", "expired", "revoked", "forged"])
def test_a_stranger_is_nobody(house: House, kind: str) -> None:
    """Neither an ended key nor none is told who it would be; the SDK raises its own error."""
    key = house.secrets.get(kind, kind)
    with pytest.raises(UnauthenticatedError):
        asked(client_of(registry=house.services["registry"], key=key))


def test_where_nobody_is_asked_everybody_is_an_admin(
    tmp_path: Path, s3: S3, valkey: Valkey
) -> None:
    """Mode none: anonymous, with and without a key."""
    variables = settings_of(s3.settings, valkey.settings) | {"HISTILL_AUTH__MODE": "none"}
    with service("registry", tmp_path, variables) as registry:
        registry.wait()
        for key in ("", "hunter2"):
            found = asked(client_of(registry=registry, key=key))
            assert found == ("anonymous", "KEY_ROLE_ADMIN", "default")


def test_the_command_line_tells_who_one_is(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """For people and for programs; the key itself is not shown, and a wrong one fails."""
    monkeypatch.setenv("HISTILL_CLIENT__REGISTRY", target(house, "registry"))
    monkeypatch.setenv("HISTILL_CLIENT__API_KEY", house.secrets["operator"])
    shown = CliRunner().invoke(app, ["keys", "whoami"])
    assert shown.exit_code == 0, shown.output
    assert "operator" in shown.stdout
    assert "default" in shown.stdout
    told = json.loads(CliRunner().invoke(app, ["keys", "whoami", "--json"]).stdout)
    assert set(told) == {"caller_id", "role", "project"}
    assert (told["role"], told["project"]) == ("KEY_ROLE_OPERATOR", "default")
    assert told["caller_id"] in shown.stdout
    assert house.secrets["operator"] not in shown.stdout
    monkeypatch.setenv("HISTILL_CLIENT__API_KEY", "hunter2")
    assert CliRunner().invoke(app, ["keys", "whoami"]).exit_code == 1


def test_an_open_stream_ends_with_its_key(house: House) -> None:
    """ModelStreamInfer of a revoked key answers no more, within the bound."""
    with client_of(registry=house.services["registry"]) as client:
        key, secret = client.keys.create(role="viewer", description="a stream")
        method = ("inference", "/inference.GRPCInferenceService/ServerLive", False, False)
        at = target(house, "inference")
        seconds_until(lambda: code_of(at, method, secret) is CODES.OK)
        with grpc.insecure_channel(at) as channel:
            stop: list[bool] = []

            def requests() -> Iterator[bytes]:
                while not stop:
                    yield b""
                    time.sleep(0.05)

            call: Any = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            stream = call(requests(), metadata=(("authorization", f"Bearer {secret}"),), timeout=30)
            assert next(stream) is not None
            client.keys.revoke(key.key_id)
            started = time.monotonic()
            with pytest.raises(grpc.RpcError) as caught:
                for _ in stream:
                    pass
            stop.append(True)
            assert isinstance(caught.value, grpc.Call)
            assert caught.value.code() is CODES.UNAUTHENTICATED
            assert time.monotonic() - started < BOUND_S


def test_keys_stay_in_force_while_s3_is_away(tmp_path: Path, valkey: Valkey) -> None:
    """The last known go on, and no other; a service that starts then lets in roots only."""
    own = run_s3(tmp_path / "s3")
    objects = S3ObjectStore.connect(own.settings)
    objects.ensure_bucket()
    known, ended = stored(objects, "viewer"), stored(objects, "viewer", revoked=True)
    variables = settings_of(own.settings, valkey.settings) | {"HISTILL_S3__TIMEOUT_S": "1"}
    method = ("inference", "/inference.GRPCInferenceService/ServerLive", False, False)
    server = own.server
    try:
        with service("inference", tmp_path, variables) as running:
            running.wait()
            at = f"127.0.0.1:{running.port}"
            seconds_until(lambda: code_of(at, method, known) is CODES.OK)
            end(server)
            time.sleep(3)
            assert code_of(at, method, known) is CODES.OK
            assert code_of(at, method, ended) is CODES.UNAUTHENTICATED
            assert code_of(at, method, new_secret()) is CODES.UNAUTHENTICATED
            with service("inference", tmp_path, variables) as late:
                wait_for_port(late.port)
                at = f"127.0.0.1:{late.port}"
                assert code_of(at, method, KEY) is CODES.OK
                for secret in (known, ended):
                    assert code_of(at, method, secret) is CODES.UNAVAILABLE
                assert code_of(at, method, "hunter2") is CODES.UNAUTHENTICATED
                server = start_s3(
                    own.folder, port=int(own.settings.endpoint.rpartition(":")[2]),
                    access_key="test-access", secret_key="test-secret-key",
                )  # fmt: skip
                late.wait()
                seconds_until(lambda: code_of(at, method, known) is CODES.OK)
                assert code_of(at, method, ended) is CODES.UNAUTHENTICATED
    finally:
        end(server)


def test_an_issuers_new_key_is_taken_without_a_restart(house: House) -> None:
    """Over HTTP, by discovery: a token of the new key is let in soon, one of the old is not."""
    method = ("inference", "/inference.GRPCInferenceService/ServerLive", False, False)
    at = target(house, "inference")
    old = house.issuer.token(project="default")
    assert code_of(at, method, old) is CODES.OK
    house.issuer.rotate("k2", other=True)
    new = house.issuer.token(project="default")
    started = time.monotonic()
    while code_of(at, method, new) is not CODES.OK:
        assert time.monotonic() - started < 20
        time.sleep(0.2)
    assert code_of(at, method, old) is CODES.UNAUTHENTICATED


def test_an_issuer_that_was_never_there_lets_nobody_in(
    tmp_path: Path, s3: S3, valkey: Valkey
) -> None:
    """UNAVAILABLE for a token, so that clients try again; keys go on."""
    issuer = Issuer(f"http://127.0.0.1:{free_port()}")
    issuer.rotate("k1")
    variables = settings_of(s3.settings, valkey.settings) | {
        "HISTILL_AUTH__OIDC__ISSUER": issuer.url,
        "HISTILL_AUTH__OIDC__AUDIENCE": AUDIENCE,
        "HISTILL_AUTH__OIDC__ROLES": json.dumps({"staff": "viewer"}),
    }
    method = ("inference", "/inference.GRPCInferenceService/ServerLive", False, False)
    with service("inference", tmp_path, variables) as running:
        wait_for_port(running.port)
        at = f"127.0.0.1:{running.port}"
        assert code_of(at, method, issuer.token()) is CODES.UNAVAILABLE
        assert code_of(at, method, KEY) is CODES.OK

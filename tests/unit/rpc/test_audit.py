"""One record for every call that matters, on a real server in this process."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from histill.api.access.v1 import access_service_pb2 as access_pb
from histill.api.distillation.v1 import distillation_service_pb2 as jobs_pb
from histill.api.distillation.v1 import distillation_service_pb2_grpc as jobs_rpc
from histill.api.inference.v2 import grpc_service_pb2 as open_pb
from histill.api.inference.v2 import grpc_service_pb2_grpc as open_rpc
from histill.api.registry.v1 import registry_service_pb2 as registry_pb
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from histill.core.api_keys import digest
from histill.core.errors import NotFoundError
from histill.core.service_settings import AuthSettings
from histill.rpc import audit
from histill.rpc.audit import Audit
from histill.rpc.audit_facts import facts_of, formed, kind_of
from histill.rpc.audit_interceptor import AuditInterceptor
from histill.rpc.audit_strangers import Strangers
from histill.rpc.channel import bearer, channel
from histill.rpc.gate import Gate
from histill.rpc.interceptor import ServerInterceptor
from histill.rpc.roles import ROLES
from manifests import model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

SECRET = "Smith^John.dcm"
REQUEST = "0af7651916cd43dd8448eb211c80319c"


@dataclass
class Records:
    """A trail in memory."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    room: int = 1000

    def append(self, fields: Mapping[str, object]) -> int:
        if self.full():
            return 0
        json.dumps(dict(fields))
        self.lines.append(dict(fields))
        return len(self.lines)

    def full(self) -> bool:
        return len(self.lines) >= self.room

    def held_bytes(self) -> int:
        return 0


class Slow(Records):
    """Takes a while for each record."""

    written_at = float("inf")

    def append(self, fields: Mapping[str, object]) -> int:
        time.sleep(0.3)
        self.written_at = time.monotonic()
        return super().append(fields)


class Tight(Records):
    """Has room whenever it is asked, and none when it matters."""

    def append(self, fields: Mapping[str, object]) -> int:
        del fields
        return 0


class Segmentation(rpc.SegmentationServiceServicer):
    """Answers, or fails, as the model's name says."""

    async def Segment(self, request: pb.SegmentRequest, context: Any) -> pb.SegmentResponse:  # noqa: N802
        del context
        match request.model:
            case "missing":
                raise NotFoundError("no such model")
            case "bug":
                raise ValueError(SECRET)
            case "slow":
                await asyncio.sleep(60)
        audit.note_model(model(name="nuclei", version=3))
        return pb.SegmentResponse(mask=b"m" * 100)

    async def SegmentLarge(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.SegmentLargeRequest], context: Any
    ) -> AsyncIterator[pb.SegmentLargeResponse]:
        del context
        async for _ in request_iterator:
            yield pb.SegmentLargeResponse(mask_chunk=b"c" * 10)


class Open(open_rpc.GRPCInferenceServiceServicer):
    """Tells each request of a stream apart."""

    async def ModelStreamInfer(  # noqa: N802
        self, request_iterator: AsyncIterator[open_pb.ModelInferRequest], context: Any
    ) -> AsyncIterator[open_pb.ModelStreamInferResponse]:
        del context
        async for request in request_iterator:
            with audit.part(request):
                if request.model_name == "missing":
                    audit.note(code="NOT_FOUND")
                    audit.note_refusal(NotFoundError("no such model"))
            yield open_pb.ModelStreamInferResponse()


class Jobs(jobs_rpc.DistillationServiceServicer):
    """Makes and deletes nothing."""

    async def CreateJob(self, request: Any, context: Any) -> jobs_pb.CreateJobResponse:  # noqa: N802
        del request, context
        answer = jobs_pb.CreateJobResponse()
        answer.job.name = "jobs/0123456789"
        return answer

    async def GetJob(self, request: Any, context: Any) -> jobs_pb.GetJobResponse:  # noqa: N802
        del request, context
        return jobs_pb.GetJobResponse()

    async def DeleteJob(self, request: Any, context: Any) -> jobs_pb.DeleteJobResponse:  # noqa: N802
        del request, context
        return jobs_pb.DeleteJobResponse()


@dataclass
class Running:
    """A server and what it recorded."""

    target: str
    trail: Records
    server: grpc.aio.Server
    kept: Audit


async def started(
    trail: Records, *, mode: str = "none", when_full: Any = "refuse_writes", api_keys: Any = ()
) -> Running:
    gate = Gate(AuthSettings.model_validate({"mode": mode, "api_keys": api_keys}))
    kept = Audit(trail, when_full, lambda: datetime(2026, 3, 1, tzinfo=UTC))
    server = grpc.aio.server(interceptors=[AuditInterceptor(kept), ServerInterceptor(gate)])
    untyped: Any = (Segmentation, Open, Jobs)
    rpc.add_SegmentationServiceServicer_to_server(untyped[0](), server)
    open_rpc.add_GRPCInferenceServiceServicer_to_server(untyped[1](), server)
    jobs_rpc.add_DistillationServiceServicer_to_server(untyped[2](), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return Running(f"127.0.0.1:{port}", trail, server, kept)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    """A server that is open to everyone."""
    found = await started(Records())
    yield found
    await found.server.stop(None)


async def segment(target: str, name: str) -> pb.SegmentResponse:
    async with channel(target) as opened:
        stub = rpc.SegmentationServiceStub(opened)
        request = pb.SegmentRequest(model=name, encoded=b"pixels" * 50)
        answer: pb.SegmentResponse = await stub.Segment(
            request, metadata=(("x-request-id", REQUEST),)
        )
        return answer


async def test_an_inference_is_told_with_model_digest_and_sizes(running: Running) -> None:
    """Who, what, which version of the model, how large, how it ended, when, how long."""
    await segment(running.target, "nuclei@production")
    [record] = running.trail.lines
    assert record.pop("ms") > 0
    assert record == {
        "at": "2026-03-01T00:00:00.000Z",
        "bytes_in": pb.SegmentRequest(model="nuclei@production", encoded=b"p" * 300).ByteSize(),
        "bytes_out": 102,
        "caller": "anonymous",
        "code": "OK",
        "kind": "inference",
        "method": "/histill.api.segmentation.v1.SegmentationService/Segment",
        "model": "nuclei@3",
        "project": "default",
        "request_id": REQUEST,
        "role": "admin",
        "what": "ended",
    }


@pytest.mark.parametrize(
    ("name", "code", "why"), [("missing", "NOT_FOUND", "NotFound"), ("bug", "INTERNAL", None)]
)
async def test_a_refusal_is_told_with_a_word(
    running: Running, name: str, code: str, why: str | None
) -> None:
    """Its status, and the error's name; never its text."""
    with pytest.raises(grpc.aio.AioRpcError):
        await segment(running.target, name)
    [record] = running.trail.lines
    assert (record["code"], record.get("why"), record["model"]) == (code, why, name)
    assert SECRET not in json.dumps(record)


async def test_whoever_is_not_let_in_is_told_too() -> None:
    """A call without credentials leaves a record; what it asked for is not looked at."""
    running = await started(Records(), mode="api_key")
    with pytest.raises(grpc.aio.AioRpcError):
        await segment(running.target, "nuclei")
    await running.server.stop(None)
    [record] = running.trail.lines
    assert (record["code"], record["why"]) == ("UNAUTHENTICATED", "Unauthenticated")
    assert record["address"] == "127.0.0.1"
    assert "model" not in record


async def test_strangers_cannot_fill_the_log() -> None:
    """A hundred refusals of one address are one record and a number."""
    running = await started(Records(), mode="api_key")
    async with channel(running.target) as opened:
        stub = rpc.SegmentationServiceStub(opened)
        request = pb.SegmentRequest(model="nuclei")
        codes = [await stub.Segment(request).code() for _ in range(100)]
    await running.server.stop(None)
    assert set(codes) <= {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert len(running.trail.lines) == 1
    running.kept.strangers.flush()
    assert [line.get("count") for line in running.trail.lines] == [None, 99]


async def test_many_addresses_cannot_fill_the_log_either() -> None:
    """Beyond a number of them they are told as others."""
    trail = Records()
    strangers = Strangers(trail.append, most=2)
    for number in range(10):
        strangers.tell(f"10.0.0.{number}", {"code": "UNAUTHENTICATED"})
    strangers.flush()
    told = [(line["address"], line.get("count")) for line in trail.lines]
    assert told == [("10.0.0.0", None), ("10.0.0.1", None), ("others", None), ("others", 7)]


async def test_a_denied_caller_is_named() -> None:
    """Who is known and may not is told by name, and not among strangers."""
    key = {"id": "vera", "sha256": digest("right"), "role": "viewer"}
    running = await started(Records(), mode="api_key", api_keys=[key])
    async with channel(running.target) as opened:
        stub = jobs_rpc.DistillationServiceStub(opened)
        call = stub.DeleteJob(
            jobs_pb.DeleteJobRequest(name="jobs/0123456789"), metadata=bearer("right")
        )
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
    await running.server.stop(None)
    [record] = running.trail.lines
    assert (record["caller"], record["code"]) == ("vera", "PERMISSION_DENIED")


async def test_a_failed_call_is_told_before_its_caller_hears_of_it() -> None:
    """The record is written, however slowly, and then the status leaves."""
    trail = Slow()
    running = await started(trail)

    def ask() -> float:
        with grpc.insecure_channel(running.target) as opened:
            stub: Any = rpc.SegmentationServiceStub(opened)
            with pytest.raises(grpc.RpcError):
                stub.Segment(pb.SegmentRequest(model="missing"), timeout=10)
        return time.monotonic()

    heard_at = await asyncio.to_thread(ask)
    await running.server.stop(None)
    assert trail.written_at <= heard_at


async def test_what_cannot_be_announced_does_not_happen() -> None:
    """A change whose announcement finds no room is refused, unless the settings drop records."""
    codes = {}
    for when_full in ("refuse_writes", "drop"):
        running = await started(Tight(), when_full=when_full)
        async with channel(running.target) as opened:
            stub = jobs_rpc.DistillationServiceStub(opened)
            call = stub.DeleteJob(jobs_pb.DeleteJobRequest(name="jobs/0123456789"))
            codes[when_full] = await call.code()
        await running.server.stop(None)
    assert codes == {
        "refuse_writes": grpc.StatusCode.UNAVAILABLE,
        "drop": grpc.StatusCode.OK,
    }


async def test_a_write_is_announced_before_it_happens(running: Running) -> None:
    """Two lines, the second with the number of the first and with what was made."""
    async with channel(running.target) as opened:
        stub = jobs_rpc.DistillationServiceStub(opened)
        await stub.CreateJob(jobs_pb.CreateJobRequest())
        await stub.DeleteJob(jobs_pb.DeleteJobRequest(name="jobs/0123456789"))
        await stub.GetJob(jobs_pb.GetJobRequest(name="jobs/0123456789"))
    lines = running.trail.lines
    assert [(line["what"], line.get("resource"), line.get("begun")) for line in lines] == [
        ("begun", None, None),
        ("ended", "jobs/0123456789", 1),
        ("begun", "jobs/0123456789", None),
        ("ended", "jobs/0123456789", 3),
    ]


@pytest.mark.parametrize(("limit_s", "code"), [(0.3, "DEADLINE_EXCEEDED"), (60, "CANCELLED")])
async def test_a_call_that_took_too_long_is_no_cancelled_one(
    running: Running, limit_s: float, code: str
) -> None:
    """The record says whether its caller gave up, or its time was over."""
    async with channel(running.target) as opened:
        stub = rpc.SegmentationServiceStub(opened)
        call = stub.Segment(pb.SegmentRequest(model="slow"), timeout=limit_s)
        await asyncio.wait({asyncio.ensure_future(call.code())}, timeout=1)
        call.cancel()
    async with asyncio.timeout(5):
        while not running.trail.lines:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
    assert [line["code"] for line in running.trail.lines] == [code]


async def test_every_request_of_a_stream_has_a_record(running: Running) -> None:
    """In order, each with its own outcome; the stream itself adds none."""
    names = ["a", "missing", "b"]
    async with channel(running.target) as opened:
        stub = open_rpc.GRPCInferenceServiceStub(opened)
        requests = (open_pb.ModelInferRequest(model_name=name, id=SECRET) for name in names)
        assert len([answer async for answer in stub.ModelStreamInfer(requests)]) == 3
    await asyncio.sleep(0.05)
    told = [(line["part"], line["model"], line["code"]) for line in running.trail.lines]
    assert told == [(1, "a", "OK"), (2, "missing", "NOT_FOUND"), (3, "b", "OK")]
    assert SECRET not in json.dumps(running.trail.lines)


async def test_an_answer_in_parts_is_announced(running: Running) -> None:
    """Its first part may be the last that this process sends."""
    async with channel(running.target) as opened:
        stub = rpc.SegmentationServiceStub(opened)
        parts = [
            pb.SegmentLargeRequest(header=pb.SegmentLargeHeader(model="nuclei")),
            pb.SegmentLargeRequest(chunk=b"x" * 1000),
        ]
        assert len([answer async for answer in stub.SegmentLarge(iter(parts))]) == 2
    while len(running.trail.lines) < 2:  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0.01)
    begun, ended = running.trail.lines
    assert begun["what"] == "begun"
    assert (ended["model"], ended["code"], ended["bytes_out"]) == ("nuclei", "OK", 24)
    assert ended["bytes_in"] > 1000


@pytest.mark.parametrize(
    ("when_full", "refused"),
    [("refuse_writes", {"write"}), ("refuse_all", {"write", "inference"}), ("drop", set())],
)
async def test_a_full_log_refuses_what_the_settings_say(when_full: str, refused: set[str]) -> None:
    """By default what changes something; images are segmented on."""
    running = await started(Records(room=0), when_full=when_full)
    async with channel(running.target) as opened:
        write = jobs_rpc.DistillationServiceStub(opened).DeleteJob(
            jobs_pb.DeleteJobRequest(name="jobs/0123456789")
        )
        inference = rpc.SegmentationServiceStub(opened).Segment(pb.SegmentRequest(model="nuclei"))
        codes = {"write": await write.code(), "inference": await inference.code()}
        said = await write.details()
    await running.server.stop(None)
    assert {kind for kind, code in codes.items() if code is grpc.StatusCode.UNAVAILABLE} == refused
    assert ("audit log is full" in (said or "")) == ("write" in refused)


async def test_what_is_no_message_is_refused_and_told(running: Running) -> None:
    """Bytes that nobody can read end in INVALID_ARGUMENT, and in a record."""
    method = "/histill.api.segmentation.v1.SegmentationService/Segment"
    async with channel(running.target) as opened:
        ask: Any = opened.unary_unary(method)
        assert await ask(b"\xff\xff\xff").code() is grpc.StatusCode.INVALID_ARGUMENT
    [record] = running.trail.lines
    assert (record["code"], record["bytes_in"]) == ("INVALID_ARGUMENT", 3)


READS = {
    *("GetJob", "ListJobs", "WatchJob", "GetReport", "GetModel", "ListModels", "GetDataset"),
    *("ListDatasets", "ListKeys", "GetCaller", "ServerLive", "ServerReady", "ServerMetadata"),
    "ModelReady",
    *("ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex"),
}


def test_every_method_but_reads_is_recorded() -> None:
    """One that is new is recorded unless it is a read by name; those are listed here."""
    unrecorded = {method.rpartition("/")[2] for method in ROLES if kind_of(method) is None}
    assert unrecorded == READS
    writes = {method.rpartition("/")[2] for method in ROLES if kind_of(method) == "write"}
    assert writes >= {
        *("CreateJob", "CancelJob", "DeleteJob", "UploadModel", "DeleteModel", "SetAlias"),
        *("DeleteAlias", "UploadDataset", "DeleteDataset", "RepositoryModelLoad"),
        *("RepositoryModelUnload", "CreateKey", "RevokeKey"),
    }
    assert kind_of("/grpc.health.v1.Health/Check") is None


def test_names_are_told_and_nothing_else() -> None:
    """Jobs, models, datasets, aliases and keys by their names; a key's secret never."""
    facts = facts_of(access_pb.CreateKeyResponse(key=access_pb.Key(key_id="ab12"), secret="hst_x"))
    assert facts == {"model": "", "resource": "ab12", "alias": ""}
    alias = registry_pb.SetAliasRequest(reference="m@3", alias="production")
    assert facts_of(alias) == {"model": "", "resource": "m@3", "alias": "production"}
    header = registry_pb.UploadModelRequest(header=registry_pb.ModelHeader(model_name="m"))
    assert facts_of(header)["model"] == "m"
    infer = open_pb.ModelInferRequest(model_name="m", model_version="2", id=SECRET)
    assert facts_of(infer) == {"model": "m@2", "resource": "", "alias": ""}


@pytest.mark.parametrize(
    "value",
    [
        "a/" * 5 + "x",
        "a/" * 1_000_000 + "x",
        SECRET,
        "../../etc/passwd",
        "Müller 1950",
        3.5,
        b"x" * 9,
        "a\nb",
    ],
)
def test_what_is_of_another_form_is_not_told(value: object) -> None:
    """A name that no resource can have is replaced, and so is an unknown field."""
    assert formed("resource", value) == "(other)"
    assert formed("model", value) == "(other)"
    assert formed("request_id", "a b") == "(other)"
    assert formed("patient", "x") == "(other)"

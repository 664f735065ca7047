"""Writes one record for every call that changes something, infers, or takes something out."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from histill.rpc import measures
from histill.rpc.audit import Record, opened
from histill.rpc.audit_facts import facts_of, kind_of
from histill.rpc.interceptor import KINDS, given_up, own_code
from histill.rpc.peers import address_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from histill.rpc.audit import Audit
    from histill.rpc.audit_facts import Kind

    Context = grpc.aio.ServicerContext[Any, Any]


class AuditInterceptor(grpc.aio.ServerInterceptor):
    """Stands around ``ServerInterceptor``, which says who calls, and refuses.

    A call's record is written before its last answer leaves; that of a call which changes
    something or answers in parts is announced before it begins, so that whatever a process did
    before it was killed has left a line.

    Args:
        audit: Takes the records.
    """

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        measures.AUDIT_HELD.set_function(audit.trail.held_bytes)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler, wrapped if its calls are recorded."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        kind = kind_of(method)
        return _wrapped(handler, method, kind, self._audit) if handler and kind else handler


def _wrapped(handler: Any, method: str, kind: Kind, audit: Audit) -> Any:
    _, name = KINDS[handler.request_streaming, handler.response_streaming]
    inner = getattr(handler, name)
    ahead = kind == "write" or (handler.response_streaming and not method.endswith("StreamInfer"))

    def record(context: Context) -> Record:
        return Record(audit, method, kind, ahead=ahead, address=address_of(context.peer()))

    def seen(request: Any, present: Record) -> Any:
        if handler.request_streaming:
            return _each(request, present, handler.request_deserializer)
        return _read(request, present, handler.request_deserializer)

    async def one(request: Any, context: Context) -> bytes:
        with opened(record(context)) as present, _ended(present, context):
            answer = await inner(seen(request, present), context)
            return _sent(answer, present, handler.response_serializer)

    async def many(request: Any, context: Context) -> AsyncIterator[bytes]:
        with opened(record(context)) as present, _ended(present, context):
            async for answer in inner(seen(request, present), context):
                yield _sent(answer, present, handler.response_serializer)

    # Bytes come and go here, so that their number is known: a message that is asked for its
    # size is written once more, which takes 30 ms for one of 64 MB.
    make = getattr(grpc, f"{name}_rpc_method_handler")
    return make(many if handler.response_streaming else one, None, None)


async def _each(
    requests: AsyncIterator[bytes], record: Record, parse: Callable[[bytes], Any]
) -> AsyncIterator[Any]:
    async for data in requests:
        yield _read(data, record, parse)


def _read(data: bytes, record: Record, parse: Callable[[bytes], Any]) -> Any:
    """A request of some bytes; what the first one names is noted."""
    request, first = parse(data), not record.bytes_in
    record.read = len(data)
    record.bytes_in += len(data)
    if first:
        record.note(**facts_of(request))
    return request


def _sent(answer: Any, record: Record, serialize: Callable[[Any], bytes]) -> bytes:
    """An answer's bytes; what a change has made is noted."""
    data = serialize(answer)
    record.bytes_out += len(data)
    if record.kind == "write":
        record.note(**facts_of(answer))
    return data


@contextmanager
def _ended(record: Record, context: Context) -> Iterator[None]:
    """Writes the record with the code that the caller gets."""
    code = "INTERNAL"
    try:
        yield
        code = "OK"
    except grpc.aio.AbortError:
        code = own_code(context).name
        raise
    except (asyncio.CancelledError, GeneratorExit):
        code = given_up(context, record.started).name
        raise
    finally:
        record.end(code)

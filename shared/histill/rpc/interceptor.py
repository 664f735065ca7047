"""What happens around every RPC: request id, log line, metrics, credentials, errors."""

from __future__ import annotations

import asyncio
import inspect
import re
import time
import uuid
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from grpc_status import rpc_status

from histill.core.errors import DeadlineExceededError, HistillError
from histill.rpc import audit, measures
from histill.rpc.auth import ANONYMOUS, Caller
from histill.rpc.reading import lenient, readable
from histill.rpc.roles import OPEN_PREFIXES
from histill.rpc.statuses import pushback, to_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from histill.rpc.gate import Gate

    Context = grpc.aio.ServicerContext[Any, Any]

REQUEST_ID = "x-request-id"
# It stands in every log: what is written in another form is no id, and may be somebody's name.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:@/|+=-]{1,128}")
log = structlog.get_logger()
_CALLER: ContextVar[Caller] = ContextVar("caller", default=ANONYMOUS)


def current_caller() -> Caller:
    """Who made the call that is being answered."""
    return _CALLER.get()


@dataclass
class Rpc:
    """One call, as its log line and its metrics tell it."""

    method: str
    kind: str
    request_id: str
    caller: Caller = ANONYMOUS
    code: grpc.StatusCode = grpc.StatusCode.OK

    @property
    def labels(self) -> tuple[str, str, str]:
        """Values of the metrics' labels."""
        service, _, method = self.method.removeprefix("/").partition("/")
        return self.kind, service, method


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server.

    Args:
        gate: Decides who is let in.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The wrapped handler, or ``None`` for a method that nobody serves."""
        handler = await continuation(handler_call_details)
        return handler and _wrapped(handler, str(handler_call_details.method), self._around)

    @asynccontextmanager
    async def _around(
        self, method: str, kind: str, context: Context
    ) -> AsyncIterator[Callable[[], None]]:
        metadata = {str(k): str(v) for k, v in context.invocation_metadata() or ()}
        given = metadata.get(REQUEST_ID, "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        rpc = Rpc(method, kind, request_id)
        bound = structlog.contextvars.bound_contextvars(request_id=rpc.request_id)
        audit.note(request_id=rpc.request_id)
        with bound, _measured(rpc):
            async with _answered(rpc, context):
                admission = await self._gate.admit(method, metadata, context.peer())
                rpc.caller = admission.caller
                _CALLER.set(rpc.caller)
                audit.note_caller(rpc.caller)
                remaining = context.time_remaining()
                if remaining is not None and remaining <= 0:
                    raise DeadlineExceededError("the deadline had passed before work began")
                audit.admit()
                yield admission.check


@contextmanager
def _measured(rpc: Rpc) -> Iterator[None]:
    """Counts and times a call and writes its one log line."""
    measures.STARTED.labels(*rpc.labels).inc()
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - started
        measures.HANDLED.labels(*rpc.labels, rpc.code.name).inc()
        measures.SECONDS.labels(*rpc.labels).observe(seconds)
        if not rpc.method.startswith(OPEN_PREFIXES):
            log.info(
                "rpc",
                method=rpc.method,
                code=rpc.code.name,
                caller=rpc.caller.id,
                seconds=round(seconds, 4),
            )


@asynccontextmanager
async def _answered(rpc: Rpc, context: Context) -> AsyncIterator[None]:
    """Turns what a handler raises into the status that the caller gets."""
    trailing = ((REQUEST_ID, rpc.request_id),)
    context.set_trailing_metadata(trailing)
    try:
        yield
    except HistillError as exc:
        status: Any = rpc_status.to_status(to_status(exc))
        rpc.code = status.code
        audit.note_refusal(exc)
        if rpc.code is grpc.StatusCode.INTERNAL:
            log.exception("rpc_failed", method=rpc.method)
        details = (*trailing, *pushback(exc, context.time_remaining()), *status.trailing_metadata)
        await context.abort(status.code, status.details, details)
    except grpc.aio.AbortError:
        rpc.code = own_code(context)
        raise
    except (asyncio.CancelledError, GeneratorExit):
        rpc.code = grpc.StatusCode.CANCELLED
        raise
    except Exception:
        rpc.code = grpc.StatusCode.INTERNAL
        log.exception("rpc_crashed", method=rpc.method)
        words = f"internal error; the log has it under request id {rpc.request_id}"
        await context.abort(rpc.code, words, trailing)


def own_code(context: Context) -> grpc.StatusCode:
    """The code with which a handler aborted by itself."""
    found: Any = context.code()
    by_number = {code.value[0]: code for code in grpc.StatusCode}
    return found if isinstance(found, grpc.StatusCode) else by_number[found]


# By whether requests and responses are streams: our label, and grpc's name.
_KINDS = {
    (False, False): ("unary", "unary_unary"),
    (False, True): ("server_stream", "unary_stream"),
    (True, False): ("client_stream", "stream_unary"),
    (True, True): ("bidi_stream", "stream_stream"),
}


def _wrapped(handler: Any, method: str, around: Callable[..., Any]) -> Any:
    kind, name = _KINDS[handler.request_streaming, handler.response_streaming]
    inner = getattr(handler, name)

    async def one(request: Any, context: Context) -> Any:
        async with around(method, kind, context):
            return await inner(readable(request), context)

    async def many(request: Any, context: Context) -> AsyncIterator[Any]:
        async with around(method, kind, context) as check:
            answers = inner(readable(request), context)
            if inspect.isawaitable(answers):
                # It writes to the context itself, as the health service's Watch does.
                await answers
                return
            async for answer in answers:
                # A stream may last for hours, and its caller's key may end before.
                check()
                yield answer

    make = getattr(grpc, f"{name}_rpc_method_handler")
    return make(
        many if handler.response_streaming else one,
        lenient(handler.request_deserializer),
        handler.response_serializer,
    )

"""What happens around every RPC: request id, log line, metrics, credentials, errors."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from grpc_status import rpc_status

from histill.core.errors import DeadlineExceededError, HistillError, ResourceExhaustedError
from histill.core.service_settings import LimitSettings
from histill.rpc import audit, measures
from histill.rpc.auth import ANONYMOUS, Caller
from histill.rpc.first_message import first_message
from histill.rpc.reading import lenient, readable
from histill.rpc.roles import OPEN_PREFIXES
from histill.rpc.server_spans import traced
from histill.rpc.statuses import pushback, to_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from histill.rpc.gate import Gate

    Context = grpc.aio.ServicerContext[Any, Any]

REQUEST_ID = "x-request-id"
_OPEN_MESSAGE_S = 2.0
# Before its deadline a call that is cancelled counts as one that was too slow.
_EARLY_S = 0.01
_EARLY_SHARE = 0.01
# It stands in every log: what is no UUID and no hexadecimal digits may be somebody's name.
_REQUEST_ID = re.compile(r"[0-9A-Fa-f-]{16,36}")
log = structlog.get_logger()
_CALLER: ContextVar[Caller] = ContextVar("caller", default=ANONYMOUS)
_CALL: ContextVar[str] = ContextVar("request_id", default="")


def current_caller() -> Caller:
    """Who made the call that is being answered."""
    return _CALLER.get()


def current_request_id() -> str:
    """Under which id the logs have the call that is being answered; empty outside of calls."""
    return _CALL.get()


@dataclass
class Rpc:
    """One call, as its log line and its metrics tell it."""

    method: str
    kind: str
    request_id: str
    caller: Caller = ANONYMOUS
    code: grpc.StatusCode = grpc.StatusCode.OK
    started: float = field(default_factory=time.perf_counter)

    @property
    def labels(self) -> tuple[str, str, str]:
        """Values of the metrics' labels."""
        service, _, method = self.method.removeprefix("/").partition("/")
        return self.kind, service, method


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server.

    Args:
        gate: Decides who is let in.
        limits: How long a request may take to come, and how many calls need no credentials.
    """

    def __init__(self, gate: Gate, limits: LimitSettings | None = None) -> None:
        self._gate = gate
        self._limits = limits or LimitSettings()
        # Never every call that the server has: callers who are known need some.
        self._most_open = min(self._limits.open_calls, max(1, self._limits.concurrent_calls // 2))
        self._open_now = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The wrapped handler, or ``None`` for a method that nobody serves."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        limit_s = self._limits.message_s
        if method.startswith(OPEN_PREFIXES):
            limit_s = min(limit_s, _OPEN_MESSAGE_S)
        return handler and _wrapped(handler, method, self._around, limit_s)

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
        _CALL.set(rpc.request_id)
        with bound, traced(rpc, metadata), _measured(rpc):
            async with _answered(rpc, context):

                def known(caller: Caller) -> None:
                    rpc.caller = caller
                    _CALLER.set(caller)
                    audit.note_caller(caller)

                admission = await self._gate.admit(method, metadata, context.peer(), known)
                remaining = context.time_remaining()
                if remaining is not None and remaining <= 0:
                    raise DeadlineExceededError("the deadline had passed before work began")
                with self._place(method):
                    yield admission.check

    @contextmanager
    def _place(self, method: str) -> Iterator[None]:
        """One of the few places for calls that carry no credentials."""
        if not method.startswith(OPEN_PREFIXES):
            yield
            return
        if self._open_now >= self._most_open:
            raise ResourceExhaustedError(
                "too many health checks and reflections at once; close some, or ask at the port "
                "of health"
            )
        self._open_now += 1
        try:
            yield
        finally:
            self._open_now -= 1


@contextmanager
def _measured(rpc: Rpc) -> Iterator[None]:
    """Counts and times a call and writes its one log line."""
    measures.STARTED.labels(*rpc.labels).inc()
    try:
        yield
    finally:
        seconds = time.perf_counter() - rpc.started
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
        audit.end(rpc.code.name)
        details = (*trailing, *pushback(exc, context.time_remaining()), *status.trailing_metadata)
        await context.abort(status.code, status.details, details)
    except grpc.aio.AbortError:
        rpc.code = own_code(context)
        raise
    except (asyncio.CancelledError, GeneratorExit):
        rpc.code = given_up(context, rpc.started)
        raise
    except Exception:
        rpc.code = grpc.StatusCode.INTERNAL
        log.exception("rpc_crashed", method=rpc.method)
        audit.end(rpc.code.name)
        words = f"internal error; the log has it under request id {rpc.request_id}"
        await context.abort(rpc.code, words, trailing)


def own_code(context: Context) -> grpc.StatusCode:
    """The code with which a handler aborted by itself."""
    found: Any = context.code()
    by_number = {code.value[0]: code for code in grpc.StatusCode}
    return found if isinstance(found, grpc.StatusCode) else by_number[found]


def given_up(context: Context, started: float) -> grpc.StatusCode:
    """The code of a call that ends because nobody waits any more.

    Whether its caller cancelled it or its deadline passed, grpc cancels the handler alike. The
    caller's clock may be first: grpc tells us a time that it has rounded up, by 1 % at most, and
    the messages take their time.

    Args:
        context: Of the call.
        started: When the call began, in seconds of ``time.perf_counter``.
    """
    left = context.time_remaining()
    if left is None:
        return grpc.StatusCode.CANCELLED
    whole = left + time.perf_counter() - started
    late = left <= _EARLY_S + _EARLY_SHARE * whole
    return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED


# By whether requests and responses are streams: our label, and grpc's name.
KINDS = {
    (False, False): ("unary", "unary_unary"),
    (False, True): ("server_stream", "unary_stream"),
    (True, False): ("client_stream", "stream_unary"),
    (True, True): ("bidi_stream", "stream_stream"),
}


def _wrapped(handler: Any, method: str, around: Callable[..., Any], limit_s: float) -> Any:
    kind, name = KINDS[handler.request_streaming, handler.response_streaming]
    inner = getattr(handler, name)

    async def asked(messages: Any, check: Callable[[], None]) -> Any:
        """What the handler gets; a call with one message is announced when it is known."""
        if handler.request_streaming:
            audit.admit()
            return _while_admitted(readable(messages), check)
        message = readable(await first_message(messages, limit_s))
        audit.admit()
        return message

    async def one(messages: Any, context: Context) -> Any:
        async with around(method, kind, context) as check:
            return await inner(await asked(messages, check), context)

    async def many(messages: Any, context: Context) -> AsyncIterator[Any]:
        async with around(method, kind, context) as check:
            answers = inner(await asked(messages, check), context)
            async for answer in answers:
                # A stream may last for hours, and its caller's key may end before.
                check()
                yield answer

    # Requests are a stream whatever they are for the handler: grpc reads a lone message before
    # it runs anything of ours, and whoever never sends one would hold a place unasked.
    make = (
        grpc.stream_stream_rpc_method_handler
        if handler.response_streaming
        else grpc.stream_unary_rpc_method_handler
    )
    return make(
        many if handler.response_streaming else one,
        lenient(handler.request_deserializer),
        handler.response_serializer,
    )


async def _while_admitted(
    requests: AsyncIterator[Any], check: Callable[[], None]
) -> AsyncIterator[Any]:
    """Requests, as long as their caller's key is in force; also at their end, before the effect."""
    async for request in requests:
        check()
        yield request
    check()

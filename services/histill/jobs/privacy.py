"""The RPC that removes: a request in, ``Purging`` called, a message out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from histill.api.privacy.v1 import privacy_service_pb2 as pb
from histill.api.privacy.v1 import privacy_service_pb2_grpc as rpc
from histill.jobs.purge_subject import subject_of
from histill.rpc.interceptor import current_caller

if TYPE_CHECKING:
    from collections.abc import Iterable

    import grpc

    from histill.jobs.purge_outcome import Outcome, Trace
    from histill.jobs.purging import Purging

    Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class PrivacyServicer(rpc.PrivacyServiceServicer):
    """Serves ``PrivacyService``; everything that blocks runs in a thread."""

    purging: Purging

    async def Purge(  # noqa: N802 - the API's name
        self, request: pb.PurgeRequest, context: Context
    ) -> pb.PurgeResponse:
        """Removes, and proves it."""
        del context
        outcome = await asyncio.to_thread(
            self.purging.purge,
            subject_of(request.name),
            project=current_caller().project,
            keep_models=request.keep_models,
            dry_run=request.dry_run,
        )
        return _message(outcome)


def _message(outcome: Outcome) -> pb.PurgeResponse:
    return pb.PurgeResponse(
        removed=pb.Removed(
            objects=outcome.objects,
            bytes=outcome.bytes,
            redis_keys=outcome.redis_keys,
            jobs=outcome.jobs,
            models=outcome.models,
            datasets=outcome.datasets,
        ),
        searched=pb.Searched(
            objects_listed=outcome.looked.objects,
            objects_read=outcome.looked.read,
            redis_keys=outcome.looked.redis_keys,
            workers=outcome.workers,
        ),
        left=_traces(outcome.left),
        stays=_traces(outcome.stays),
        descendants=outcome.descendants,
    )


def _traces(traces: Iterable[Trace]) -> list[pb.Trace]:
    return [pb.Trace(place=each.place, why=each.why) for each in traces]

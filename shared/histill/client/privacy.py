"""Removal with a proof, for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histill.api.privacy.v1 import privacy_service_pb2 as pb
from histill.api.privacy.v1 import privacy_service_pb2_grpc as rpc
from histill.client.calls import translated

if TYPE_CHECKING:
    import grpc

# Workers look at their disks first, and a large store takes its time to be searched.
_LEAST_S = 900.0


class Privacy:
    """Remove jobs and datasets with every trace; for admins.

    Args:
        channel: Channel to the jobs service.
        timeout_s: Longest wait for an answer; a removal gets a quarter of an hour at least.
    """

    def __init__(self, channel: grpc.Channel, *, timeout_s: float) -> None:
        self._stub = rpc.PrivacyServiceStub(channel)
        self._timeout_s = max(timeout_s, _LEAST_S)

    def purge(
        self, name: str, *, keep_models: bool = False, dry_run: bool = False
    ) -> pb.PurgeResponse:
        """Removes a job, or a version of a dataset with the jobs that named it.

        Safe to repeat after an error: it goes on where it stopped.

        Args:
            name: ``jobs/ID``, or ``NAME@VERSION`` of a dataset.
            keep_models: Leave the models that were made.
            dry_run: Only say what would go.

        Returns:
            What was removed, where it was looked for, and what is ``left``: nothing, when
            all is well.

        Raises:
            InvalidArgumentError: ``name`` is no such name.
            NotFoundError: There is nothing of it in our project.
            FailedPreconditionError: A job has not ended, or an alias points at its models.
            PermissionDeniedError: We are no admin.
        """
        request = pb.PurgeRequest(name=name, keep_models=keep_models, dry_run=dry_run)
        with translated():
            return self._stub.Purge(request, timeout=self._timeout_s)

"""Every error that histill raises on purpose.

The tree::

    HistillError
    ├── InvalidArgumentError         a field of a request is wrong; names its path
    ├── NotFoundError                a job, model, dataset or alias that is not there
    ├── AlreadyExistsError           a name or idempotency key that is taken
    ├── FailedPreconditionError      right request, wrong moment
    │   └── IllegalMoveError         a job cannot go from this state to that one
    ├── UnauthenticatedError         no credentials, or wrong ones
    ├── PermissionDeniedError        credentials of a role that may not do this
    ├── ResourceExhaustedError       too large, or too much at once
    ├── DeadlineExceededError        no time left to do it
    ├── CorruptArtifactError         bytes that differ from their digest
    │   └── UntrustedArtifactError   a signature is missing, or is nobody's that we trust
    ├── UnavailableError             a server that we depend on does not answer
    │   ├── StorageUnavailableError  S3
    │   │   └── StorageRefusedError  our keys are wrong, or may not do it
    │   └── QueueUnavailableError    Redis
    ├── WorkFailedError              a job's work failed; says why and what helps
    └── InternalError                our own side fails; a caller can only report it
        ├── SettingsError            an environment variable is missing, wrong or unknown
        ├── EmbeddedError            embedded mode cannot start or go on
        └── RuntimeFailedError       a model's runtime gave up

``histill.rpc.statuses`` maps them to gRPC and back; a test walks the tree.
"""

from __future__ import annotations

from dataclasses import dataclass


class HistillError(Exception):
    """The root of the tree."""


@dataclass(frozen=True)
class FieldViolation:
    """What is wrong with one field.

    Attributes:
        field: Path of the field, e.g. ``job.supervised.training.steps``.
        description: What is wrong and what would be right.
    """

    field: str
    description: str


class InvalidArgumentError(HistillError):
    """One or more fields of a request are wrong."""

    def __init__(self, *violations: FieldViolation) -> None:
        self.violations = violations
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))

    @classmethod
    def of(cls, field: str, description: str) -> InvalidArgumentError:
        """The error for a single field."""
        return cls(FieldViolation(field, description))


class NotFoundError(HistillError):
    """Something that was named does not exist."""


class AlreadyExistsError(HistillError):
    """A name or an idempotency key is taken."""


class FailedPreconditionError(HistillError):
    """The request is right, but not in the present state."""


class IllegalMoveError(FailedPreconditionError):
    """A job cannot go from its state to the one asked for."""


class UnauthenticatedError(HistillError):
    """There are no credentials, or they are wrong."""


class PermissionDeniedError(HistillError):
    """The caller's role may not do this."""


class ResourceExhaustedError(HistillError):
    """Too large, or too much at once.

    Attributes:
        retry_after_s: Seconds after which a retry may succeed; ``None`` when
            the same request will never fit.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class TooLargeForOneMessageError(ResourceExhaustedError):
    """An image or its mask goes through the call that streams, and not through this one."""


class DeadlineExceededError(HistillError):
    """There is no time left to do it."""


class CorruptArtifactError(HistillError):
    """Stored or received bytes differ from their announced size or digest."""


class UntrustedArtifactError(CorruptArtifactError):
    """A version is not signed by anybody whom the settings trust."""


class UnavailableError(HistillError):
    """A server that histill depends on does not answer."""


class StorageUnavailableError(UnavailableError):
    """S3 does not answer, or refuses."""


class StorageRefusedError(StorageUnavailableError):
    """S3 answers, and does not take our keys or lets them not do this; no wait helps."""


class QueueUnavailableError(UnavailableError):
    """Redis does not answer, or refuses."""


class WorkFailedError(HistillError):
    """The work of a job failed.

    Attributes:
        reason: An upper-case word for programs, e.g. ``OUT_OF_MEMORY``.
        hint: What the user can do about it.
    """

    def __init__(self, message: str, *, reason: str, hint: str) -> None:
        self.reason = reason
        self.hint = hint
        super().__init__(message)


class InternalError(HistillError):
    """Our own side fails; a caller can only report it."""


class SettingsError(InternalError):
    """An environment variable is missing, wrong or unknown."""


class EmbeddedError(InternalError):
    """Embedded mode cannot start or go on; says why and what to do."""


class RuntimeFailedError(InternalError):
    """A model's runtime gave up, e.g. for want of memory."""

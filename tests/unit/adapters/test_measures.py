"""Failures of servers are counted where they become errors of ours, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from minio.error import S3Error, ServerError
from prometheus_client import REGISTRY
from redis import exceptions as redis
from urllib3.exceptions import HTTPError

from histill.adapters.celery_queue import CeleryJobQueue
from histill.adapters.redis_client import connect, translated
from histill.adapters.s3 import S3ObjectStore
from histill.core.errors import NotFoundError, QueueUnavailableError, StorageUnavailableError
from histill.core.settings import RedisSettings, S3Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

REASONS = ("unanswered", "credentials", "refused")


def counted(store: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for reason in REASONS:
        labels = {"store": store, "reason": reason}
        found[reason] = REGISTRY.get_sample_value("histill_store_errors_total", labels) or 0.0
    return found


def grown(store: str, before: Mapping[str, float]) -> dict[str, float]:
    return {
        reason: now - before[reason]
        for reason, now in counted(store).items()
        if now != before[reason]
    }


class Broken:
    """A server of which every call raises one error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def fail(*_: object, **__: object) -> None:
            raise self._error

        return fail


def s3_error(code: str) -> S3Error:
    made: Any = S3Error
    return made(response=None, code=code, message="no", resource="x", request_id="", host_id="")  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (s3_error("InternalError"), "refused"),
        (s3_error("AccessDenied"), "credentials"),
        (ServerError("status 503", 503), "refused"),
        (HTTPError("no connection"), "unanswered"),
        (TimeoutError(), "unanswered"),
    ],
)
def test_a_failing_s3_is_counted_once_a_call(error: Exception, reason: str) -> None:
    """By why it failed, also in calls that are made of others."""
    broken: Any = Broken(error)
    store = S3ObjectStore(broken, "bucket")
    for call in (
        lambda: store.get("key"),
        lambda: store.put("key", b""),
        lambda: list(store.list("")),
        lambda: store.delete_prefix("jobs/"),
        store.ping,
    ):
        before = counted("s3")
        with pytest.raises(StorageUnavailableError):
            call()
        assert grown("s3", before) == {reason: 1}


def test_what_is_not_there_is_no_failure_of_s3() -> None:
    """It is asked for all the time."""
    broken: Any = Broken(s3_error("NoSuchKey"))
    before = counted("s3")
    with pytest.raises(NotFoundError):
        S3ObjectStore(broken, "bucket").get("key")
    assert grown("s3", before) == {}


@pytest.mark.parametrize(
    ("error", "reasons"),
    [
        (redis.ConnectionError(), {"unanswered": 1}),
        (redis.TimeoutError(), {"unanswered": 1}),
        (redis.AuthenticationError(), {"credentials": 1}),
        (redis.ResponseError("OOM"), {"refused": 1}),
        (redis.LockNotOwnedError("it ran out"), {}),
    ],
)
def test_a_failing_redis_is_counted(error: Exception, reasons: dict[str, float]) -> None:
    """By why it failed; a lock that ran out is its holder's affair."""
    before = counted("redis")
    with pytest.raises(QueueUnavailableError), translated():
        raise error
    assert grown("redis", before) == reasons


def test_a_redis_that_takes_no_messages_is_counted() -> None:
    """Also where Celery speaks to it."""
    broken: Any = Broken(OSError("no connection"))
    before = counted("redis")
    queue = CeleryJobQueue(broken)
    with pytest.raises(QueueUnavailableError):
        queue.depth(["default"])
    assert grown("redis", before) == {"unanswered": 1}


def test_counts_are_there_before_the_first_failure() -> None:
    """Whoever has an adapter tells its counts, at 0 if nothing failed."""
    S3ObjectStore.connect(S3Settings.model_validate({"secret_key": "x"}))
    connect(RedisSettings())
    for store in ("s3", "redis"):
        for reason in REASONS:
            labels = {"store": store, "reason": reason}
            assert REGISTRY.get_sample_value("histill_store_errors_total", labels) is not None

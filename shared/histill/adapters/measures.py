"""Prometheus metrics of the servers that we depend on, as their adapters see them.

A failure is counted where it becomes an error of ours, so that services and workers count
alike. What is not there is no failure; neither is a lock that somebody else holds.
"""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import Counter

STORE_ERRORS = Counter(
    "histill_store_errors_total", "Calls on which a server failed.", ["store", "reason"]
)


class Store(StrEnum):
    """The servers."""

    S3 = "s3"
    REDIS = "redis"


class Failure(StrEnum):
    """Why a call failed.

    Attributes:
        UNANSWERED: No connection, or no answer in time.
        CREDENTIALS: Our keys or our password are refused.
        REFUSED: The server answered that it cannot, or something that is no answer.
    """

    UNANSWERED = "unanswered"
    CREDENTIALS = "credentials"
    REFUSED = "refused"


def expect(store: Store) -> None:
    """Shows the counts of a server from now on, at 0: the first failure is an increase then."""
    for reason in Failure:
        STORE_ERRORS.labels(store, reason)


def failed(store: Store, reason: Failure) -> None:
    """Counts one call on which a server failed."""
    STORE_ERRORS.labels(store, reason).inc()

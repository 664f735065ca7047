"""Prometheus metrics of the worker."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

ATTEMPTS = Counter("histill_job_attempts_total", "Attempts by how they ended.", ["kind", "outcome"])
LEASE_LOST = Counter("histill_lease_lost_total", "Attempts that lost their lease.")
STEP_SECONDS = Histogram(
    "histill_job_step_seconds",
    "Seconds of one optimiser step.",
    ["kind"],
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)

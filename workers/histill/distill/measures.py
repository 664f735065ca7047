"""Prometheus metrics of the worker."""

from __future__ import annotations

from itertools import product

from prometheus_client import Counter, Histogram

from histill.core.jobs import JobKind, JobState

ATTEMPTS = Counter("histill_job_attempts_total", "Attempts by how they ended.", ["kind", "outcome"])
LEASE_LOST = Counter("histill_lease_lost_total", "Attempts that lost their lease.")
STEPS = Counter("histill_job_steps_total", "Optimiser steps done.", ["kind"])
STEP_SECONDS = Histogram(
    "histill_job_step_seconds",
    "Seconds of one optimiser step: a sample, of the steps that progress is told at.",
    ["kind"],
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)

# A counter that begins with 1 hides its first increase.
for _kind, _outcome in product(JobKind, (JobState.SUCCEEDED, JobState.FAILED)):
    ATTEMPTS.labels(_kind, _outcome)
for _kind in JobKind:
    STEPS.labels(_kind)

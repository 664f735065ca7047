"""Prometheus metrics of the jobs service.

Every replica tells the same gauges, which come from Redis: take the greatest, not the sum. What
is counted is counted by the replica that leads: take the sum. A replica that has lost Redis takes
its gauges back, since the greatest number may be an old one.
"""

from __future__ import annotations

import math
from itertools import product

from prometheus_client import Counter, Gauge

from histill.core.jobs import JobKind, JobState

JOBS = Gauge("histill_jobs", "Jobs that have not ended.", ["kind", "state"])
QUEUE_DEPTH = Gauge("histill_job_queue_depth", "Messages that no worker has taken.")
RUNNING = Gauge("histill_jobs_running", "Jobs that the workers of a pool run.", ["pool"])
LOOKED = Gauge(
    "histill_jobs_looked_timestamp_seconds",
    "When this replica last saw all that is open, in seconds since 1970; at first, its start.",
)
DEMAND = Gauge(
    "histill_worker_demand",
    "Queued and running jobs: what a pool has workers for. A queue alone forgets those that run.",
    ["pool"],
)
OLDEST_QUEUED = Gauge(
    "histill_job_queue_oldest_seconds",
    "For how long the job has waited that has waited longest; 0 when none waits.",
    ["pool"],
)
OLDEST_PROGRESS = Gauge(
    "histill_job_progress_oldest_seconds",
    "Longest time for which a running job has told no progress.",
    ["kind"],
)
PROGRESS = Gauge(
    "histill_job_progress_ratio", "Mean share of their training that running jobs did.", ["kind"]
)
LOST = Counter("histill_jobs_lost_total", "Attempts taken back from lost workers.")
ENDED = Counter("histill_jobs_ended_total", "Jobs by how they ended.", ["kind", "state"])

# 0 would be a number before anything was looked at.
QUEUE_DEPTH.set(math.nan)
LOOKED.set_to_current_time()
# A counter that begins with 1 hides its first increase.
for _kind, _state in product(JobKind, JobState):
    if _state.final:
        ENDED.labels(_kind, _state)

"""Prometheus metrics of the jobs service."""

from __future__ import annotations

from prometheus_client import Gauge

JOBS = Gauge("histill_jobs", "Jobs that have not ended.", ["kind", "state"])
QUEUE_DEPTH = Gauge("histill_job_queue_depth", "Messages that no worker has taken.")

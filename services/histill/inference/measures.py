"""Metrics of inference, for operators, who see every project.

The labels ``project`` and ``model`` are bounded: those of keys in the settings, and names of
models in the registry that were loaded. A name that is only asked for makes no label.
"""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import Counter, Gauge, Histogram

STAGE_SECONDS = Histogram(
    "histill_inference_stage_seconds",
    "Seconds of a request in a stage: decode, queue, compute or encode.",
    ["project", "model", "stage"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
BATCH_SIZE = Histogram(
    "histill_inference_batch_size",
    "Images or tiles of one run of a network.",
    ["project", "model"],
    buckets=(1, 2, 4, 8, 16, 32, 64),
)
MODELS_LOADED = Gauge("histill_models_loaded", "Models in memory and warm.")
SLOTS = Gauge("histill_inference_slots", "Requests that may be worked on at a time.")
RUNNING = Gauge("histill_inference_running", "Requests that are worked on, up to all slots.")
WAITING = Gauge("histill_inference_waiting", "Requests that are inside beyond the slots.")
REFUSED = Counter(
    "histill_inference_refused_total", "Requests that were sent away undone.", ["reason"]
)
STREAMED = Counter(
    "histill_inference_streamed_total",
    "Requests within streams of ModelStreamInfer, which end with OK whatever became of them.",
    ["grpc_code"],
)


class Refusal(StrEnum):
    """Why a request was sent away.

    Attributes:
        FULL: Every place is taken.
        PROJECT: Every place of its project is taken.
        HOPELESS: The work of others would outlast its deadline.
        EXPIRED: Its deadline passed before it was done.
        UPLOADS: Too many bytes are on their way in.
        MEMORY: There was none left for an image of its size.
    """

    FULL = "full"
    PROJECT = "project"
    HOPELESS = "hopeless"
    EXPIRED = "expired"
    UPLOADS = "uploads"
    MEMORY = "memory"


# From the start: the first one is an increase then.
for _reason in Refusal:
    REFUSED.labels(_reason)
for _code in ("OK", "UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"):
    STREAMED.labels(_code)


def refused(reason: Refusal) -> None:
    """Counts one request that was sent away."""
    REFUSED.labels(reason).inc()

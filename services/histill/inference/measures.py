"""Metrics of inference. The label ``model`` is a name of the registry, a bounded set."""

from __future__ import annotations

from prometheus_client import Gauge, Histogram

STAGE_SECONDS = Histogram(
    "histill_inference_stage_seconds",
    "Seconds of a request in a stage: decode, queue, compute or encode.",
    ["model", "stage"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
BATCH_SIZE = Histogram(
    "histill_inference_batch_size",
    "Images or tiles of one run of a network.",
    ["model"],
    buckets=(1, 2, 4, 8, 16, 32, 64),
)
MODELS_LOADED = Gauge("histill_models_loaded", "Models in memory and warm.")

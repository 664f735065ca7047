"""Metrics of inference, for operators, who see every project.

The labels ``project`` and ``model`` are bounded: those of keys in the settings, and names of
models in the registry that were loaded. A name that is only asked for makes no label.
"""

from __future__ import annotations

from prometheus_client import Gauge, Histogram

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

"""Models as the Open Inference Protocol and Triton's extensions describe them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from histill.api.inference.v2 import grpc_service_pb2 as pb
from histill.core.manifests import ONNX
from histill.inference import tensors
from histill.inference.runtime import INPUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from histill.inference.models import LoadedModel
    from histill.inference.settings import BatchLimits
    from histill.inference.statistics import Counts, Duration

# As Triton names them.
_PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "openvino": "openvino"}


def metadata(model: LoadedModel, versions: Sequence[int]) -> pb.ModelMetadataResponse:
    """Tensors with the side of the batch, and the versions that can be asked for."""
    response = pb.ModelMetadataResponse(
        name=model.manifest.name,
        versions=[str(number) for number in versions],
        platform=_PLATFORMS[model.runtime.name],
    )
    channels = model.manifest.channels
    response.inputs.add(name=INPUT, datatype="UINT8", shape=(-1, -1, -1, channels))
    for output, datatype in tensors.OUTPUTS.items():
        response.outputs.add(name=output, datatype=datatype, shape=(-1, -1, -1))
    return response


def config(model: LoadedModel, *, workers: int, limits: BatchLimits) -> pb.ModelConfig:
    """Tensors without the side of the batch, and where and how the model runs."""
    manifest = model.manifest
    made = pb.ModelConfig(
        name=manifest.name,
        platform=_PLATFORMS[model.runtime.name],
        backend=model.runtime.name,
        max_batch_size=tensors.MAX_BATCH,
        default_model_filename=ONNX,
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=False),
    )
    made.input.add(
        name=INPUT,
        data_type=pb.TYPE_UINT8,
        format=pb.ModelInput.FORMAT_NHWC,
        dims=(-1, -1, manifest.channels),
    )
    for output, datatype in tensors.OUTPUTS.items():
        kind = pb.DataType.Value(f"TYPE_{datatype}")
        made.output.add(name=output, data_type=kind, dims=(-1, -1))
    group = pb.ModelInstanceGroup
    made.instance_group.add(
        name=manifest.name,
        count=workers,
        kind=group.KIND_CPU if model.runtime.device == "cpu" else group.KIND_GPU,
    )
    if limits.max_batch > 1:
        made.dynamic_batching.CopyFrom(
            pb.ModelDynamicBatching(
                preferred_batch_size=sorted({*limits.preferred, limits.max_batch}),
                max_queue_delay_microseconds=round(1000 * limits.max_delay_ms),
            )
        )
    made.parameters["classes"].string_value = json.dumps(manifest.classes)
    made.parameters["precision"].string_value = model.runtime.precision
    made.parameters["version"].string_value = str(manifest.version)
    return made


def statistics(reference: str, counts: Counts, model: LoadedModel | None) -> pb.ModelStatistics:
    """What was asked of a version, and the memory of its file while it is loaded."""
    name, _, version = reference.rpartition("@")
    made = pb.ModelStatistics(
        name=name,
        version=version,
        last_inference=round(1000 * counts.last),
        inference_count=counts.images,
        execution_count=sum(runs.count for runs in counts.runs.values()),
    )
    for stage, duration in counts.durations.items():
        getattr(made.inference_stats, stage).CopyFrom(_duration(duration))
    for size, duration in sorted(counts.runs.items()):
        made.batch_stats.add(batch_size=size, compute_infer=_duration(duration))
    if model is not None:
        kind = "CPU" if model.runtime.device == "cpu" else "GPU"
        made.memory_usage.add(type=kind, byte_size=model.size_bytes)
    return made


def _duration(duration: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=duration.count, ns=round(1e9 * duration.seconds))

"""The inference service asked by clients that others wrote, in processes of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from foreign import CLIENTS, PYTHON, needs_clients, output_of
from pictures import blobs
from processes import Service, wait_until_serving
from serving import bucket_of, inference
from students import manifest, publish, student

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import S3


@pytest.fixture(scope="module")
def service(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of two models, of which one stays loaded."""
    folder = tmp_path_factory.mktemp("clients")
    bucket, store = bucket_of(s3)
    publish(store, student(), folder)
    publish(store, student(), folder, like=manifest(b"", name="nuclei-spare"))
    with inference(s3, folder, bucket=bucket, preload='["nuclei"]', workers="2") as it:
        wait_until_serving(it)
        yield it


@pytest.fixture(scope="module")
def triton(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What Triton's client got."""
    batch = tmp_path_factory.mktemp("batch") / "images.npy"
    np.save(batch, np.stack([blobs(seed, side=37)[0] for seed in range(3)]))
    # Unloading needs a model that is loaded.
    subprocess.run(
        [PYTHON, "-c", _LOAD, service.target], capture_output=True, timeout=60, check=True
    )
    return output_of(PYTHON, CLIENTS / "triton.py", service.target, "nuclei", batch)


_LOAD = (
    "import sys, tritonclient.grpc as g; "
    "g.InferenceServerClient(sys.argv[1]).load_model('nuclei-spare')"
)


@needs_clients
def test_triton_sees_a_server_like_its_own(triton: Any) -> None:
    """Liveness, metadata and configuration read as a Triton server's would."""
    assert (triton["live"], triton["ready"], triton["model_ready"]) == (True, True, True)
    assert triton["server"]["name"] == "histill"
    assert "statistics" in triton["server"]["extensions"]
    assert not any("shared_memory" in each for each in triton["server"]["extensions"])
    assert triton["metadata"]["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": ["-1", "-1", "-1", "3"]}
    ]
    config = triton["config"]["config"]
    assert config["max_batch_size"] == 64
    assert config["input"][0]["dims"] == ["-1", "-1", "3"]
    assert config["input"][0]["data_type"] == "TYPE_UINT8"
    assert [each["name"] for each in config["output"]] == ["mask", "confidence"]
    assert config["instance_group"][0]["count"] == 2
    classes = json.loads(config["parameters"]["classes"]["string_value"])
    assert classes == ["background", "nuclei"]


@needs_clients
def test_triton_infers(triton: Any) -> None:
    """Tensors of the right type and shape, with the request's id; four calls at a time."""
    kind, shape, share = triton["mask"]
    assert (kind, shape, triton["id"]) == ("uint8", [3, 37, 37], "one")
    assert 0.02 < share < 0.6
    kind, shape, least = triton["confidence"]
    assert (kind, shape) == ("float32", [3, 37, 37])
    assert least >= 0.5
    assert triton["at_once"] == 4


@needs_clients
def test_triton_is_told_what_is_wrong(triton: Any) -> None:
    """Errors come with a code and words; what is not offered says so."""
    assert "INVALID_ARGUMENT" in triton["wrong_type"]
    assert "must be UINT8" in triton["wrong_type"]
    assert "NOT_FOUND" in triton["unknown"]
    assert "UNIMPLEMENTED" in triton["no_shared_memory"]


@needs_clients
def test_triton_streams(triton: Any) -> None:
    """Answers in order; the wrong request is answered by its error and the stream goes on."""
    first, wrong, last = triton["stream"]
    assert first == ["0", [3, 37, 37]]
    assert "[INVALID_ARGUMENT]" in wrong
    assert last == ["2", [1, 37, 37]]


@needs_clients
def test_triton_manages_models(triton: Any) -> None:
    """Unloading and loading show in the index; what must stay loaded is not unloaded."""
    assert triton["states"] == {"unload_model": "UNAVAILABLE", "load_model": "READY"}
    assert "FAILED_PRECONDITION" in triton["unloaded"]
    assert "PRELOAD" in triton["unloaded"]


@needs_clients
def test_triton_counts(triton: Any) -> None:
    """Statistics hold the one request of three images, and where its time went."""
    stats = triton["statistics"]["model_stats"][0]
    assert (stats["name"], stats["version"]) == ("nuclei", "1")
    assert (stats["inference_count"], stats["execution_count"]) == ("3", "1")
    times = stats["inference_stats"]
    assert times["success"]["count"] == "1"
    assert int(times["success"]["ns"]) >= int(times["compute_infer"]["ns"]) > 0
    assert stats["batch_stats"][0]["batch_size"] == "3"


@needs_clients
def test_a_client_of_reflection_alone(service: Service, triton: Any) -> None:
    """grpc-requests knows nothing of us but what reflection tells."""
    del triton  # it counts requests, and comes first
    found = output_of(PYTHON, CLIENTS / "reflected.py", service.target)
    assert "inference.GRPCInferenceService" in found["services"]
    assert "histill.api.segmentation.v1.SegmentationService" in found["services"]
    assert "grpc.health.v1.Health" in found["services"]
    assert "nuclei@1" in found["models"]
    assert (found["mask"], found["live"]) == ("AQ==", True)


def test_buf_curl(service: Service) -> None:
    """The command-line client calls by reflection, over cleartext HTTP/2."""
    buf = shutil.which("buf", path=str(Path(sys.executable).parent)) or shutil.which("buf")
    assert buf, "buf is among the tools of development"
    url = f"http://{service.target}/inference.GRPCInferenceService/ModelMetadata"
    flags = ["--protocol", "grpc", "--http2-prior-knowledge", "-d", '{"name": "nuclei"}']
    found = output_of(buf, "curl", *flags, url)
    assert found["platform"] in {"onnxruntime_onnx", "openvino"}
    assert found["versions"] == ["1"]

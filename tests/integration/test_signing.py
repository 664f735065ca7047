"""Signed models through real services: pushed to one, loaded or refused by another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from histill.adapters.ed25519 import PRIVATE, PUBLIC, load_signing, new_pair
from histill.adapters.s3 import S3ObjectStore
from histill.api.registry.v1 import model_pb2
from histill.api.registry.v1 import registry_service_pb2 as registry_pb
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from histill.cli.app import app
from histill.core import catalog
from histill.core.catalog import MODELS
from histill.core.signing import SIGNATURE, SigningSettings
from histill.core.trust import check_signature
from processes import wait_until_serving
from services import client_of, service, settings_of
from serving import bucket_of, inference
from students import manifest, publish, student

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import S3, Valkey


def pushed(folder: Path) -> tuple[registry_pb.ModelHeader, list[Path]]:
    path = folder / "weights.safetensors"
    save_file({"w": np.arange(10, dtype=np.float32)}, path)
    header = registry_pb.ModelHeader(
        model_name="teacher",
        role=model_pb2.MODEL_ROLE_TEACHER,
        channels=3,
        classes=["background", "object"],
        mean=[0.5] * 3,
        std=[0.2] * 3,
    )
    return header, [path]


def test_the_registry_signs_what_is_uploaded(s3: S3, valkey: Valkey, tmp_path: Path) -> None:
    """With a key in its settings, and the command line can check it afterwards."""
    new_pair(tmp_path / "keys")
    variables = settings_of(s3.settings, valkey.settings) | {
        "HISTILL_S3__BUCKET": "signed-uploads",
        "HISTILL_SIGNING__KEY": str(tmp_path / "keys" / PRIVATE),
    }
    with service("registry", tmp_path, variables) as running:
        running.wait()
        with client_of(registry=running) as client:
            reference = client.models.push(*pushed(tmp_path)).reference
    store = S3ObjectStore.connect(s3.settings.model_copy(update={"bucket": "signed-uploads"}))
    trusted = SigningSettings(trusted=str(tmp_path / "keys" / PUBLIC))
    found = catalog.find(store, MODELS, reference)
    check_signature(store, MODELS, found, load_signing(trusted).verifier)
    environment = {k: v for k, v in variables.items() if k.startswith("HISTILL_S3")}
    words = ["models", "verify", reference, "--key", trusted.trusted]
    result = CliRunner(env=environment).invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "is signed" in result.output
    store.put(f"models/teacher/{found.version}/weights.safetensors", b"other")
    assert CliRunner(env=environment).invoke(app, words).exit_code == 1


def test_the_inference_service_loads_only_what_is_signed(s3: S3, tmp_path: Path) -> None:
    """An unsigned model and one that somebody changed are refused; a signed one answers."""
    new_pair(tmp_path / "keys")
    keys = SigningSettings(
        key=str(tmp_path / "keys" / PRIVATE), trusted=str(tmp_path / "keys" / PUBLIC)
    )
    bucket, store = bucket_of(s3)
    publish(store, student(), tmp_path, like=manifest(student(), name="unsigned"))
    signer = load_signing(keys).signer
    assert signer
    for name in ("signed", "changed"):
        publish(store, student(), tmp_path, like=manifest(student(), name=name), signer=signer)
    key = f"models/changed/1/{SIGNATURE}"
    store.put(key, store.get(f"models/signed/1/{SIGNATURE}"))
    with inference(s3, tmp_path, trusted_by(keys), bucket=bucket) as running:
        wait_until_serving(running)
        with grpc.insecure_channel(running.target) as opened:
            stub = rpc.SegmentationServiceStub(opened)
            raw = pb.RawImage(data=bytes(16 * 16 * 3), height=16, width=16, channels=3)
            answer = stub.Segment(pb.SegmentRequest(model="signed", raw=raw), timeout=30)
            assert answer.summary.model == "signed@1"
            for name, words in (("unsigned", "is not signed"), ("changed", "signature is not for")):
                with pytest.raises(grpc.RpcError, match=words) as caught:
                    stub.Segment(pb.SegmentRequest(model=name, raw=raw), timeout=30)
                assert isinstance(caught.value, grpc.Call)
                assert caught.value.code() is grpc.StatusCode.DATA_LOSS


def trusted_by(keys: SigningSettings) -> dict[str, str]:
    return {"HISTILL_SIGNING__TRUSTED": keys.trusted}

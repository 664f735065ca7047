"""Headers that say what a model does, and what it was trained on."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from histill.api.registry.v1 import model_pb2
from histill.api.registry.v1 import registry_service_pb2 as pb
from histill.core.errors import InvalidArgumentError
from histill.core.headers import unsent_manifest
from histill.core.messages import model_message

LENET = {"network_json": json.dumps({"architecture": "lenet5"})}
CLASSIFIER: dict[str, Any] = {"task": "classification", "image_size": 32}


def header(**changes: Any) -> pb.ModelHeader:
    fields: dict[str, Any] = {
        "model_name": "m",
        "role": model_pb2.MODEL_ROLE_TEACHER,
        "channels": 1,
        "classes": ["background", "gland", "nucleus"],
        "mean": [0.5],
        "std": [0.5],
    }
    return pb.ModelHeader(**(fields | changes))


def test_a_header_of_a_classifier_is_taken() -> None:
    """With a network of ours or as a program, and the guarantee that it was trained under."""
    said = header(**CLASSIFIER, **LENET, dp_epsilon=3.0, dp_delta=1e-5)
    manifest = unsent_manifest(said, ["weights.safetensors", "statistics.safetensors"])
    assert (manifest.task, manifest.image_size, manifest.stride) == ("classification", 32, 32)
    assert manifest.privacy is not None
    assert (manifest.privacy.epsilon, manifest.privacy.delta) == (3.0, 1e-5)
    assert model_message(manifest, {}).task == "classification"
    program = unsent_manifest(header(**CLASSIFIER), ["model.ts"])
    assert (program.network, program.image_size, program.privacy) == (None, 32, None)


def test_a_header_without_a_task_is_of_segmentation() -> None:
    """It may tell the size and the classes' shares of its training images."""
    said = header(image_size=96, class_shares={"gland": 0.25, "nucleus": 0.05})
    manifest = unsent_manifest(said, ["weights.safetensors"])
    assert (manifest.task, manifest.image_size) == ("segmentation", 96)
    assert manifest.class_shares == {"gland": 0.25, "nucleus": 0.05}
    assert model_message(manifest, {}).task == "segmentation"


@pytest.mark.parametrize(
    ("changes", "file", "words"),
    [
        (CLASSIFIER, "weights.safetensors", r"header\.task: must be segmentation, .* unet does"),
        (LENET, "weights.safetensors", r"header\.task: must be classification, .* lenet5 does"),
        ({"task": "detection"}, "model.ts", r"header\.task: .*'classification'.*'detection'"),
        ({"task": "classification"}, "model.ts", r"header\.image_size: is needed"),
        (
            LENET | CLASSIFIER | {"image_size": 28},
            "weights.safetensors",
            r"header\.image_size: must be 32 for lenet5; it is 28",
        ),
        ({"image_size": -1}, "model.ts", r"header\.image_size: "),
        ({"image_size": 5000}, "model.ts", r"header\.image_size: "),
        (CLASSIFIER | {"multiple_of": 8}, "model.ts", r"header\.multiple_of: is for segmentation"),
        (CLASSIFIER | {"activation": "sigmoid"}, "model.ts", r"header\.activation: must be soft"),
        (
            CLASSIFIER | {"class_shares": {"gland": 0.5}},
            "model.ts",
            r"header\.class_shares: are shares of pixels",
        ),
        (
            {"class_shares": {"background": 0.5}},
            "model.ts",
            r"header\.class_shares\.background: is no foreground class; there are gland, nucleus",
        ),
        ({"class_shares": {"gland": 1.5}}, "model.ts", r"header\.class_shares"),
        ({"class_shares": {"gland": math.nan}}, "model.ts", r"header\.class_shares\.gland"),
        (
            {"class_shares": {"gland": 0.6, "nucleus": 0.5}},
            "model.ts",
            r"header\.class_shares: sum to more than 1",
        ),
        ({"dp_delta": 1e-5}, "model.ts", r"header\.dp_epsilon: is needed where dp_delta"),
        ({"dp_epsilon": -1.0}, "model.ts", r"header\.dp_epsilon: "),
        ({"dp_epsilon": math.nan}, "model.ts", r"header\.dp_epsilon: "),
        ({"dp_epsilon": math.inf}, "model.ts", r"header\.dp_epsilon: "),
        ({"dp_epsilon": 1.0, "dp_delta": 1.0}, "model.ts", r"header\.dp_delta: "),
    ],
)
def test_what_does_not_fit_a_task_is_named(changes: dict[str, Any], file: str, words: str) -> None:
    """One field each, and nothing that would only follow from it."""
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        unsent_manifest(header(**changes), [file])
    assert len(caught.value.violations) == 1

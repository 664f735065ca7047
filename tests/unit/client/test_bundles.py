"""MONAI bundles, built as MONAI's model zoo lays them out."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.unet import UNet
from monai.transforms.intensity.array import (
    NormalizeIntensity,
    ScaleIntensity,
    ScaleIntensityRange,
)
from safetensors.torch import save_file
from torch import nn

from histill.client.bundles import is_bundle, read_bundle
from histill.core.errors import InvalidArgumentError
from histill.core.manifests import Normalization
from histill.core.specs import NetworkSpec
from histill.distill.nets import build_network
from histill.distill.predict import Normalized

if TYPE_CHECKING:
    from pathlib import Path

METADATA: dict[str, Any] = {
    "network_data_format": {
        "inputs": {"image": {"num_channels": 3, "spatial_shape": [736, 480], "dtype": "float32"}},
        "outputs": {
            "pred": {"num_channels": 2, "channel_def": {"0": "background", "1": "tools"}},
        },
    }
}
UNET: dict[str, Any] = {
    "_target_": "UNet",
    "spatial_dims": 2,
    "in_channels": 3,
    "out_channels": 2,
    "channels": [4, 8, 16],
    "strides": [2, 2],
    "norm": "batch",
}
SCALE: dict[str, Any] = {"_target_": "ScaleIntensityd", "keys": ["image"]}
INFERENCE: dict[str, Any] = {
    "imports": ["$import glob"],
    "bundle_root": ".",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "image_key": "image",
    "network_def": UNET,
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": -1},
            {"_target_": "monai.transforms.ScaleIntensityd", "keys": "@image_key"},
            {"_target_": "Resized", "_disabled_": True, "keys": "image"},
            {"_target_": "EnsureTyped", "keys": "image", "device": "@device"},
        ],
    },
    "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @datalist]"},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x : x[1:]"},
        ],
    },
}


def bundle(
    folder: Path,
    *,
    metadata: Any = METADATA,
    inference: Any = INFERENCE,
    models: tuple[str, ...] = ("model.ts",),
) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    for name in models:
        (folder / "models" / name).write_bytes(b"x")
    return folder


def changed(values: Any, path: str, value: Any) -> Any:
    found = copy.deepcopy(values)
    *steps, last = [int(s) if s.isdigit() else s for s in path.split(".")]
    at = found
    for step in steps:
        at = at[step]
    at[last] = value
    return found


def preprocessing(*transforms: dict[str, Any]) -> Any:
    return changed(INFERENCE, "preprocessing.transforms", list(transforms))


def test_a_bundle_says_all_that_a_header_needs(tmp_path: Path) -> None:
    """Channels, classes, scaling, activation and the sides of its input."""
    folder = bundle(tmp_path)
    assert is_bundle(folder)
    found = read_bundle(folder)
    assert found.described == {
        "role": "teacher",
        "channels": 3,
        "classes": ["background", "tools"],
        "scaling": "image_range",
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
        "activation": "softmax",
        "multiple_of": 32,
    }
    assert found.files == {"model.ts": folder / "models" / "model.ts"}


def test_the_config_may_be_yaml(tmp_path: Path) -> None:
    """inference.yaml is as good as inference.json."""
    folder = bundle(tmp_path)
    (folder / "configs" / "inference.json").unlink()
    (folder / "configs" / "inference.yaml").write_text(yaml.safe_dump(INFERENCE))
    assert read_bundle(folder).described["scaling"] == "image_range"


def test_nothing_of_a_bundle_is_evaluated(tmp_path: Path) -> None:
    """Expressions that histill has no need of are only text; no file appears."""
    trap = f"$open({str(tmp_path / 'trap')!r}, 'w')"
    inference = INFERENCE | {"imports": [trap], "initialize": [trap], "_requires_": trap}
    read_bundle(bundle(tmp_path / "b", inference=inference))
    assert not (tmp_path / "trap").exists()


def test_a_sigmoid_has_no_background_of_its_own(tmp_path: Path) -> None:
    """Its channels are the foreground classes."""
    metadata = changed(
        METADATA,
        "network_data_format.outputs.pred",
        {"num_channels": 1, "channel_def": {"0": "tools"}},
    )
    sigmoid = {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}
    inference = changed(INFERENCE, "postprocessing.transforms.0", sigmoid)
    found = read_bundle(bundle(tmp_path, metadata=metadata, inference=inference)).described
    assert (found["activation"], found["classes"]) == ("sigmoid", ["background", "tools"])


@pytest.mark.parametrize(
    ("shape", "multiple"),
    [
        ([256, 256], 32),
        ([100, 300], 4),
        (["16*n", "16*m"], 16),
        (["64*n", 64], 64),
        (["*", "*"], 32),
    ],
)
def test_sides_are_multiples_of_what_its_shape_says(
    shape: list[Any], multiple: int, tmp_path: Path
) -> None:
    """Expressions of the specification are read; of plain sides the usual stride is taken."""
    metadata = changed(METADATA, "network_data_format.inputs.image.spatial_shape", shape)
    assert read_bundle(bundle(tmp_path, metadata=metadata)).described["multiple_of"] == multiple


@pytest.mark.parametrize(
    ("net", "definition"),
    [
        (UNet(2, 3, 2, [4, 8, 16], [2, 2], norm="batch"), UNET),
        (
            UNet(2, 3, 2, [8, 16], [2], norm=("instance", {"affine": True})),
            UNET
            | {"channels": [8, 16], "strides": [2], "norm": ["INSTANCE", {"affine": True}]}
            | {"_target_": "monai.networks.nets.UNet", "num_res_units": 0, "dropout": 0.0},
        ),
        (
            AttentionUnet(2, 3, 2, [4, 8, 16], [2, 2]),
            {k: v for k, v in UNET.items() if k != "norm"} | {"_target_": "AttentionUnet"},
        ),
        (
            SegResNet(2, 8, 3, 2, norm="batch", blocks_down=(1, 1), blocks_up=(1,),
                      upsample_mode="deconv"),
            {"_target_": "SegResNet", "spatial_dims": 2, "init_filters": 8, "in_channels": 3,
             "out_channels": 2, "norm": "batch", "blocks_down": [1, 1], "blocks_up": [1],
             "upsample_mode": "deconv"},
        ),
    ],
    ids=["unet", "unet instance", "attention", "segresnet"],
)  # fmt: skip
def test_known_networks_are_exactly_ours(
    net: nn.Module, definition: dict[str, Any], tmp_path: Path
) -> None:
    """MONAI's weights load into the network that the bundle is read as, and say the same."""
    inference = INFERENCE | {"network_def": definition}
    folder = bundle(tmp_path, inference=inference, models=())
    save_file(net.state_dict(), folder / "models" / "model.safetensors")
    found = read_bundle(folder)
    assert list(found.files) == ["weights.safetensors"]
    spec = NetworkSpec.model_validate(found.described["network"])
    ours = build_network(spec, channels=3, classes=2)
    ours.load_state_dict(net.state_dict())
    image = torch.rand(1, 3, 16, 24)
    with torch.inference_mode():
        torch.testing.assert_close(ours.eval()(image), net.eval()(image))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"_target_": "FlexibleUNet"}, "'FlexibleUNet'"),
        ({"_target_": "BasicUNet"}, "'BasicUNet'"),
        ({"_target_": "scripts.evil.UNet"}, r"scripts\.evil\.UNet"),
        ({"_target_": "os.system"}, r"os\.system"),
        ({"_target_": "$@x"}, "not evaluated"),
        ({"spatial_dims": 3}, "only networks for planes"),
        ({"channels": [4, 8, 12]}, "does not double"),
        ({"channels": "$[4, 8]"}, r"network_def\.channels: is the expression"),
        ({"strides": [2, 1]}, "must be 2"),
        ({"num_res_units": 2}, r"network_def\.num_res_units: is 2"),
        ({"norm": "instance"}, r"network_def\.norm"),
        ({"norm": ["group", {"num_groups": 4}]}, r"network_def\.norm"),
        ({"act": "relu"}, r"network_def\.act"),
        ({"in_channels": 1}, "is not the 3 of the metadata"),
        ({"invented": 1}, r"network_def\.invented"),
    ],
)
def test_other_networks_need_their_program(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """Anything outside the closed set is refused by its path; with model.ts it is not read."""
    inference = INFERENCE | {"network_def": UNET | changes}
    with pytest.raises(InvalidArgumentError, match=words):
        read_bundle(bundle(tmp_path / "a", inference=inference, models=("model.safetensors",)))
    read_bundle(bundle(tmp_path / "b", inference=inference))


RANGE = {"_target_": "ScaleIntensityRanged", "keys": "image"}
NORMALIZE = {"_target_": "NormalizeIntensityd", "keys": "image"}


@pytest.mark.parametrize(
    ("transforms", "monai"),
    [
        ([SCALE], [ScaleIntensity()]),
        ([SCALE | {"minv": -1.0, "maxv": 1.0}], [ScaleIntensity(-1.0, 1.0)]),
        (
            [RANGE | {"a_min": 0, "a_max": 255, "b_min": -1, "b_max": 1, "clip": True}],
            [ScaleIntensityRange(0, 255, -1, 1, clip=True)],
        ),
        (
            [RANGE | {"a_min": 20, "a_max": 90, "b_min": 0, "b_max": 2}],
            [ScaleIntensityRange(20, 90, 0, 2)],
        ),
        (
            [SCALE, NORMALIZE | {"subtrahend": [0.4, 0.5, 0.6], "divisor": [0.2, 0.3, 0.25],
                                 "channel_wise": True}],
            [ScaleIntensity(), NormalizeIntensity([0.4, 0.5, 0.6], [0.2, 0.3, 0.25],
                                                  channel_wise=True)],
        ),
        (
            [NORMALIZE | {"subtrahend": 100, "divisor": 50}],
            [NormalizeIntensity(100, 50)],  # type: ignore[arg-type]
        ),
        ([NORMALIZE | {"channel_wise": True}], [NormalizeIntensity(channel_wise=True)]),
        (
            [SCALE, NORMALIZE | {"channel_wise": True}],
            [ScaleIntensity(), NormalizeIntensity(channel_wise=True)],
        ),
    ],
)  # fmt: skip
def test_images_are_prepared_as_monai_does(
    transforms: list[dict[str, Any]], monai: list[Any], tmp_path: Path
) -> None:
    """What becomes scaling, mean and std gives the values that MONAI's transforms give."""
    found = read_bundle(bundle(tmp_path, inference=preprocessing(*transforms))).described
    constants = Normalization(mean=found["mean"], std=found["std"], scaling=found["scaling"])
    image = torch.randint(5, 250, (3, 12, 15)).float()
    expected = image
    for transform in monai:
        expected = torch.as_tensor(transform(expected.clone()))
    given = Normalized(nn.Identity(), constants)(image[None])[0]
    torch.testing.assert_close(given, torch.Tensor(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        ({"_target_": "Resized", "keys": ["image"]}, r"transforms\[0\]\._target_: is Resized"),
        ({"_target_": "my.own.Thing", "keys": "image"}, r"my\.own\.Thing"),
        ({"_target_": "$@x", "keys": "image"}, "not evaluated"),
        ({"_target_": "LoadImaged", "_disabled_": "$1 > 2"}, r"\._disabled_: is the expression"),
        (SCALE | {"keys": "@missing"}, "refers to @missing, which is not in this file"),
        (SCALE | {"factor": 0.1}, r"\.factor"),
        (SCALE | {"channel_wise": True}, r"\.channel_wise"),
        (SCALE | {"minv": "$0"}, r"\.minv: is the expression"),
        (RANGE | {"a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1, "clip": True}, r"\.clip"),
        (RANGE | {"a_min": 0}, r"\.a_max"),
        (RANGE | {"a_min": 1, "a_max": 1}, "the same as a_min"),
        (RANGE | {"a_min": 255, "a_max": 0}, "bright into dark"),
        (NORMALIZE, r"\.channel_wise"),
        (NORMALIZE | {"nonzero": True}, r"\.nonzero"),
        (NORMALIZE | {"subtrahend": 1}, r"\.divisor"),
        (NORMALIZE | {"subtrahend": [1, 2], "divisor": 1}, r"\.subtrahend"),
    ],
)
def test_other_preparation_is_refused_by_its_path(
    transform: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """A teacher must not see other images than it was trained on."""
    with pytest.raises(InvalidArgumentError, match=words):
        read_bundle(bundle(tmp_path, inference=preprocessing(transform)))


def test_transforms_of_labels_do_not_matter(tmp_path: Path) -> None:
    """Only what is done to the image is read."""
    label = {"_target_": "Resized", "keys": ["label"]}
    assert read_bundle(bundle(tmp_path, inference=preprocessing(label, SCALE)))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("inputs.image.spatial_shape", [96, 96, 96], "only networks for planes"),
        ("inputs.image.num_channels", "$3", "not evaluated"),
        ("inputs.image.num_channels", True, "a whole number is needed"),
        ("inputs", {}, r"network_data_format\.inputs\.image: is missing"),
        ("outputs.pred.channel_def", {"0": "background"}, "must name the channels 0 to 1"),
        ("outputs.pred.channel_def", {"0": "a", "1": "b"}, "must name channel 0"),
        ("outputs.pred", {"num_channels": 1, "channel_def": {"0": "a"}}, "needs a sigmoid"),
    ],
)
def test_metadata_that_says_too_little_is_named(
    path: str, value: Any, words: str, tmp_path: Path
) -> None:
    """Volumes, missing names and odd numbers are refused by their path."""
    metadata = changed(METADATA, f"network_data_format.{path}", value)
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        read_bundle(bundle(tmp_path, metadata=metadata))
    assert "metadata.json: network_data_format." in str(caught.value)


@pytest.mark.parametrize(
    ("activation", "words"),
    [
        ({"sigmoid": True, "softmax": True}, "either sigmoid or softmax"),
        ({"other": "$torch.tanh"}, "either sigmoid or softmax|not evaluated"),
        ({"softmax": "$True"}, "not evaluated"),
        ({"sigmoid": True}, "names a background"),
    ],
)
def test_an_activation_that_is_not_clear_is_refused(
    activation: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """It must be one of two, and a sigmoid has no background."""
    transform = {"_target_": "Activationsd", "keys": "pred"} | activation
    inference = changed(INFERENCE, "postprocessing.transforms.0", transform)
    with pytest.raises(InvalidArgumentError, match=words):
        read_bundle(bundle(tmp_path, inference=inference))


def test_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    """model.pt is never read; the message holds the whole command."""
    with pytest.raises(InvalidArgumentError, match=r"python -m monai\.bundle ckpt_export"):
        read_bundle(bundle(tmp_path / "a", models=("model.pt",)))
    with pytest.raises(InvalidArgumentError, match="neither model"):
        read_bundle(bundle(tmp_path / "b", models=()))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Broken JSON, a list, a reference to itself, and a missing config."""
    folder = bundle(tmp_path)
    config = folder / "configs" / "inference.json"
    for text in ("{", "[]", json.dumps({"preprocessing": "@preprocessing"})):
        config.write_text(text)
        with pytest.raises(InvalidArgumentError, match=r"inference\.json"):
            read_bundle(folder)
    config.unlink()
    with pytest.raises(InvalidArgumentError, match="holds none of"):
        read_bundle(folder)

"""MONAI bundles as teachers. Nothing of a bundle is executed or evaluated here.

Format: https://docs.monai.io/en/stable/mb_specification.html. Plain references
(``@name``) are followed; expressions (``$...``) are refused where they matter.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from histill.client.bundle_config import Config
from histill.client.bundle_networks import network_of
from histill.client.bundle_transforms import activation_of, scaling_of
from histill.core import yaml_text
from histill.core.errors import InvalidArgumentError
from histill.core.manifests import TORCHSCRIPT, WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

METADATA = "configs/metadata.json"
_INFERENCE = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
_PLANE = 2
# No usual network halves its input more than five times; the check run says so if one does.
_STRIDE = 32
_MULTIPLE = re.compile(r"([1-9][0-9]{0,3}) *\* *[a-z]")
_EXPORT = (
    "python -m monai.bundle ckpt_export --net_id network_def --filepath models/model.ts "
    "--ckpt_file models/model.pt --meta_file configs/metadata.json --config_file {config}"
)


@dataclass(frozen=True)
class Bundle:
    """What a bundle says of its network.

    Attributes:
        described: Fields of a ``ModelHeader``, with ``network`` as in ``model.yaml``.
        files: The weights or the program, by the name under which it is registered.
    """

    described: dict[str, Any]
    files: dict[str, Path]


def is_bundle(folder: Path) -> bool:
    """Whether a folder is a MONAI bundle."""
    return (folder / METADATA).is_file()


def read_bundle(folder: Path) -> Bundle:
    """Reads a bundle of a network for planes.

    Raises:
        InvalidArgumentError: Names the path in the config of what is not understood, and
            says what to do.
    """
    metadata = _load(folder / METADATA)
    name = next((name for name in _INFERENCE if (folder / name).is_file()), None)
    if name is None:
        raise InvalidArgumentError.of(str(folder), f"holds none of {', '.join(_INFERENCE)}")
    config = _load(folder / name)
    file, path = _weights(folder, name)
    image = _port(metadata, "inputs", "image")
    channels = _whole(image, "num_channels")
    described: dict[str, Any] = {
        "role": "teacher",
        "channels": channels,
        **scaling_of(config, channels=channels),
        "activation": activation_of(config),
    }
    outputs, described["classes"] = _classes(metadata, described["activation"])
    shape = image.get("spatial_shape")
    if not isinstance(shape, list) or len(shape) != _PLANE:
        raise image.error(
            "spatial_shape", f"is {shape!r}; only networks for planes (two sides) are taken"
        )
    if file == WEIGHTS:
        described["network"] = network_of(config, channels=channels, outputs=outputs)
    else:
        described["multiple_of"] = _multiple(shape)
    return Bundle(described, {file: path})


def _load(path: Path) -> Config:
    try:
        text = path.read_text()
        values = json.loads(text) if path.suffix == ".json" else yaml_text.load(text)
    except (OSError, ValueError, RecursionError) as exc:
        raise InvalidArgumentError.of(str(path), f"cannot be read: {exc}") from exc
    if not isinstance(values, dict):
        raise InvalidArgumentError.of(str(path), "must be a mapping")
    return Config(str(path), values)


def _weights(folder: Path, config: str) -> tuple[str, Path]:
    models = folder / "models"
    for stored, name in (("model.ts", TORCHSCRIPT), ("model.safetensors", WEIGHTS)):
        if (models / stored).is_file():
            return name, models / stored
    if (models / "model.pt").is_file():
        raise InvalidArgumentError.of(
            str(models / "model.pt"),
            "is a pickle, which is not taken. In the bundle's folder, make a TorchScript program "
            f"with: {_EXPORT.format(config=config)}  (or save its state_dict as "
            "models/model.safetensors)",
        )
    raise InvalidArgumentError.of(str(models), "holds neither model.ts nor model.safetensors")


def _port(metadata: Config, side: str, name: str) -> Config:
    return metadata.inner("network_data_format").inner(side).inner(name)


def _whole(config: Config, name: str) -> int:
    value = config.get(name)
    if type(value) is not int or value < 1:
        raise config.error(name, f"is {value!r}; a whole number is needed")
    return value


def _classes(metadata: Config, activation: str) -> tuple[int, list[str]]:
    """Number of outputs, and the classes' names with background first."""
    pred = _port(metadata, "outputs", "pred")
    outputs = _whole(pred, "num_channels")
    defined = pred.inner("channel_def")
    names = [defined.get(str(index)) for index in range(outputs)]
    if len(defined.values) != outputs or not all(isinstance(name, str) for name in names):
        raise pred.error("channel_def", f"must name the channels 0 to {outputs - 1}, and no others")
    words = [str(name).strip() for name in names]
    background = [index for index, word in enumerate(words) if word.lower() == "background"]
    if activation == "sigmoid":
        if background:
            raise pred.error(
                "channel_def",
                "names a background, but each channel has a sigmoid of its own; histill takes "
                "background to be what no channel claims. Export the network without it",
            )
        return outputs, ["background", *words]
    if outputs == 1:
        raise pred.error(
            "num_channels",
            "is 1, which needs a sigmoid: postprocessing must hold Activationsd, sigmoid: true",
        )
    if background != [0]:
        raise pred.error("channel_def", "must name channel 0, and no other, background")
    return outputs, ["background", *words[1:]]


def _multiple(shape: list[Any]) -> int:
    """What the sides of an input must be multiples of, as far as its shape tells."""
    steps = [_step(side) for side in shape]
    return min(1024, math.lcm(*steps))


def _step(side: object) -> int:
    if type(side) is int and side > 0:
        return math.gcd(side, _STRIDE)
    match = _MULTIPLE.fullmatch(side.strip()) if isinstance(side, str) else None
    return int(match[1]) if match else _STRIDE

"""Networks of MONAI bundles that are exactly one of ours, weights' names included.

MONAI's BasicUNet is none of them: its last level is wider than that of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from histill.client.bundle_config import Config

# Values that other arguments may have: those under which the network is still the same.
_SAME: dict[str, tuple[Any, ...]] = {
    "spatial_dims": (2,),
    "kernel_size": (3, [3, 3]),
    "up_kernel_size": (3, [3, 3]),
    "num_res_units": (0,),
    "act": ("PRELU", "prelu", "PReLU"),
    "dropout": (0, None),
    "dropout_prob": (0, None),
    "bias": (True,),
    "adn_ordering": ("NDA",),
    "use_conv_final": (True,),
    "norm_name": ("",),
    "upsample_mode": ("deconv",),
}
_TARGETS = {
    "UNet": ("unet", {"kernel_size", "up_kernel_size", "num_res_units", "act", "dropout", "bias",
                      "adn_ordering"}),
    "AttentionUnet": ("attention_unet", {"kernel_size", "up_kernel_size", "dropout"}),
    "SegResNet": ("segresnet", {"dropout_prob", "use_conv_final", "norm_name", "upsample_mode"}),
}  # fmt: skip
_ELSE = (
    "histill builds no network that is exactly this one; use its TorchScript program, "
    "models/model.ts, instead of models/model.safetensors"
)


def network_of(config: Config, *, channels: int, outputs: int) -> dict[str, Any]:
    """``network`` as in ``model.yaml``.

    Args:
        config: The inference config.
        channels: Of the input, as the metadata says.
        outputs: Channels of the output, as the metadata says.

    Raises:
        InvalidArgumentError: Names the argument that no network of ours has.
    """
    net = config.inner("network_def")
    target = net.target()
    if target not in _TARGETS:
        raise net.error("_target_", f"is {target!r}; {', '.join(_TARGETS)} are known. {_ELSE}")
    architecture, free = _TARGETS[target]
    given = net.arguments()
    if given.get("spatial_dims") == 3:  # noqa: PLR2004 - volumes
        raise net.error("spatial_dims", "is 3; only networks for planes are taken")
    for name, wanted in (("in_channels", channels), ("out_channels", outputs), ("spatial_dims", 2)):
        if name not in given and (target != "SegResNet" or name == "spatial_dims"):
            raise net.error(name, "is missing")
        if given.pop(name, wanted) != wanted:
            raise net.error(name, f"is not the {wanted} of the metadata")
    if target == "SegResNet":
        shape = _segresnet(net, given)
    else:
        shape = _levels(net, given, norm=target == "UNet")
    for name, value in given.items():
        if name not in free or value not in _SAME[name]:
            raise net.error(name, f"is {value!r}. {_ELSE}")
    return {"architecture": architecture, **shape}


def _levels(net: Config, given: dict[str, Any], *, norm: bool) -> dict[str, Any]:
    widths, strides = given.pop("channels", None), given.pop("strides", None)
    if not isinstance(widths, list) or not widths or type(widths[0]) is not int:
        raise net.error("channels", "must be a list of whole numbers")
    if widths != [widths[0] * 2**level for level in range(len(widths))]:
        raise net.error("channels", f"is {widths}, which does not double at each level. {_ELSE}")
    if strides != [2] * (len(widths) - 1):
        raise net.error("strides", f"is {strides}; all {len(widths) - 1} must be 2. {_ELSE}")
    # An attention U-Net of MONAI's offers no choice of norm.
    kind = _norm(net, given.pop("norm", "instance")) if norm else "batch"
    return {"width": widths[0], "depth": len(widths), "norm": kind}


def _segresnet(net: Config, given: dict[str, Any]) -> dict[str, Any]:
    down = given.pop("blocks_down", [1, 2, 2, 4])
    up = given.pop("blocks_up", [1, 1, 1])
    if not isinstance(down, list) or down != [1] * len(down) or up != [1] * (len(down) - 1):
        raise net.error("blocks_down", f"is {down}, blocks_up {up}; all must be 1. {_ELSE}")
    if given.get("upsample_mode") != "deconv":
        raise net.error("upsample_mode", f"is not 'deconv'. {_ELSE}")
    given_act = given.pop("act", "RELU")
    if given_act not in ("RELU", "relu", "ReLU", ["RELU", {"inplace": True}]):
        raise net.error("act", f"is {given_act!r}. {_ELSE}")
    width = given.pop("init_filters", 8)
    return {"width": width, "depth": len(down), "norm": _norm(net, given.pop("norm", "group"))}


def _norm(net: Config, norm: object) -> str:
    """Our word for a norm with weights; MONAI's plain "instance" has none."""
    name, options = (norm, {}) if isinstance(norm, str) else _pair(norm)
    word = name.lower() if isinstance(name, str) else ""
    if word == "batch" and options in ({}, {"affine": True}):
        return "batch"
    if word == "instance" and options == {"affine": True}:
        return "instance"
    raise net.error("norm", f"is {norm!r}; 'batch' and ['instance', {{'affine': true}}] are known. "
                    f"{_ELSE}")  # fmt: skip


def _pair(norm: object) -> tuple[object, object]:
    if isinstance(norm, list) and len(norm) == 2:  # noqa: PLR2004 - name and options
        return norm[0], norm[1]
    return norm, None

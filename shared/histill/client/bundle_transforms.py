"""Pre- and post-processing of MONAI bundles as scaling, mean, std and activation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from histill.client.bundle_config import Config

# Reading, layout and types: histill does these itself.
_IGNORED = frozenset({
    "LoadImage", "EnsureChannelFirst", "AddChannel", "AsChannelFirst", "EnsureType", "CastToType",
    "ToDevice", "ToTensor",
})  # fmt: skip
_UNDERSTOOD = frozenset({"ScaleIntensity", "ScaleIntensityRange", "NormalizeIntensity"})
_BYTE = 255.0
_ELSE = (
    "put it into the network before exporting, or describe models/model.ts in a model.yaml of "
    "its own (see README, Bring your own teachers)"
)


@dataclass(frozen=True)
class _Step:
    """``y = gain * x + offset`` a channel, of bytes or of an image scaled by its own values.

    Attributes:
        scaling: As in ``Normalization``; x is in [0, 1] unless it is ``image_zscore``.
    """

    scaling: str
    gain: tuple[float, ...]
    offset: tuple[float, ...]

    def then(self, gain: list[float], offset: list[float]) -> _Step:
        """Followed by another line."""
        return _Step(
            self.scaling,
            tuple(a * g for a, g in zip(self.gain, gain, strict=True)),
            tuple(b * g + o for b, g, o in zip(self.offset, gain, offset, strict=True)),
        )

    def range(self) -> tuple[float, float]:
        """Least and greatest value there can be."""
        if self.scaling == "image_zscore":
            return -math.inf, math.inf
        ends = [*self.offset, *(a + b for a, b in zip(self.gain, self.offset, strict=True))]
        return min(ends), max(ends)


def scaling_of(config: Config, *, channels: int) -> dict[str, Any]:
    """``scaling``, ``mean`` and ``std`` as in ``model.yaml``.

    Raises:
        InvalidArgumentError: Names the transform that is not understood.
    """
    step = _Step("constant", (_BYTE,) * channels, (0.0,) * channels)
    for transform in config.inner("preprocessing").components("transforms"):
        name = _plain(transform.target())
        if name in _IGNORED or not _on_image(transform):
            continue
        if name not in _UNDERSTOOD:
            known = ", ".join(f"{word}d" for word in sorted(_UNDERSTOOD))
            raise transform.error(
                "_target_", f"is {transform.target()}; {known} are understood: {_ELSE}"
            )
        step = _APPLIED[name](step, transform, channels)
    if not all(gain > 0 and math.isfinite(gain) for gain in step.gain):
        raise config.error("preprocessing", f"turns bright into dark, or all into one: {_ELSE}")
    return {
        "scaling": step.scaling,
        "mean": [-b / a + 0.0 for a, b in zip(step.gain, step.offset, strict=True)],
        "std": [1 / a for a in step.gain],
    }


def _scale(step: _Step, transform: Config, channels: int) -> _Step:
    low, high = _number(transform, "minv", 0.0), _number(transform, "maxv", 1.0)
    each = transform.get("channel_wise", default=False)
    if transform.get("factor") is not None or (each and channels > 1):
        name = "channel_wise" if transform.get("factor") is None else "factor"
        raise transform.error(name, f"is not understood: {_ELSE}")
    if step.scaling == "image_zscore" or len(set(step.gain)) + len(set(step.offset)) > 2:  # noqa: PLR2004
        raise transform.error("_target_", f"comes after channels were scaled apart: {_ELSE}")
    return _Step("image_range", (high - low,) * channels, (low,) * channels)


def _scale_range(step: _Step, transform: Config, channels: int) -> _Step:
    low, high = _number(transform, "a_min", None), _number(transform, "a_max", None)
    to_low, to_high = _number(transform, "b_min", 0.0), _number(transform, "b_max", 1.0)
    if high == low:
        raise transform.error("a_max", "is the same as a_min")
    gain = (to_high - to_low) / (high - low)
    after = step.then([gain] * channels, [to_low - low * gain] * channels)
    least, most = after.range()
    # What clips nothing of an 8-bit image may be called clipping.
    if transform.get("clip", default=False) and (
        least < min(to_low, to_high) - 1e-9 or most > max(to_low, to_high) + 1e-9
    ):
        raise transform.error(
            "clip", f"cuts values off between {low:g} and {high:g}; images have 0 to 255: {_ELSE}"
        )
    return after


def _normalize(step: _Step, transform: Config, channels: int) -> _Step:
    if transform.get("nonzero", default=False):
        raise transform.error("nonzero", f"is not understood: {_ELSE}")
    each = transform.get("channel_wise", default=False)
    given = [transform.get(name) for name in ("subtrahend", "divisor")]
    if given == [None, None]:
        if not each and channels > 1:
            raise transform.error(
                "channel_wise", f"must be true where channels are scaled by their own: {_ELSE}"
            )
        return _Step("image_zscore", (1.0,) * channels, (0.0,) * channels)
    if None in given:
        raise transform.error("divisor", f"and subtrahend must be given both, or neither: {_ELSE}")
    mean, std = (_per_channel(transform, name, channels) for name in ("subtrahend", "divisor"))
    # MONAI divides by 1 where the divisor is 0.
    std = [value or 1.0 for value in std]
    return step.then([1 / s for s in std], [-m / s for m, s in zip(mean, std, strict=True)])


_APPLIED = {
    "ScaleIntensity": _scale,
    "ScaleIntensityRange": _scale_range,
    "NormalizeIntensity": _normalize,
}


def activation_of(config: Config) -> str:
    """``softmax`` or ``sigmoid``, as post-processing has it; without one, softmax.

    Raises:
        InvalidArgumentError: Both, something else, or an expression.
    """
    if "postprocessing" not in config.values:
        return "softmax"
    found = "softmax"
    for transform in config.inner("postprocessing").components("transforms"):
        if _plain(transform.target()) != "Activations":
            continue
        chosen = [
            name for name in ("sigmoid", "softmax") if transform.get(name, default=False) is True
        ]
        if len(chosen) != 1 or transform.get("other") is not None:
            raise transform.error("_target_", "must have either sigmoid or softmax, set to true")
        found = chosen[0]
    return found


def _plain(target: str) -> str:
    """A transform's name without its ending for dictionaries."""
    for ending in ("Dict", "d", "D"):
        if target.endswith(ending):
            return target.removesuffix(ending)
    return target


def _on_image(transform: Config) -> bool:
    keys = transform.get("keys", "image")
    return keys == "image" or (isinstance(keys, list) and "image" in keys)


def _number(config: Config, name: str, default: float | None) -> float:
    value = config.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise config.error(name, f"is {value!r}; a number is needed")
    return float(value)


def _per_channel(config: Config, name: str, channels: int) -> list[float]:
    value = config.get(name)
    values = value if isinstance(value, list) else [value] * channels
    if len(values) == 1:
        values = values * channels
    if len(values) != channels or not all(type(v) in (int, float) for v in values):
        raise config.error(name, f"is {value!r}; {channels} numbers are needed")
    return [float(v) for v in values]

"""Calibration error and temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.special import softmax

from histill.distill import calibration
from histill.distill.calibration import PixelSample, Reliability, fit_temperature

if TYPE_CHECKING:
    import numpy.typing as npt


def pixels(
    number: int = 50_000, classes: int = 3
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Logits of a network that knows exactly how sure it may be, and classes drawn by them."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (number, classes)).astype(np.float32)
    sums = softmax(logits, axis=1).cumsum(axis=1)
    targets = (rng.random((number, 1)) > sums[:, :-1]).sum(axis=1)
    return logits, targets


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    """Logits blown up by a factor need just that factor as temperature."""
    logits, targets = pixels()
    assert fit_temperature(logits * temperature, targets) == pytest.approx(temperature, rel=0.03)


def test_the_temperature_mends_the_calibration_error() -> None:
    """A network that is three times too sure is far off before and near zero after."""
    logits, targets = pixels()
    sample = PixelSample(images=1, classes=3)
    sample.add((logits * 3).T.reshape(3, 250, 200), targets.reshape(250, 200))
    got = sample.calibrate()
    assert got is not None
    assert got.before.ece > 0.1
    assert got.after.ece < 0.01
    assert got.before.share.sum() == pytest.approx(1)


def test_the_temperature_stays_in_its_range() -> None:
    """A network that is always right would be sharpened for ever; it stops at the bound."""
    targets = np.arange(300) % 3
    assert fit_temperature(np.eye(3, dtype=np.float32)[targets], targets) == pytest.approx(
        0.25, rel=0.01
    )


def test_the_error_follows_its_formula() -> None:
    """The mean gap over 15 equal bins, weighed by the pixels in each."""
    logits, targets = pixels(2000)
    probabilities = softmax(logits * 2, axis=1)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    expected = 0.0
    for low in range(15):
        held = (confidence >= low / 15) & (confidence < (low + 1) / 15)
        if held.any():
            expected += abs(confidence[held].mean() - right[held].mean()) * held.mean()
    assert Reliability.of(logits * 2, targets).ece == pytest.approx(expected)


def test_certain_pixels_belong_to_the_last_bin() -> None:
    """A confidence of exactly 1 is counted."""
    logits = np.array([[100.0, -100.0]], dtype=np.float32)
    got = Reliability.of(logits, np.array([1]))
    assert (got.confidence.tolist(), got.accuracy.tolist(), got.ece) == ([1.0], [0.0], 1.0)


def test_a_sample_is_bounded_fair_and_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image gives its part of the pixels at most, the same ones each time."""
    monkeypatch.setattr(calibration, "_PIXELS", 100)
    logits, targets = pixels(400)

    def drawn() -> list[npt.NDArray[np.float32]]:
        sample = PixelSample(images=2, classes=3)
        sample.add(logits.T.reshape(3, 20, 20), targets.reshape(20, 20))
        sample.add(logits[:30].T.reshape(3, 5, 6), targets[:30].reshape(5, 6))
        return sample._logits

    assert [len(part) for part in drawn()] == [50, 30]
    assert all((a == b).all() for a, b in zip(drawn(), drawn(), strict=True))


def test_many_classes_take_fewer_pixels() -> None:
    """What is kept is bounded in bytes, not in pixels alone."""
    sample = PixelSample(images=1, classes=200)
    sample.add(np.zeros((200, 250, 200), dtype=np.float32), np.zeros((250, 200), dtype=np.uint8))
    assert sample._logits[0].size == 8_000_000


def test_without_pixels_nothing_is_calibrated() -> None:
    """No image, no calibration."""
    assert PixelSample(images=0, classes=2).calibrate() is None

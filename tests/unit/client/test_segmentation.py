"""Segmenting, as programs ask for it."""

from __future__ import annotations

import pytest

from histill.client.segmentation import LARGE_BYTES, large_timeout_s


@pytest.mark.parametrize(
    ("size", "factor"), [(0, 10), (1000, 10), (LARGE_BYTES, 10), (3 * LARGE_BYTES, 30)]
)
def test_a_large_call_may_last_longer(size: int, factor: int) -> None:
    """Ten times as long as a small one, and more in proportion to a file above the limit."""
    assert large_timeout_s(7, size) == pytest.approx(7 * factor)

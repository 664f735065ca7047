"""Batches drawn ahead."""

from __future__ import annotations

import threading

import pytest

from histill.distill.prefetch import prefetched


def test_everything_comes_once_and_in_order() -> None:
    """What is drawn ahead is what would be drawn in turn."""
    assert list(prefetched(lambda i: i * i, 7)) == [0, 1, 4, 9, 16, 25, 36]
    assert list(prefetched(lambda i: i, 1, ahead=5)) == [0]
    assert list(prefetched(lambda i: i, 0)) == []


def test_no_more_is_drawn_than_may_wait() -> None:
    """Two positions ahead of the one in hand, never the whole run."""
    drawn: list[int] = []

    def draw(position: int) -> int:
        drawn.append(position)
        return position

    ready = prefetched(draw, 100, ahead=2)
    for expected in range(5):
        assert next(ready) == expected
    ready.close()  # type: ignore[attr-defined]
    assert len(drawn) <= 8


def test_drawing_happens_in_another_thread() -> None:
    """The caller's thread is free for the network."""
    assert next(prefetched(lambda _: threading.get_ident(), 1)) != threading.get_ident()


def test_a_failure_reaches_the_caller() -> None:
    """What goes wrong while drawing is raised at its position."""
    ready = prefetched(lambda i: 1 // (2 - i), 4)
    assert [next(ready), next(ready)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(ready)

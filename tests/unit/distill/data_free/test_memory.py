"""The memory of samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from histill.distill.data_free.memory import Memory

CPU = torch.device("cpu")


def numbered(first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples whose logits say which they are."""
    numbers = torch.arange(first, first + count).float()
    return (numbers % 256)[:, None, None, None].expand(-1, 1, 2, 3), numbers[:, None].expand(-1, 2)


def filled(capacity: int, given: int, *, seed: int = 0, at_once: int = 7) -> Memory:
    memory = Memory(capacity, seed=seed)
    for first in range(0, given, at_once):
        memory.add(*numbered(first, min(at_once, given - first)))
    return memory


@pytest.mark.parametrize("given", [0, 3, 9, 10, 11, 100])
def test_a_memory_never_holds_more_than_its_capacity(given: int) -> None:
    """And everything until it is full, in order; then samples of what it was given, once each."""
    memory = filled(10, given)
    assert len(memory) == min(10, given)
    kept = [int(x) for x in memory.logits[:, 0]] if given else []
    assert len(kept) == len(set(kept)) == len(memory)
    assert kept == list(range(given)) if given <= 10 else set(kept) <= set(range(given))


def test_the_choice_is_uniform() -> None:
    """Each of 60 samples is kept as often as any other, over 600 memories of 12."""
    counts = np.zeros(60)
    for seed in range(600):
        for number in filled(12, 60, seed=seed).logits[:, 0]:
            counts[int(number)] += 1
    expected = 600 * 12 / 60
    assert counts.sum() == 600 * 12
    # Chi-square with 59 degrees of freedom, with the variance of a draw without repetition.
    chi_square = (np.square(counts - expected) / (expected * (1 - 12 / 60))).sum()
    assert 59 - 4 * np.sqrt(2 * 59) < chi_square < 59 + 4 * np.sqrt(2 * 59)
    thirds = counts.reshape(3, 20).mean(axis=1)
    np.testing.assert_allclose(thirds, expected, rtol=0.1)


def test_images_are_bytes_and_logits_half_precision() -> None:
    """Rounded, on the CPU; drawn they are float32 again, and belong together."""
    memory = Memory(4, seed=0)
    images = torch.tensor([0.0, 1.4, 1.6, 254.9])[:, None, None, None].expand(-1, 1, 2, 2)
    logits = torch.tensor([0.0, 1.25, 1.75, 255.0])[:, None, None, None].expand(-1, 3, 2, 2)
    memory.add(images, logits)
    assert memory.images.dtype is torch.uint8
    assert memory.logits.dtype is torch.float16
    assert memory.images[:, 0, 0, 0].tolist() == [0, 1, 2, 255]
    drawn, said = memory.draw(64, CPU)
    assert drawn.dtype is said.dtype is torch.float32
    assert drawn.shape == (64, 1, 2, 2)
    assert said.shape == (64, 3, 2, 2)
    assert torch.equal(drawn[:, 0, 0, 0], said[:, 0, 0, 0].round())
    assert len(set(drawn[:, 0, 0, 0].tolist())) == 4


def test_what_is_kept_does_not_change_with_what_was_given() -> None:
    """A memory holds copies, without a graph."""
    memory = Memory(2, seed=0)
    images, logits = torch.ones(2, 1, 2, 2), torch.ones(2, 3, requires_grad=True)
    memory.add(images, logits)
    images.fill_(9)
    assert torch.equal(memory.images, torch.ones(2, 1, 2, 2, dtype=torch.uint8))
    assert not memory.logits.requires_grad


def test_answers_that_are_not_finite_are_not_kept() -> None:
    """One NaN would come back again and again; the other samples of its batch are kept."""
    memory = Memory(4, seed=0)
    images, logits = numbered(0, 4)
    logits = logits.clone()
    logits[1, 0], logits[2, 1] = float("nan"), float("inf")
    memory.add(images, logits)
    assert memory.logits[:, 0].tolist() == [0, 3]
    assert memory.images[:, 0, 0, 0].tolist() == [0, 3]


@pytest.mark.parametrize("given", [0, 5, 50])
def test_a_restored_memory_goes_on_as_the_first_one(given: int) -> None:
    """The same samples, then the same draws and the same choice."""
    first, second = filled(8, given, seed=3), filled(8, 20, seed=9)
    second.restore(first.state())
    assert len(second) == len(first)
    for memory in (first, second):
        memory.add(*numbered(1000, 30))
    assert torch.equal(second.logits, first.logits)
    assert torch.equal(second.images, first.images)
    for one, other in zip(first.draw(16, CPU), second.draw(16, CPU), strict=True):
        assert torch.equal(one, other)


def test_a_state_does_not_change_with_the_memory() -> None:
    """It is a copy of one moment."""
    memory = filled(4, 4)
    state = memory.state()
    memory.add(*numbered(100, 50))
    assert state["given"] == 4
    assert state["logits"][:, 0].tolist() == [0, 1, 2, 3]


def test_a_memory_of_nothing_keeps_nothing() -> None:
    """Capacity 0 switches it off, also in a state."""
    memory = filled(0, 20)
    assert len(memory) == 0
    again = Memory(0, seed=1)
    again.restore(memory.state())
    assert len(again) == 0

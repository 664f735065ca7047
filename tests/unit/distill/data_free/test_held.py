"""Agreement with the teachers on held samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from histill.distill.data_free.held import Held, agreement

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")


class Told(nn.Module):
    """Gives the class that the pixels, or the first of them, say."""

    def __init__(self, classes: int, *, maps: bool) -> None:
        super().__init__()
        self.classes, self.maps = classes, maps

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = images[:, 0].long()
        if not self.maps:
            found = found[:, 0, 0]
        return nn.functional.one_hot(found, self.classes).movedim(-1, 1).float()


def samples(
    count: int, used: list[int], *, maps: bool, classes: int = 4
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that say a student's classes, and the teachers' logits."""
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.choice(used, (count, 1, 4, 5)).astype(np.uint8))
    theirs = torch.from_numpy(random.choice(used, (count, 4, 5) if maps else (count,)))
    logits = 3 * nn.functional.one_hot(theirs.long(), classes).movedim(-1, 1)
    return images, logits.half()


def test_a_classifier_agrees_by_the_share_of_equal_classes() -> None:
    """Over all samples, however many batches they are."""
    images, logits = samples(71, [0, 1, 2, 3], maps=False)
    expected = np.mean(images[:, 0, 0, 0].numpy() == logits.argmax(dim=1).numpy())
    got = agreement(Told(4, maps=False), images, logits, CPU)
    assert 0.1 < expected < 0.9
    assert got == pytest.approx(expected)


def dice(ours: np.ndarray, theirs: np.ndarray, index: int) -> float:
    one, other = ours == index, theirs == index
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize("used", [[0, 1, 2, 3], [0, 2], [1, 3]])
def test_class_maps_agree_by_the_mean_dice_of_classes_that_occur(used: list[int]) -> None:
    """Counted over all samples together; a class that is in neither map is left out."""
    images, logits = samples(71, used, maps=True)
    ours, theirs = images[:, 0].numpy(), logits.argmax(dim=1).numpy()
    expected = np.mean([dice(ours, theirs, index) for index in used if index])
    assert agreement(Told(4, maps=True), images, logits, CPU) == pytest.approx(expected)


def test_a_class_that_only_one_sees_counts_as_0() -> None:
    """It occurs, and nothing of it was found."""
    images = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    images[0] = 1
    theirs = images[:, 0].long()
    theirs[1] = 2
    logits = nn.functional.one_hot(theirs, 3).movedim(-1, 1).half()
    assert agreement(Told(3, maps=True), images, logits, CPU) == pytest.approx(0.5)


def test_two_empty_maps_agree() -> None:
    """Nothing but background is what both see."""
    images = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    logits = torch.tensor([1.0, 0.0])[None, :, None, None].expand(3, 2, 4, 4).half()
    assert agreement(Told(2, maps=True), images, logits, CPU) == 1.0


def test_the_student_is_asked_in_eval_mode(make_net: Callable[..., nn.Module]) -> None:
    """Its batch norms learn nothing from held samples."""
    student = make_net().train()
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    images = torch.randint(0, 256, (5, 1, 16, 16), dtype=torch.uint8)
    agreement(student, images, torch.randn(5, 2, 16, 16).half(), CPU)
    assert not student.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())


def test_the_criterion_is_the_mean_over_kinds() -> None:
    """Each kind counts alike, however many samples it has; one without any is left out."""
    held, student = Held(50, seed=0, device=CPU), Told(4, maps=False)
    assert held.agreement(student) == {}
    assert held.criterion(student) == 0
    images, logits = samples(40, [0, 1, 2, 3], maps=False)
    held.banks["simple"].add(images.float(), logits)
    simple = agreement(student, images, logits, CPU)
    assert held.agreement(student) == {"simple": pytest.approx(simple)}
    assert held.criterion(student) == pytest.approx(simple)
    ones = torch.ones(5, 1, 4, 5)
    held.banks["hard"].add(ones, nn.functional.one_hot(torch.ones(5).long(), 4).float())
    assert held.agreement(student)["hard"] == 1
    assert held.criterion(student) == pytest.approx((simple + 1) / 2)


def test_held_samples_outlast_a_restart() -> None:
    """Both banks, and what they will choose."""
    held, again = Held(6, seed=0, device=CPU), Held(6, seed=5, device=CPU)
    images, logits = samples(20, [0, 1], maps=False)
    held.banks["hard"].add(images.float(), logits)
    again.restore(held.state())
    for one in (held, again):
        one.banks["hard"].add(images.float(), logits)
        one.banks["simple"].add(images.float(), logits)
    for kind, bank in held.banks.items():
        assert torch.equal(bank.images, again.banks[kind].images)
        assert torch.equal(bank.logits, again.banks[kind].logits)

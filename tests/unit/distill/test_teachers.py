"""What teachers say about training images, those with labels first."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from histill.core.errors import WorkFailedError
from histill.core.specs import BoundaryWeighting, MultiTeacherSpec
from histill.distill.boundary import boundary_weight
from histill.distill.examples import Example
from histill.distill.multi_teacher import Opinions
from histill.distill.teachers import fuzziness, judged_images

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Blob = Callable[..., tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]
    Floats = npt.NDArray[np.float32]


def spec(**changes: Any) -> MultiTeacherSpec:
    fields: dict[str, Any] = {"dataset": "blobs", "output_model": "m", "teachers": ("a", "b")}
    return MultiTeacherSpec.model_validate(fields | changes)


class _Named:
    def __init__(self, name: str) -> None:
        self.reference = name


class Fixed:
    """A panel of two that answers by the brightness of an image."""

    def __init__(self, answer: Callable[[npt.NDArray[np.uint8]], list[Floats]]) -> None:
        self._answer = answer
        self.teachers = [type("T", (), {"manifest": _Named(name)})() for name in ("a@1", "b@1")]

    def ask(self, image: npt.NDArray[np.uint8]) -> Opinions:
        """The answers as opinions."""
        said = np.stack(self._answer(image)).astype(np.float32)
        usable = np.asarray(np.isfinite(said).all(axis=(1, 2, 3)))
        said[~usable] = 0
        number = len(said)
        return Opinions(
            said,
            said,
            usable,
            np.ones((number, 2), dtype=bool),
            np.full((number, 2), 0.9, dtype=np.float32),
            np.ones(number, dtype=np.float32),
        )


def believes(target: npt.NDArray[np.uint8], share: float = 0.9) -> Floats:
    truth = target == np.arange(2)[:, None, None]
    return np.where(truth, np.float32(share), np.float32(1 - share))


def test_unlabelled_images_take_their_boundaries_from_the_teachers(blob: Blob) -> None:
    """Without labels, weights rise around the consensus's outline; labels go before it."""
    image, target = blob()
    outline = np.zeros_like(target)
    outline[8:20, 8:20] = 1
    panel: Any = Fixed(lambda _: [believes(outline)] * 2)
    examples = [Example("u", image, None), Example("l", image, target)]
    unlabeled, labeled = judged_images(examples, panel, spec())
    for got, truth in ((unlabeled, outline), (labeled, target)):
        expected = boundary_weight(truth, BoundaryWeighting())
        np.testing.assert_allclose(got.weight, expected, rtol=1e-3)
    assert (unlabeled.labeled, labeled.labeled) == (False, True)
    assert unlabeled.mixture is not None
    np.testing.assert_allclose(unlabeled.mixture.astype(np.float32).sum(0), 1, atol=2e-3)


def test_unlabelled_images_trust_whom_labels_of_their_kind_trust(blob: Blob) -> None:
    """Each teacher is right about one kind of image; both are sure of themselves on both."""
    bright = [(blob(i)[0] // 4 + 190, blob(i)[1]) for i in range(6)]
    dark = [(blob(i)[0] // 4, blob(i)[1]) for i in range(6)]
    truths = {image.tobytes(): target for image, target in bright + dark}

    def answer(image: npt.NDArray[np.uint8]) -> list[Floats]:
        target = truths[image.tobytes()]
        right, wrong = believes(target, 0.95), believes(1 - target, 0.95)
        return [right, wrong] if image.mean() > 128 else [wrong, right]

    panel: Any = Fixed(answer)
    examples = [
        Example(str(i), image, target if i % 6 < 2 else None)
        for i, (image, target) in enumerate(bright + dark)
    ]
    images = judged_images(examples, panel, spec())
    assert all(image.teacher_weights[0] > 0.99 for image in images[:6])
    assert all(image.teacher_weights[1] > 0.99 for image in images[6:])
    estimated = judged_images(examples, panel, spec(teacher_weighting={"unlabeled": "estimate"}))
    assert estimated[5].teacher_weights[0] == pytest.approx(0.5, abs=0.01)


def test_a_silent_teacher_is_left_out_and_named(
    blob: Blob, capsys: pytest.CaptureFixture[str]
) -> None:
    """A teacher that yields NaN gets weight 0, and the log says so once."""
    image, target = blob()
    panel: Any = Fixed(lambda _: [believes(target), believes(target) * np.float32(np.nan)])
    examples = [Example("a", image, target), Example("b", image, None)]
    images = judged_images(examples, panel, spec())
    assert [i.teacher_weights.tolist() for i in images] == [[1, 0], [1, 0]]
    assert capsys.readouterr().out.count("b@1") == 1


def test_a_teacher_that_is_silent_on_a_labelled_image_is_judged_by_the_others(
    blob: Blob,
) -> None:
    """NaN on one labelled image is no bad score on it, and none at all of them no crash."""
    images = [blob(i) for i in range(4)]
    first = images[0][0].tobytes()

    def answer(image: npt.NDArray[np.uint8], *, everyone: bool) -> list[Floats]:
        target = next(t for i, t in images if i.tobytes() == image.tobytes())
        good, bad = believes(target, 0.9), believes(1 - target, 0.6)
        if image.tobytes() == first:
            good = good * np.float32(np.nan)
            bad = bad * np.float32(np.nan) if everyone else bad
        return [good, bad]

    examples = [Example(str(i), x, t if i < 2 else None) for i, (x, t) in enumerate(images)]
    for everyone in (False, True):
        panel: Any = Fixed(partial(answer, everyone=everyone))
        judged = judged_images(examples, panel, spec())
        assert judged[3].teacher_weights[0] > 0.9
        assert (judged[0].mixture is None) == everyone


def test_when_no_teacher_speaks_the_run_fails(blob: Blob) -> None:
    """Teachers that all yield NaN everywhere are TEACHER_MISMATCH."""
    image, target = blob()
    panel: Any = Fixed(lambda _: [np.full((2, *target.shape), np.nan)] * 2)
    with pytest.raises(WorkFailedError, match="no teacher gives finite outputs"):
        judged_images([Example("a", image, target)], panel, spec())


def test_fuzziness_is_the_entropy_of_the_mixture() -> None:
    """0 where the teachers are sure, 1 where they have no idea."""
    said = np.array([[1.0, 0.5, 0.9], [0.0, 0.5, 0.1]], dtype=np.float32)[:, None]
    expected = [0, 1, -(0.9 * np.log2(0.9) + 0.1 * np.log2(0.1))]
    np.testing.assert_allclose(fuzziness(said)[0], expected, atol=1e-5)


@pytest.mark.parametrize("fuzzy", [-1.0, 0.0, 2.0])
def test_fuzzy_boundaries_count_as_told(fuzzy: float, blob: Blob) -> None:
    """The extra weight is multiplied by 1 + fuzzy * h; at -1 a wholly fuzzy edge has none."""
    _, target = blob()
    weighting = BoundaryWeighting(fuzzy=fuzzy)
    unsure = np.ones(target.shape, dtype=np.float32)
    got = boundary_weight(target, weighting, fuzziness=unsure)
    plain = BoundaryWeighting(beta=4 * (1 + fuzzy))
    np.testing.assert_allclose(got, boundary_weight(target, plain), rtol=1e-5)

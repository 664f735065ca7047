"""Images with their true classes, and how sure a model is of these."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from histill.client.packing import IMAGE_SUFFIXES, LABEL_SUFFIXES
from histill.core.errors import InvalidArgumentError, ResourceExhaustedError
from histill.ml.decoding import decode
from histill.ml.images import fit_channels
from histill.ml.object_classes import object_classes
from histill.ml.tiling import pad

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from histill.cli.local_models import LocalModel
    from histill.ml.images import Pixels

    Integers = npt.NDArray[np.int64]

Labels = Literal["auto", "semantic", "instance"]
_MAX_PIXELS = 1 << 24  # images are run whole
_OBJECTS, _OBJECTS_AND_CONTOURS = 2, 3  # classes of which labels may number objects
_FLOOR = 1e-12  # a probability of 0 must have a logarithm


@dataclass(frozen=True)
class Example:
    """An image file, and its label's file or the index of its class."""

    image: Path
    truth: Path | int


@dataclass(frozen=True)
class Group:
    """The members, or the non-members: where they were named, and what was found there."""

    option: str
    folder: Path
    examples: list[Example]


@dataclass(frozen=True, eq=False)
class Confidences:
    """How sure a model is of each example's true class, float64 [N] each.

    Attributes:
        losses: Cross-entropy in nats; of a segmented image the mean over its pixels.
        logits: ``log(p / (1 - p))``; of a segmented image the mean over its pixels.
    """

    losses: npt.NDArray[np.float64]
    logits: npt.NDArray[np.float64]


def find_examples(folder: Path, model: LocalModel, *, option: str) -> Group:
    """Finds the images of a folder that come with what the model should say.

    Args:
        folder: ``images/`` and ``labels/``, images without a label being left out; for a
            model that classifies, one folder of images a class.
        model: Says which.
        option: Where the folder was given, for errors.

    Raises:
        InvalidArgumentError: The folder is not like that; says what to do.
    """
    if not folder.is_dir():
        raise InvalidArgumentError.of(option, f"{folder} is not a folder")
    if model.pixelwise:
        return Group(option, folder, _with_labels(folder, option))
    return Group(option, folder, _by_class(folder, model, option))


def _with_labels(folder: Path, option: str) -> list[Example]:
    for part in ("images", "labels"):
        if not (folder / part).is_dir():
            parts = [each for each in ("train", "val") if (folder / each).is_dir()]
            helps = f"; give {folder / parts[0]}, say" if parts else ""
            raise InvalidArgumentError.of(
                option, f"{folder} holds no {part}/; images/ and labels/ are needed{helps}"
            )
    labels = {path.stem: path for path in _files(folder / "labels", LABEL_SUFFIXES)}
    images = _files(folder / "images", IMAGE_SUFFIXES)
    found = [Example(path, labels[path.stem]) for path in images if path.stem in labels]
    if not found:
        what = "image with a label of the same name" if images else "image"
        raise InvalidArgumentError.of(option, f"{folder} holds no {what}")
    return found


def _by_class(folder: Path, model: LocalModel, option: str) -> list[Example]:
    names = ", ".join(model.classes)
    found: list[Example] = []
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith("."):
            continue
        if path.name not in model.classes:
            raise InvalidArgumentError.of(
                option,
                f"{path} is named like no class of {model.reference}; one folder of images a "
                f"class is needed, of {names}",
            )
        truth = model.classes.index(path.name)
        found += [Example(image, truth) for image in _files(path, IMAGE_SUFFIXES)]
    if not found:
        raise InvalidArgumentError.of(
            option, f"{folder} holds no image; one folder of images a class is needed, of {names}"
        )
    return found


def _files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)


def check_disjoint(members: Group, non_members: Group) -> None:
    """Returns when no file is in both groups.

    Raises:
        InvalidArgumentError: One is, and would be counted on both sides.
    """
    digests = {_digest(each.image): each.image for each in members.examples}
    for each in non_members.examples:
        if twin := digests.get(_digest(each.image)):
            raise InvalidArgumentError.of(
                non_members.option,
                f"{each.image} is the same image as {twin}, a member; take it out of one of them",
            )


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def number_objects(groups: Sequence[Group], model: LocalModel, labels: Labels) -> bool:
    """Whether label values number objects, rather than being class indices.

    Args:
        groups: All of them, as one folder's values may be small by chance.
        model: Says how many classes there are.
        labels: What the user says; ``auto`` finds out where that is beyond doubt.

    Raises:
        InvalidArgumentError: A value is no class, or objects become no classes of this model.
    """
    if not model.pixelwise:
        return False
    count = len(model.classes)
    if labels == "instance":
        if count not in {_OBJECTS, _OBJECTS_AND_CONTOURS}:
            raise InvalidArgumentError.of(
                "--labels",
                f"numbered objects become background and object, or these and contour; "
                f"{model.reference} has {count} classes; say --labels semantic",
            )
        return True
    for group in groups:
        for example in group.examples:
            top = int(_label(example, group.option).max(initial=0))
            if top < count:
                continue
            if labels == "auto" and count == _OBJECTS:
                return True
            raise InvalidArgumentError.of(
                group.option,
                f"{example.truth} holds the value {top}, which is none of the {count} classes of "
                f"{model.reference}; correct it, or say --labels instance if values number objects",
            )
    return False


def confidences(model: LocalModel, group: Group, *, objects: bool) -> Confidences:
    """Shows a model every image, one after the other.

    Args:
        model: On this machine.
        group: The images.
        objects: Label values number objects.

    Raises:
        InvalidArgumentError: A file cannot be read or does not fit the model; names it.
        RuntimeFailedError: The model gave up.
    """
    rows = [_confidence(model, example, group.option, objects) for example in group.examples]
    losses, logits = np.array(rows, np.float64).T
    return Confidences(losses, logits)


def _confidence(
    model: LocalModel, example: Example, option: str, objects: bool
) -> tuple[float, float]:
    image = read_pixels(example.image, model.channels, option=option)
    height, width = image.shape[:2]
    if isinstance(example.truth, int):
        if (height, width) != (model.stride, model.stride):
            raise InvalidArgumentError.of(
                option,
                f"{example.image} is {width}x{height}, {model.reference} takes "
                f"{model.stride}x{model.stride}; resize images as it was done for its training",
            )
        truth = np.array([example.truth])
        found = model.probabilities(image)[:, None]
    else:
        label = _label(example, option)
        if label.shape != (height, width):
            raise InvalidArgumentError.of(
                option,
                f"label {example.truth} is {label.shape[1]}x{label.shape[0]}, its image "
                f"{width}x{height}",
            )
        truth = object_classes(label, classes=len(model.classes)) if objects else label
        padded = pad(image[None], multiple=model.stride)[0]
        found = model.probabilities(padded)[:, :height, :width]
    return _sureness(found, truth)


def _sureness(
    probabilities: npt.NDArray[np.float32], truth: npt.NDArray[np.integer]
) -> tuple[float, float]:
    """Mean cross-entropy and mean logit of the true class.

    The others' probabilities are added up: 1 - p would round to 0 where the model is sure.
    """
    chosen = truth.astype(np.int64)[None]
    true = np.take_along_axis(probabilities, chosen, axis=0)[0].astype(np.float64)
    rest = probabilities.copy()
    np.put_along_axis(rest, chosen, 0, axis=0)
    inside = np.log(np.maximum(true, _FLOOR))
    outside = np.log(np.maximum(rest.sum(axis=0, dtype=np.float64), _FLOOR))
    return float(-inside.mean()), float((inside - outside).mean())


def read_pixels(path: Path, channels: int, *, option: str) -> Pixels:
    """An image file as uint8 [H, W, channels], as serving and training see it.

    Raises:
        InvalidArgumentError: It cannot be read, is too large, or its channels do not fit.
    """
    try:
        with path.open("rb") as file:
            return fit_channels(decode(file, max_pixels=_MAX_PIXELS).pixels, channels)
    except (InvalidArgumentError, ResourceExhaustedError, OSError) as exc:
        raise InvalidArgumentError.of(option, f"{path}: {exc}") from exc


def _label(example: Example, option: str) -> Integers:
    try:
        with Image.open(str(example.truth)) as opened:
            values = np.asarray(opened)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as exc:
        raise InvalidArgumentError.of(option, f"{example.truth} cannot be read: {exc}") from exc
    if values.ndim != 2 or values.dtype.kind not in "iub":  # noqa: PLR2004 - rows and columns
        raise InvalidArgumentError.of(
            option, f"label {example.truth} must be one channel of whole numbers"
        )
    if int(values.min(initial=0)) < 0:
        raise InvalidArgumentError.of(option, f"label {example.truth} holds a value below 0")
    return values.astype(np.int64)

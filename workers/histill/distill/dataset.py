"""The run's dataset: shards decoded, labels chosen, constants measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from histill.core.specs import MultiTeacherSpec
from histill.distill.examples import (
    Example,
    choose_labeled,
    decode_example,
    measure_normalization,
)
from histill.distill.reasons import dataset_invalid
from histill.distill.shards import read_shards

if TYPE_CHECKING:
    from histill.core.manifests import Normalization
    from histill.distill.workdir import RunOrder, Workdir

log = structlog.get_logger()

_TRAIN, _VAL = "train", "val"


@dataclass(frozen=True)
class Dataset:
    """Decoded images of one run.

    Attributes:
        training: All images of the train split; those whose labels are not used have
            no target.
        validation: Labelled images of the val split.
        normalization: Constants of the train split's images.
    """

    training: list[Example]
    validation: list[Example]
    normalization: Normalization


def load_dataset(workdir: Workdir, order: RunOrder) -> Dataset:
    """Reads, decodes and checks what a run needs.

    Labels that the run does not use are not even decoded.

    Raises:
        WorkFailedError: DATASET_INVALID.
    """
    splits = read_shards(workdir.dataset)
    for split in (_TRAIN, _VAL):
        if not splits.get(split):
            raise dataset_invalid(
                f"there are no images in the {split} split",
                hint="Put images under train/ and val/ in the dataset's folder.",
            )
    training = order.spec.training
    pairs = splits[_TRAIN]
    available = [key for key, pair in pairs.items() if pair.label is not None]
    if training.labeled_images > len(available):
        log.warning(
            "fewer_labels_than_asked_for", asked=training.labeled_images, have=len(available)
        )
    chosen = set(choose_labeled(available, count=training.labeled_images, seed=training.seed))
    if not chosen and not isinstance(order.spec, MultiTeacherSpec):
        raise dataset_invalid(
            "no image in the train split has a label",
            hint="Training from labels needs {id}.label.png files.",
        )
    train = [
        decode_example(key, pair, order.dataset, labeled=key in chosen)
        for key, pair in pairs.items()
    ]
    validation = [
        decode_example(key, pair, order.dataset, labeled=True)
        for key, pair in splits[_VAL].items()
        if pair.label is not None
    ]
    if not validation:
        raise dataset_invalid(
            "no image in the val split has a label",
            hint="Results are measured on labelled images under val/.",
        )
    log.info(
        "dataset_loaded",
        dataset=order.dataset.reference,
        labeled=len(chosen),
        unlabeled=len(train) - len(chosen),
        validation=len(validation),
    )
    return Dataset(train, validation, measure_normalization(train))

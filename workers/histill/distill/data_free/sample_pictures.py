"""Grids of samples for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from histill.distill.page import picture
from histill.distill.pictures import errors, fitted, jpeg, overlay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from histill.distill.data_free.curves import Grid

_TIMES = 2  # samples are small


def sample_grid(grid: Grid, classes: Sequence[str]) -> tuple[str, str]:
    """Samples side by side.

    Args:
        grid: What was made.
        classes: Names.

    Returns:
        The picture as HTML, and a line of text to go below it: for classification the
        teachers' classes, else empty.
    """
    images = [fitted(np.ascontiguousarray(i))[0] for i in grid.images.permute(0, 2, 3, 1).numpy()]
    said = grid.logits.float().argmax(dim=1).numpy().astype(np.uint8)
    alt = f"{len(images)} samples of generator {grid.kind} at step {grid.step}."
    rows, caption = [np.concatenate(images, axis=1)], ""
    if said.ndim == 1:
        caption = "Teachers: " + ", ".join(classes[int(index)] for index in said) + "."
    else:
        answers = grid.answers.numpy()
        for make in (
            lambda i: overlay(images[i], said[i]),
            lambda i: errors(images[i], answers[i], said[i]),
        ):
            row = [make(i) for i in range(len(images))]
            rows.append(np.concatenate(row, axis=1))
    whole = np.concatenate(rows, axis=0).repeat(_TIMES, axis=0).repeat(_TIMES, axis=1)
    return picture(jpeg(whole), kind="image/jpeg", alt=alt), caption

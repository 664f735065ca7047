"""What is said about privacy, in cards and reports alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histill.core.manifests import DifferentialPrivacy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from histill.core.manifests import ModelManifest


_MAX_EPSILON = 1e6  # that a manifest can hold


def inherited(teachers: Sequence[ModelManifest]) -> DifferentialPrivacy | None:
    """The guarantee that a student inherits: what is made of a model alone is no worse.

    Several teachers may have learnt from the same people: their budgets add up.

    Source: post-processing and composition, Dwork and Roth 2014, 2.1 and 3.5.
    """
    private = [teacher.privacy for teacher in teachers if teacher.privacy is not None]
    if len(private) < len(teachers):
        return None
    epsilon, delta = sum(one.epsilon for one in private), sum(one.delta for one in private)
    if delta >= 1 or epsilon > _MAX_EPSILON:
        return None  # it promises nothing
    return DifferentialPrivacy(epsilon=epsilon, delta=delta)


def guarantee(teachers: Sequence[ModelManifest]) -> str:
    """That guarantee in words."""
    private = inherited(teachers)
    if private is None:
        return (
            "No formal guarantee. The job saw no data, but the teachers did, and what a teacher "
            "remembers of single images can pass into samples and student."
        )
    budget = f"epsilon {private.epsilon:g} and delta {private.delta:g}"
    return (
        f"Differential privacy with {budget}, if the teachers' manifests tell the truth and their "
        "guarantees cover all that was pushed with them, statistics and class shares too: what is "
        "made of such teachers alone keeps it."
    )


def touched(teachers: Sequence[ModelManifest]) -> str:
    """What a data-free job has read, in a sentence."""
    names = ", ".join(teacher.reference for teacher in teachers)
    return (
        f"The job read the files and manifests of {names}, and nothing else: no dataset was named, "
        "fetched or opened."
    )

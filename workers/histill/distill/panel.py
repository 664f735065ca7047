"""The teachers of a run, each asked once about each image and view."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from histill.distill.multi_teacher import Opinions, softmax
from histill.distill.opinions import dictionary
from histill.distill.programs import load_teacher
from histill.distill.reasons import is_out_of_memory, teacher_mismatch
from histill.distill.scores import prior_dice
from histill.distill.teacher_cache import digest
from histill.distill.transfer import familiarity

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import torch

    from histill.core.manifests import DatasetManifest, ModelManifest
    from histill.core.specs import MultiTeacherSpec
    from histill.distill.opinions import Dictionary, Floats
    from histill.distill.predict import Predictor
    from histill.distill.teacher_cache import TeacherCache
    from histill.distill.workdir import Workdir

_LARGEST = 60_000.0  # of a logit, so that half precision holds it
_QUARTERS = 4


@dataclass(frozen=True)
class Teacher:
    """One teacher, ready to be asked.

    Attributes:
        manifest: What it is.
        predictor: What it says about an image.
        dictionary: What that means in the dataset's classes.
        priors: Its recorded Dice in each class of the dataset, float32 [C].
        temperature: Divides its logits so that its confidence is calibrated; 1 when its
            manifest records none.
    """

    manifest: ModelManifest
    predictor: Predictor
    dictionary: Dictionary
    priors: Floats
    temperature: float

    @cached_property
    def key(self) -> bytes:
        """Its content: the digests of its files, and how they are read."""
        files = sorted(f"{file.path} {file.sha256}" for file in self.manifest.files)
        read = self.manifest.model_dump_json(
            include={"network", "multiple_of", "activation", "channels", "classes", "normalization"}
        )
        return "\n".join([*files, read, self.predictor.device.type]).encode()


@dataclass(frozen=True)
class Panel:
    """All teachers of a run.

    Attributes:
        teachers: In the spec's order.
        views: Flips and quarter turns that each prediction is averaged over, 1 to 8.
        temperature: Softmax temperature of the soft opinions.
        cache: Where predictions are kept; ``None`` asks anew.
    """

    teachers: Sequence[Teacher]
    views: int
    temperature: float
    cache: TeacherCache | None

    def ask(self, image: npt.NDArray[np.uint8]) -> Opinions:
        """What each teacher says about an image, uint8 [H, W, C]."""
        classes = len(self.teachers[0].priors)
        sharp = np.zeros((len(self.teachers), classes, *image.shape[:2]), dtype=np.float32)
        soft, usable = np.zeros_like(sharp), np.zeros(len(self.teachers), dtype=bool)
        content = digest(str(image.shape).encode(), image.tobytes()) if self.cache else ""
        for k, teacher in enumerate(self.teachers):
            views = [self._logits(teacher, image, content, v) for v in range(self.views)]
            usable[k] = all(bool(np.isfinite(logits).all()) for logits in views)
            if usable[k]:
                for to, warmth in ((sharp, 1.0), (soft, self.temperature)):
                    heat = np.float32(teacher.temperature * warmth)
                    seen = np.mean([softmax(logits / heat, axis=0) for logits in views], axis=0)
                    to[k] = teacher.dictionary.translate(seen)
        return Opinions(
            sharp=sharp,
            soft=soft,
            usable=usable,
            known=np.stack([teacher.dictionary.known for teacher in self.teachers]),
            priors=np.stack([teacher.priors for teacher in self.teachers]),
            familiarity=np.array(
                [familiarity(image, teacher.manifest.normalization) for teacher in self.teachers],
                dtype=np.float32,
            ),
        )

    def _logits(
        self, teacher: Teacher, image: npt.NDArray[np.uint8], content: str, view: int
    ) -> Floats:
        """A teacher's logits of one view, turned back; the same with a cache and without."""
        shape = (len(teacher.manifest.classes), *image.shape[:2])
        key = ""
        if self.cache is not None:
            key = digest(teacher.key, content.encode(), bytes([view]))
            if (kept := self.cache.get(key, shape)) is not None:
                return kept.astype(np.float32)
        seen = self._asked(teacher, np.ascontiguousarray(turned(image, view)))
        logits = turned_back(seen.transpose(1, 2, 0), view).transpose(2, 0, 1)
        if np.isfinite(logits).all():
            logits = np.clip(logits, -_LARGEST, _LARGEST)
        half = logits.astype(np.float16)
        if self.cache is not None:
            self.cache.put(key, half)
        return half.astype(np.float32)

    def _asked(self, teacher: Teacher, image: npt.NDArray[np.uint8]) -> Floats:
        try:
            return teacher.predictor.logits(image)
        except Exception as exc:
            # A foreign program may raise anything on a size that it was not tried with.
            if is_out_of_memory(exc):
                raise
            height, width = image.shape[:2]
            raise teacher_mismatch(
                f"teacher {teacher.manifest.reference} fails on an image of {width}x{height} "
                f"pixels: {str(exc).splitlines()[0] if str(exc) else type(exc).__name__}",
                hint="Set multiple_of if its sides must be multiples of a number.",
            ) from exc


def turned(plane: npt.NDArray[Any], view: int) -> npt.NDArray[Any]:
    """A plane [H, W, ...] in one of the eight views of a square; view 0 is as it is."""
    return np.rot90(plane[:, ::-1] if view >= _QUARTERS else plane, view % _QUARTERS)


def turned_back(plane: npt.NDArray[Any], view: int) -> npt.NDArray[Any]:
    """The inverse of ``turned``."""
    straight = np.rot90(plane, -(view % _QUARTERS))
    return straight[:, ::-1] if view >= _QUARTERS else straight


def load_panel(
    workdir: Workdir,
    manifests: Sequence[ModelManifest],
    dataset: DatasetManifest,
    spec: MultiTeacherSpec,
    device: torch.device,
    cache: TeacherCache | None,
) -> Panel:
    """Loads the teachers of a run.

    Raises:
        WorkFailedError: TEACHER_MISMATCH; one cannot speak about the dataset.
    """
    teachers, usual = [], prior_dice(manifests)
    for index, (named, manifest) in enumerate(zip(spec.teachers, manifests, strict=True)):
        if manifest.channels != dataset.channels:
            raise teacher_mismatch(
                f"teacher {manifest.reference} takes {manifest.channels} channels; images of "
                f"{dataset.reference} have {dataset.channels}",
                hint="Choose teachers trained on images of the same kind.",
            )
        mapped = spec.class_maps.get(named)
        words = dictionary(manifest, dataset.classes, mapped.classes if mapped else None)
        teachers.append(
            Teacher(
                manifest=manifest,
                predictor=load_teacher(workdir.teacher(index), manifest, device),
                dictionary=words,
                priors=_priors(manifest, words, usual[index]),
                temperature=manifest.metrics.get("temperature", 1.0),
            )
        )
    return Panel(teachers, spec.teacher_views, spec.temperature, cache)


def _priors(manifest: ModelManifest, words: Dictionary, usual: float) -> Floats:
    """Recorded Dice by class of the dataset; the usual one for what has no record."""
    priors = np.full(len(words.known), usual, dtype=np.float32)
    for own, theirs in zip(manifest.classes, words.index, strict=True):
        if theirs and f"dice:{own}" in manifest.metrics:
            priors[theirs] = manifest.metrics[f"dice:{own}"]
    return priors

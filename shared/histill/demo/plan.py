"""The jobs of the demo: three teachers of different kinds, a baseline and a student."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BASELINE = "student-labels-only"
STUDENT = "student-distilled"
_TEACHERS: dict[str, tuple[dict[str, Any], int]] = {
    "teacher-unet": ({"architecture": "unet", "width": 16, "depth": 4}, 250),
    "teacher-basic-unet": ({"architecture": "basic_unet", "width": 8, "depth": 4}, 150),
    "teacher-segresnet": ({"architecture": "segresnet", "width": 8, "depth": 3}, 150),
}
_STUDENT_NETWORK = {"architecture": "unet", "width": 8, "depth": 4}
_STUDENT_STEPS = 250


@dataclass(frozen=True)
class Plan:
    """What all jobs of one demo share.

    Attributes:
        dataset: Reference of the dataset.
        crop_size: Side of the training crops, in pixels.
        labeled_images: How many labels both students see.
    """

    dataset: str
    crop_size: int
    labeled_images: int

    def teachers(self) -> dict[str, dict[str, Any]]:
        """Jobs that train the teachers from all labels, by the name of their model."""
        return {
            name: {
                "display_name": f"{network['architecture']} teacher",
                "supervised": {
                    "dataset": self.dataset,
                    "output_model": name,
                    "network": network,
                    "training": {"steps": steps, "batch_size": 8, "crop_size": self.crop_size},
                },
            }
            for name, (network, steps) in _TEACHERS.items()
        }

    def baseline(self) -> dict[str, Any]:
        """The student from few labels alone."""
        return {
            "display_name": "student from labels alone",
            "supervised": {
                "dataset": self.dataset,
                "output_model": BASELINE,
                "network": _STUDENT_NETWORK,
                "training": self._student_training(),
            },
        }

    def student(self, teachers: list[str]) -> dict[str, Any]:
        """The student from the same labels, the other images, and the teachers."""
        return {
            "display_name": "student distilled from three teachers",
            "multi_teacher": {
                "dataset": self.dataset,
                "output_model": STUDENT,
                "teachers": teachers,
                "student": _STUDENT_NETWORK,
                "training": self._student_training(),
            },
        }

    def _student_training(self) -> dict[str, Any]:
        # Network, steps, seed and labels are the same, so that only the teachers differ.
        return {
            "steps": _STUDENT_STEPS,
            "batch_size": 8,
            "crop_size": self.crop_size,
            "labeled_images": self.labeled_images,
        }

"""The jobs of the demo: three teachers of different kinds, a baseline and a student."""

from __future__ import annotations

from typing import Any

TEACHERS: dict[str, dict[str, Any]] = {
    "teacher-unet": {"architecture": "unet", "width": 16, "depth": 4},
    "teacher-basic-unet": {"architecture": "basic_unet", "width": 8, "depth": 4},
    "teacher-attention": {"architecture": "attention_unet", "width": 8, "depth": 4},
}
BASELINE = "student-labels-only"
STUDENT = "student-distilled"
_STUDENT_NETWORK = {"architecture": "unet", "width": 8, "depth": 4}
_TEACHER_TRAINING = {"steps": 150, "batch_size": 8, "crop_size": 96}
_STUDENT_TRAINING = {"steps": 200, "batch_size": 8, "crop_size": 96}


def teacher_jobs(dataset: str) -> dict[str, dict[str, Any]]:
    """Jobs that train the teachers from all labels, by the name of their model."""
    return {
        name: {
            "display_name": f"{network['architecture']} teacher",
            "supervised": {
                "dataset": dataset,
                "output_model": name,
                "network": network,
                "training": _TEACHER_TRAINING,
            },
        }
        for name, network in TEACHERS.items()
    }


def baseline_job(dataset: str, *, labeled_images: int) -> dict[str, Any]:
    """The student from few labels alone: the same network, steps, labels and seed."""
    return {
        "display_name": "student from labels alone",
        "supervised": {
            "dataset": dataset,
            "output_model": BASELINE,
            "network": _STUDENT_NETWORK,
            "training": _STUDENT_TRAINING | {"labeled_images": labeled_images},
        },
    }


def student_job(dataset: str, teachers: list[str], *, labeled_images: int) -> dict[str, Any]:
    """The student from few labels, the other images without labels, and the teachers."""
    return {
        "display_name": "student distilled from three teachers",
        "multi_teacher": {
            "dataset": dataset,
            "output_model": STUDENT,
            "teachers": teachers,
            "student": _STUDENT_NETWORK,
            "training": _STUDENT_TRAINING | {"labeled_images": labeled_images},
        },
    }

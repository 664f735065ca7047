"""The demo from end to end, over a running system."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from histill.api.distillation.v1 import job_pb2
from histill.client.packing import pack, val_pairs
from histill.core.errors import HistillError, InvalidArgumentError
from histill.demo import plan
from histill.demo.measure import Row, held_out, measure
from histill.demo.panels import write_panel
from histill.demo.plan import Plan
from histill.demo.tissue import CLASSES, DESCRIPTION, TRAIN_TILE, write_tissue

if TYPE_CHECKING:
    from collections.abc import Callable

    from histill.client import Client

PANELS = 4


@dataclass(frozen=True)
class Source:
    """The demo's data.

    Attributes:
        folder: Images and labels.
        classes: What the label values mean.
        description: Where it comes from, and how its labels were made.
        crop_size: Side of the training crops, in pixels.
        images_a_label: Of how many training images both students get one label.
    """

    folder: Path
    classes: tuple[str, ...]
    description: str
    crop_size: int = 80
    images_a_label: int = 24


@dataclass(frozen=True)
class Outcome:
    """The table's rows, and how many of the training images the students had labels of."""

    rows: list[Row]
    labeled_images: int
    images: int


def choose_source(data: Path | None, home: Path) -> Source:
    """The folder that was named, or the tissue section that comes along.

    Raises:
        InvalidArgumentError: The folder holds no images and labels.
    """
    if data is None:
        return Source(
            write_tissue(home / "tissue"),
            CLASSES,
            DESCRIPTION,
            crop_size=TRAIN_TILE,
            images_a_label=12,
        )
    usable = [data] if _is_dataset(data) else [path for path in data.iterdir() if _is_dataset(path)]
    if not usable:
        raise InvalidArgumentError.of(
            "--data", f"{data} holds neither images/ and labels/ nor train/ and val/ with both"
        )
    # A folder of datasets: the smallest makes the shortest demo.
    folder = min(usable, key=lambda path: sum(len(names) for *_, names in os.walk(path)))
    return Source(folder, ("background", "object"), f"from {folder}")


def check_source(source: Source) -> None:
    """Looks at every image and label once, before seconds go into starting servers.

    Raises:
        InvalidArgumentError: One cannot be used; names it.
    """
    with tempfile.TemporaryDirectory(prefix="histill-demo-") as scratch:
        pack(source.folder, Path(scratch), classes=len(source.classes), channels=3)


def _is_dataset(path: Path) -> bool:
    return (path / "images").is_dir() or (path / "train" / "images").is_dir()


def run(
    client: Client,
    source: Source,
    out: Path,
    *,
    say: Callable[[str], None],
    follow: Callable[[str, str], job_pb2.Job],
) -> Outcome:
    """Runs the main job; the rows are the teachers, the baseline and the student.

    Args:
        client: Of a running system.
        source: The data.
        out: Folder for the overlays; made when missing.
        say: Told what happens.
        follow: Shows a job, by name and label, until it has ended, and returns it.

    Raises:
        HistillError: A job failed.
    """
    dataset = client.datasets.push(
        source.folder, name="demo", classes=source.classes, description=source.description
    )
    say(
        f"pushed {dataset.reference}: {dataset.splits['train']} training images, "
        f"{dataset.splits['val']} held out"
    )
    images = dataset.splits["train"]
    work = Plan(dataset.reference, source.crop_size, max(2, images // source.images_a_label))
    jobs = {name: client.jobs.submit(spec).name for name, spec in work.teachers().items()}
    baseline = client.jobs.submit(work.baseline()).name
    teachers = [_result(follow(job, name)) for name, job in jobs.items()]
    student = client.jobs.submit(work.student(teachers)).name
    references = [*teachers, _result(follow(baseline, plan.BASELINE))]
    references.append(_result(follow(student, plan.STUDENT)))
    served = client.models.alias(references[-1], "production")
    say(f"{served.reference} is now {served.name.split('/')[1]}@production")
    say("segmenting the held-out images through the inference service")
    held_images = held_out(val_pairs(source.folder), classes=len(source.classes))
    rows = [
        measure(client, reference, held_images, classes=len(source.classes))
        for reference in references
    ]
    out.mkdir(parents=True, exist_ok=True)
    for index, held in enumerate(held_images[:PANELS]):
        masks = {
            "image": None,
            "reference": held.reference,
            "labels alone": rows[-2].masks[index],
            "distilled": rows[-1].masks[index],
        }
        write_panel(out / f"{held.image.stem}.png", held.image, masks)
    return Outcome(rows, work.labeled_images, images)


def _result(job: job_pb2.Job) -> str:
    if job.state != job_pb2.JOB_STATE_SUCCEEDED:
        raise HistillError(f"{job.name} ({job.display_name}) did not succeed")
    _, name, _, version = job.result_model.split("/")
    return f"{name}@{version}"

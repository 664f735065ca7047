"""``histill privacy neighbours``: generated samples beside real images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from histill.cli.jobs import full_name
from histill.cli.output import JsonFlag, print_json, print_table, say
from histill.cli.sample_files import FolderImages, find_images, load_samples
from histill.client import Client
from histill.ml.resemblance import cut_copies, find_nearest, ratios, summarize

if TYPE_CHECKING:
    from histill.ml.resemblance import Nearest, Resemblance, Spread

_FOLDER = "--folder"
_COPIES = "copies"
_HOW_TO_READ = (
    "Distances go from 0, a copy up to brightness and contrast, to 2. Near are samples closer "
    "to an image than 99 % of the folder's patches are to another image; singled out are those "
    "to which one image is far nearer than the next. By chance each is about 1 %; far more "
    "means that samples repeat images."
)


def neighbours(
    job: Annotated[str, typer.Argument(help="A data-free job: jobs/ID, or the ID alone.")],
    folder: Annotated[Path, typer.Option(help="Images, e.g. those the teachers learnt from.")],
    json: JsonFlag = False,
) -> None:
    """Compares a job's generated samples with a folder's images, and sends none of these."""
    name, paths = full_name(job), find_images(folder, option=_FOLDER)
    with Client.connect() as client:
        parts = load_samples(client.jobs.samples(name), job=name)
    _, height, width, channels = next(iter(parts.values())).shape
    images = FolderImages(paths, channels, _FOLDER)
    kinds = [kind for kind, array in parts.items() for _ in array]
    copies = cut_copies(images, height=height, width=width)
    if copies is not None:
        parts[_COPIES] = copies
    found = find_nearest(np.concatenate(list(parts.values())), images)
    results: dict[str, Resemblance] = {}
    start = 0
    for kind, array in parts.items():
        results[kind] = summarize(found, slice(start, start + len(array)))
        start += len(array)
    suspect = _suspect(kinds, found, paths)
    if json:
        print_json(_as_json(name, results, suspect))
    else:
        _print(results, suspect, len(found.yardstick))


def _suspect(kinds: list[str], found: Nearest, paths: list[Path]) -> dict[str, Any]:
    """The sample to which one image is nearest in comparison with the next, for a look."""
    index = int(ratios(found.distances, found.seconds)[: len(kinds)].argmin())
    return {
        "kind": kinds[index],
        "sample": index - kinds.index(kinds[index]),
        "image": str(paths[int(found.images[index])]),
        "distance": float(found.distances[index]),
        "next_image_distance": float(found.seconds[index]),
    }


def _as_json(job: str, results: dict[str, Resemblance], suspect: dict[str, Any]) -> dict[str, Any]:
    values = {kind: asdict(each) for kind, each in results.items()}
    return {
        "job": job,
        "copies": values.pop(_COPIES, None),
        "samples": values,
        "most_singled_out": suspect,
    }


def _print(results: dict[str, Resemblance], suspect: dict[str, Any], patches: int) -> None:
    names = {_COPIES: "copies, cut here"}
    ruler = next(iter(results.values())).yardstick
    print_table(
        "nearest real patches",
        ("what", "count", "minimum", "1st %", "5th %", "median", "near", "singled out"),
        [
            *(
                (
                    names.get(kind, f"{kind} samples"),
                    str(each.count),
                    *_words(each.samples),
                    f"{each.near:.1%}",
                    f"{each.singled_out:.1%}",
                )
                for kind, each in results.items()
            ),
            ("folder's own patches", str(patches), *_words(ruler), "1.0%", "1.0%"),
        ],
    )
    say(_HOW_TO_READ)
    if _COPIES in results:
        share = results[_COPIES].singled_out
        say(
            f"Of crops cut here out of the folder's images {share:.0%} are singled out: this "
            "comparison would find about that share of copies, and no turned or mirrored ones."
        )
    else:
        say("No image is as large as a sample, so nobody knows what share of copies is found.")
    say(
        f"Most singled out: {suspect['kind']} sample {suspect['sample']} and {suspect['image']}, "
        f"at {suspect['distance']:.3f}, the next image at {suspect['next_image_distance']:.3f}; "
        "histill jobs samples writes the samples."
    )
    say("The folder was read on this machine alone; nothing of it was sent.")


def _words(spread: Spread) -> tuple[str, ...]:
    return tuple(f"{value:.3f}" for value in asdict(spread).values())

"""What a removal has done, and what is left of it and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from histill.core.audit import FOLDER as AUDIT
from histill.core.catalog import MODELS
from histill.jobs.purge_search import Looked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histill.jobs.purge_plan import Plan
    from histill.jobs.purge_subject import Note, Subject

_KEPT = "was kept as asked; its manifest and its card name where it comes from"
_DESCENDS = "was distilled from a model of it, as its card tells; remove it if you want"
_NAMES = "records name what was done to what, and hold no data; it was not searched"
_COUNTER = "holds the name, so that no number of a version is ever given twice"
_VERSIONS = (
    "keeps older versions of what is removed, or does not let us ask; remove those, with a rule "
    "for noncurrent versions, or let us call GetBucketVersioning"
)
_NAMESAKE = "has the dataset's name: words of reports and cards were taken to mean the model"
SILENT = (
    "did not say in time that its disk is clean; if it is gone, the next worker with its folders "
    "removes what it left; then purge again"
)


@dataclass(frozen=True)
class Trace:
    """Something that mentions what was removed: where, and what that is."""

    place: str
    why: str


@dataclass
class Outcome:
    """What was removed, where it was looked for, and what is left."""

    jobs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    descendants: tuple[str, ...] = ()
    objects: int = 0
    bytes: int = 0
    redis_keys: int = 0
    looked: Looked = field(default_factory=Looked)
    workers: tuple[str, ...] = ()
    left: list[Trace] = field(default_factory=list)
    stays: list[Trace] = field(default_factory=list)


def judge(
    outcome: Outcome, subject: Subject, plan: Plan, *, kept: set[str], keeps_versions: bool
) -> None:
    """Tells what must not be left from what may stay.

    Args:
        outcome: With where it was looked; what is left and what stays is added.
        subject: What was removed.
        plan: With what else.
        kept: Models that were kept as asked.
        keeps_versions: Whether the store keeps what is removed.
    """
    stays = {**dict.fromkeys(plan.descendants, _DESCENDS), **dict.fromkeys(kept, _KEPT)}
    for key in outcome.looked.found:
        if of := next((each for each in stays if _lies_under(key, each)), ""):
            outcome.stays.append(Trace(key, f"{of} {stays[of]}"))
        elif not key.endswith(subject.note_key):
            outcome.left.append(Trace(key, "mentions it; look into it, then purge again"))
    for mention in outcome.looked.mentions:
        outcome.left.append(Trace(mention.key, "mentions it in Redis; purge again"))
    if keeps_versions:
        outcome.left.append(Trace("the bucket", _VERSIONS))
    outcome.stays.append(Trace(AUDIT, _NAMES))
    if plan.namesake and subject.dataset:
        outcome.stays.append(Trace(f"models/{subject.dataset.partition('@')[0]}", _NAMESAKE))
    for counter in sorted({*_counters(subject, plan.note)}):
        outcome.stays.append(Trace(f"counter of {counter}", _COUNTER))


def _lies_under(key: str, model: str) -> bool:
    name, _, version = model.partition("@")
    return f"/{MODELS.prefix(name, int(version))}" in f"/{key}"


def _counters(subject: Subject, note: Note) -> Iterator[str]:
    if subject.dataset:
        yield f"datasets/{subject.dataset.partition('@')[0]}"
    yield from (f"models/{reference.partition('@')[0]}" for reference in note.models)

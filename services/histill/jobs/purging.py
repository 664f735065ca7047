"""Removes a job, or a dataset's version with its jobs, and proves that nothing is left.

In this order, so that one which breaks off can be called again: a note of what it concerns;
then what makes each thing visible, which is a dataset's manifest, models' manifests and jobs'
records; then everything else; then the search; at last the note.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from histill.core.catalog import DATASETS, MODELS
from histill.core.errors import FailedPreconditionError, NotFoundError
from histill.core.job_keys import job_prefix
from histill.core.projects import scoped
from histill.jobs import purge_plan
from histill.jobs.purge_outcome import SILENT, Outcome, Trace, judge
from histill.jobs.purge_search import Search, Words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from histill.core.job_store import JobStore
    from histill.core.ports import Holdings, LiveState, ObjectStore, Traces
    from histill.jobs.purge_plan import Plan
    from histill.jobs.purge_subject import Note, Subject

_POLL_S = 0.2
log = structlog.get_logger()


@dataclass(frozen=True)
class Purging:
    """Removes; one call blocks until the proof is there.

    Attributes:
        wait_s: For workers.
    """

    objects: ObjectStore
    jobs: JobStore
    live: LiveState
    traces: Traces
    holdings: Holdings
    wait_s: float

    def purge(self, subject: Subject, *, project: str, keep_models: bool, dry_run: bool) -> Outcome:
        """Removes a subject of a project.

        Args:
            subject: What.
            project: Whose; what another has does not exist.
            keep_models: Leave the models that its jobs made.
            dry_run: Remove nothing, and search for nothing.

        Raises:
            NotFoundError: There is nothing of it.
            FailedPreconditionError: A job has not ended, or an alias points at its models.
            UnavailableError: A server is away; call again.
        """
        own = scoped(self.objects, project)
        plan = self._found(subject, project)
        plan.check(keep_models=keep_models)
        if not dry_run:
            plan = self._begin(subject, plan, project, keep_models=keep_models)
        outcome = self._told(subject, plan, own, keep_models=keep_models)
        if dry_run:
            return outcome
        going = plan.going(keep_models=keep_models)
        self._remove(subject, plan.note, going, own)
        search = Search(self.objects, self.jobs, self.traces)
        words = Words(subject.dataset, plan.note.jobs, plan.namesake)
        outcome.redis_keys = self.traces.erase(search.mentions_of_jobs(words))
        outcome.workers, silent = self._asked(subject, plan.note, project)
        outcome.left += [Trace(f"worker {worker}", SILENT) for worker in silent]
        outcome.looked = search.look(words, project=project)
        kept = set(plan.note.models) - set(going)
        judge(outcome, subject, plan, kept=kept, keeps_versions=self.objects.keeps_versions())
        if not outcome.left:
            own.delete(subject.note_key)
        log.info("purged", jobs=len(outcome.jobs), objects=outcome.objects, left=len(outcome.left))
        return outcome

    def _begin(self, subject: Subject, plan: Plan, project: str, *, keep_models: bool) -> Plan:
        """Notes what goes, and makes sure that nothing new comes."""
        own = scoped(self.objects, project)
        self._settle(plan)
        own.put(subject.note_key, plan.note.model_dump_json().encode())
        if not subject.dataset:
            return plan
        # From here on no job can begin with it; one that has just done so is found now.
        own.delete(_manifest_key(subject.dataset))
        again = self._found(subject, project)
        again.check(keep_models=keep_models)
        self._settle(again)
        own.put(subject.note_key, again.note.model_dump_json().encode())
        return again

    def _found(self, subject: Subject, project: str) -> Plan:
        plan = purge_plan.find(subject, project=project, objects=self.objects, jobs=self.jobs)
        own = scoped(self.objects, project)
        if not (plan.begun or plan.note.jobs or plan.note.models) and not any(
            True for prefix in _prefixes(subject, ()) for _ in own.list(prefix)
        ):
            raise NotFoundError(f"{subject.name} does not exist, and no job or model names it")
        return plan

    def _settle(self, plan: Plan) -> None:
        """Waits for the workers of jobs that have just ended: they still store events.

        Raises:
            FailedPreconditionError: One takes too long.
        """
        deadline = time.monotonic() + self.wait_s
        for job_id in plan.note.jobs:
            while self.live.leases([job_id]):
                if time.monotonic() > deadline:
                    raise FailedPreconditionError(
                        f"jobs/{job_id} has ended, and its worker is not done with it; try again"
                    )
                time.sleep(_POLL_S)
            try:
                self.jobs.close(job_id)
            except NotFoundError:
                continue  # it went with the call that broke off

    def _told(
        self, subject: Subject, plan: Plan, own: ObjectStore, *, keep_models: bool
    ) -> Outcome:
        """What goes, counted while it is there."""
        going = plan.going(keep_models=keep_models)
        outcome = Outcome(
            jobs=tuple(f"jobs/{job_id}" for job_id in plan.note.jobs),
            models=going,
            datasets=(subject.dataset,) if subject.dataset else (),
            descendants=plan.descendants if going else (),
        )
        prefixes = [(self.objects, job_prefix(job_id)) for job_id in plan.note.jobs]
        prefixes += [(own, prefix) for prefix in _prefixes(subject, going)]
        for store, prefix in prefixes:
            for _, size in store.sizes(prefix):
                outcome.objects += 1
                outcome.bytes += size
        return outcome

    def _remove(self, subject: Subject, note: Note, going: Iterable[str], own: ObjectStore) -> None:
        """Removes what makes things visible before all the rest."""
        for reference in going:
            own.delete(_model_manifest_key(reference))
        for job_id in note.jobs:
            with suppress(NotFoundError):  # it went with a call that broke off
                self.jobs.delete(job_id)
        for job_id in note.jobs:
            self.objects.delete_prefix(job_prefix(job_id))
        for prefix in _prefixes(subject, going):
            own.delete_prefix(prefix)

    def _asked(
        self, subject: Subject, note: Note, project: str
    ) -> tuple[tuple[str, ...], list[str]]:
        """Workers that said that their disks are clean, and those that did not."""
        wanted = {f"jobs/{job_id}" for job_id in note.jobs}
        if subject.dataset:
            wanted.add(f"{project}/{subject.dataset}")
        question, deadline = self.holdings.ask(), time.monotonic() + self.wait_s
        waited_for, clean = set(self.holdings.told()), set[str]()
        while True:
            told = self.holdings.told()
            waited_for |= told.keys()
            clean = {
                worker
                for worker, said in told.items()
                if said.asked >= question and wanted.isdisjoint(said.held)
            } | clean
            silent = sorted(waited_for - clean)
            if not silent or time.monotonic() > deadline:
                return tuple(sorted(clean)), silent
            time.sleep(_POLL_S)


def _manifest_key(dataset: str) -> str:
    name, _, version = dataset.partition("@")
    return DATASETS.manifest_key(name, int(version))


def _model_manifest_key(reference: str) -> str:
    name, _, version = reference.partition("@")
    return MODELS.manifest_key(name, int(version))


def _prefixes(subject: Subject, models: Iterable[str]) -> Iterator[str]:
    """Prefixes of a project's objects that go."""
    if subject.dataset:
        name, _, version = subject.dataset.partition("@")
        yield DATASETS.prefix(name, int(version))
    for reference in models:
        name, _, version = reference.partition("@")
        yield MODELS.prefix(name, int(version))

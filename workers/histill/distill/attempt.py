"""One attempt at one job: fetch, train, publish, and say how it ended."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from histill.core import catalog, results
from histill.core.catalog import MODELS
from histill.core.errors import HistillError, NotFoundError, UnavailableError
from histill.core.job_keys import (
    checkpoint_prefix,
    generators_key,
    job_prefix,
    report_key,
    samples_key,
)
from histill.core.jobs import Job, JobState
from histill.core.manifests import GENERATORS, SAMPLES
from histill.distill import measures
from histill.distill.attempt_spans import AttemptSpans
from histill.distill.checkpoints import Checkpoints
from histill.distill.failures import job_error
from histill.distill.inputs import fetch_inputs
from histill.distill.stops import StoppedError, StopReason
from histill.distill.telling import Telling
from histill.distill.trainer_process import (
    TrainerKilledError,
    run_trainer,
    trainer_environment,
)
from histill.distill.workdir import DataFreeOrder, Workdir, made_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from histill.core.manifests import ModelManifest
    from histill.distill.stops import Stop
    from histill.distill.workdir import Order, RunResult
    from histill.distill.worker import Worker

_WITH_JOB = {"report.html": report_key, SAMPLES: samples_key, GENERATORS: generators_key}
_LAST_WORDS_S = 10.0
T = TypeVar("T")
log = structlog.get_logger()


def close(job: Job, worker: Worker) -> None:
    """Drops what only a running attempt needs, and archives the events of an ended job."""
    worker.live.clear(job.id)
    if job.state.final:
        worker.jobs.close(job.id)
        worker.live.forget(job.id)


@dataclass
class Attempt:
    """One run of one job under one lease."""

    worker: Worker
    job: Job
    stop: Stop
    telling: Telling = field(init=False)
    spans: AttemptSpans = field(init=False)

    def __post_init__(self) -> None:
        self.telling = Telling(self.worker, self.job)
        self.spans = AttemptSpans.begun(self.job)

    def run(self) -> None:
        """Runs it and records how it ended."""
        with structlog.contextvars.bound_contextvars(**self.spans.logged()):
            self._run()

    def _run(self) -> None:
        log.info("attempt_started", job=self.job.name, attempt=self.job.attempt)
        outcome = "UNKNOWN"
        try:
            result = self._patiently(self._left_by_another) or self._work()
            outcome = self._succeeded(result)
        except StoppedError as stopped:
            outcome = self._stopped(stopped.reason)
        except (UnavailableError, TrainerKilledError) as exc:
            self.spans.fail(exc)
            outcome = self._given_back(exc)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the job must say so
            self.spans.fail(exc)
            outcome = self._failed(exc)
        finally:
            self.spans.end(outcome)
            measures.ATTEMPTS.labels(self.job.kind, outcome).inc()
            log.info("attempt_ended", job=self.job.name, outcome=outcome)

    def _left_by_another(self) -> ModelManifest | None:
        """What an earlier attempt published before its worker was lost; its parts are removed."""
        found = results.published(self.worker.objects, self.job)
        if found is not None:
            log.info("result_found", job=self.job.name, model=found.reference)
        elif self.job.publishing:
            results.discard(self.worker.objects, self.job)
            # Not to be taken for the result later: its sleeping maker may add the manifest.
            self.job = self._update(lambda job: job.model_copy(update={"publishing": ""}))
        return found

    def _work(self) -> ModelManifest:
        with tempfile.TemporaryDirectory(prefix=f"{self.job.id}-", dir=self.worker.scratch) as root:
            folder = Workdir(Path(root))
            self._begin("fetching")
            order = self._patiently(
                partial(
                    fetch_inputs,
                    self.job,
                    folder,
                    source=self.worker.source_of(self.job.project),
                    settings=self.worker.settings,
                    stop=self.stop,
                )
            )
            checkpoints = Checkpoints(
                self.worker.objects, self.job.id, self.job.fence, folder.checkpoint
            )
            if self._patiently(checkpoints.fetch):
                log.info("checkpoint_fetched", job=self.job.name)
            result = self._train(folder, checkpoints)
            self._begin("publishing")
            return self._patiently(partial(self._publish, folder, order, result))

    def _begin(self, stage: str) -> None:
        self.spans.enter(stage)
        self.telling.stage(stage)

    def _train(self, folder: Workdir, checkpoints: Checkpoints) -> RunResult:
        settings = self.worker.settings
        threads = settings.threads or max(1, len(os.sched_getaffinity(0)) // settings.concurrency)
        with checkpoints.stored():
            return run_trainer(
                self.worker.command(folder),
                trainer_environment(os.environ, threads=threads),
                folder,
                self.stop,
                heard=lambda event: self.spans.see(event.progress),
                on_event=self.telling.event,
                on_log=self.telling.line,
                grace_s=settings.stop_grace_s,
                drain_s=settings.drain_s,
            )

    def _publish(self, folder: Workdir, order: Order, result: RunResult) -> ModelManifest:
        self.stop.check()
        files = sorted(folder.result.iterdir())
        kept = [path for path in files if path.name not in _WITH_JOB]
        with_job = [path for path in files if path.name in _WITH_JOB]
        if isinstance(order, DataFreeOrder) and order.spec.keep_generators:
            kept += [path for path in files if path.name in {SAMPLES, GENERATORS}]
        manifest = made_manifest(
            order, result, map(catalog.file_of, kept), create_time=self.worker.clock()
        )
        return catalog.publish(
            self.worker.objects_of(self.job.project),
            self.worker.versions_of(self.job.project),
            MODELS,
            manifest,
            kept,
            before=partial(self._note, with_job),
            signer=self.worker.signing.signer,
            project=self.job.project,
        )

    def _note(self, with_job: Sequence[Path], version: int) -> None:
        """Notes in the record which version is about to be written, if the job is still ours.

        Then only what lies with the job is replaced: the report of who has lost it counts
        for nothing.
        """
        reference = f"{self.job.spec.output_model}@{version}"
        self.stop.check()
        before = self.job
        self.job = self._update(lambda job: job.model_copy(update={"publishing": reference}))
        if before.publishing != reference:
            results.discard(self.worker.objects, before)  # of a try that broke off
            for path in with_job:
                self.worker.objects.put_file(_WITH_JOB[path.name](self.job.id), path)

    def _update(self, change: Callable[[Job], Job]) -> Job:
        """Changes the record, if the job is still ours.

        Raises:
            StoppedError: LEASE_LOST; it belongs to another lease, has ended or is gone.
        """

        def checked(job: Job) -> Job:
            self._check_ours(job)
            return change(job)

        try:
            return self.worker.jobs.update(self.job.id, checked)
        except NotFoundError:
            raise StoppedError(StopReason.LEASE_LOST) from None

    def _check_ours(self, job: Job) -> None:
        if job.fence != self.job.fence or job.state is not JobState.RUNNING:
            raise StoppedError(StopReason.LEASE_LOST)

    def _succeeded(self, made: ModelManifest) -> str:
        name = results.result_name(made.reference)
        try:
            self._finish(JobState.SUCCEEDED, result_model=name, metrics=made.metrics)
        except StoppedError:
            # Another may have taken it for the result: only the record knows.
            if not self.worker.jobs.disown(self.job.id, made.reference):
                raise
        return JobState.SUCCEEDED

    def _stopped(self, reason: StopReason) -> str:
        match reason:
            case StopReason.CANCELLED:
                self._finish(JobState.CANCELLED)
            case StopReason.DRAINED:
                self._finish(JobState.QUEUED)
            case StopReason.LEASE_LOST:
                measures.LEASE_LOST.inc()
                log.warning("lease_lost", job=self.job.name, fence=self.job.fence)
                self._clean_up()
        return reason

    def _clean_up(self) -> None:
        """Removes what was stored of a job that ended, or was deleted, without us."""
        try:
            if self.worker.jobs.stored(self.job.id).state.final:
                self.worker.objects.delete_prefix(checkpoint_prefix(self.job.id))
        except NotFoundError:
            self.worker.objects.delete_prefix(job_prefix(self.job.id))
        except HistillError as exc:
            log.warning("not_cleaned_up", job=self.job.name, why=str(exc))

    def _given_back(self, exc: HistillError) -> str:
        losses = self.job.losses + 1
        if losses >= self.worker.settings.max_losses:
            return self._failed(exc)
        log.warning("attempt_given_back", job=self.job.name, error=str(exc))
        try:
            self._finish(JobState.QUEUED, losses=losses)
        except UnavailableError:
            # Nothing can be recorded now; the lease runs out and the reaper takes over.
            log.warning("job_left_to_reaper", job=self.job.name)
        return JobState.QUEUED

    def _failed(self, exc: Exception) -> str:
        try:
            self._finish(JobState.FAILED, error=job_error(exc, tuple(self.telling.log_tail)))
        except UnavailableError:
            log.warning("job_left_to_reaper", job=self.job.name)
        return JobState.FAILED

    def _finish(self, state: JobState, **changes: object) -> None:
        """Records the end, unless the job meanwhile belongs to another lease."""

        def move(job: Job) -> Job:
            if job.fence == self.job.fence and job.state is state:
                return job  # it was recorded, and only the answer was lost
            self._check_ours(job)
            to = state
            if job.cancel_requested and state is not JobState.SUCCEEDED:
                to = JobState.CANCELLED
            return job.moved_to(to, at=self.worker.clock(), **changes)

        try:
            job = self._patiently(partial(self.worker.jobs.update, self.job.id, move), last=True)
        except (StoppedError, NotFoundError):
            if state is JobState.SUCCEEDED:
                raise StoppedError(StopReason.LEASE_LOST) from None
            self._stopped(StopReason.LEASE_LOST)
            return
        try:
            close(job, self.worker)
        except HistillError as exc:
            log.warning("attempt_not_closed", job=self.job.name, why=str(exc))

    def _patiently(self, action: Callable[[], T], *, last: bool = False) -> T:
        settings = self.worker.settings
        return self.stop.patiently(
            action,
            patience_s=settings.patience_s,
            # How it ended is worth some seconds even of a worker that has to stop.
            stopped_s=min(settings.patience_s, _LAST_WORDS_S) if last else 0.0,
        )

"""One attempt at one job: take the lease, fetch, train, publish, and say how it ended.

Safe to call twice for one job: the second call finds the lease held or the job
ended, and returns.
"""

from __future__ import annotations

import os
import socket
import tempfile
import uuid
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from histill.core import catalog
from histill.core.catalog import DATASETS, MODELS
from histill.core.errors import (
    HistillError,
    IllegalMoveError,
    NotFoundError,
    UnavailableError,
)
from histill.core.events import JobEvent
from histill.core.job_store import generators_key, report_key, samples_key
from histill.core.jobs import Job, JobState, Progress
from histill.core.manifests import (
    GENERATORS,
    SAMPLES,
    STATISTICS,
    TORCHSCRIPT,
    WEIGHTS,
    ModelManifest,
)
from histill.core.names import Reference
from histill.core.specs import DataFreeSpec, MultiTeacherSpec
from histill.distill import measures
from histill.distill.checkpoints import Checkpoints
from histill.distill.failures import job_error
from histill.distill.stops import Lease, StoppedError, StopReason, watched
from histill.distill.trainer_process import run_trainer, trainer_environment
from histill.distill.workdir import (
    DataFreeOrder,
    RunOrder,
    RunResult,
    Workdir,
    made_manifest,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from histill.core.clock import Clock
    from histill.core.job_store import JobStore
    from histill.core.ports import LiveState, ObjectStore, VersionCounter
    from histill.distill.settings import WorkerPart
    from histill.distill.stops import Stop
    from histill.distill.workdir import Order, RunEvent

log = structlog.get_logger()


@dataclass(frozen=True)
class Worker:
    """What an attempt needs; built once in ``bootstrap``."""

    objects: ObjectStore
    versions: VersionCounter
    jobs: JobStore
    live: LiveState
    settings: WorkerPart
    scratch: Path
    clock: Clock
    draining: threading.Event
    command: Callable[[Workdir], list[str]]


def run_job(job_id: str, worker: Worker) -> None:
    """Runs a job, unless somebody else does or it has ended."""
    settings = worker.settings
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    try:
        floor = worker.jobs.get(job_id).fence
    except NotFoundError:
        log.info("job_is_gone", job=job_id)
        return
    fence = worker.live.acquire_lease(job_id, owner, ttl_s=settings.lease_ttl_s, floor=floor)
    if fence is None:
        log.info("job_already_leased", job=job_id)
        return
    lease = Lease(job_id, owner, fence)
    try:
        with watched(
            lease, worker.live, worker.draining, ttl_s=settings.lease_ttl_s, poll_s=settings.poll_s
        ) as stop:
            try:
                job = worker.jobs.update(job_id, lambda job: _started(job, fence, worker.clock))
            except (IllegalMoveError, NotFoundError) as exc:
                log.info("job_not_startable", job=job_id, why=str(exc))
                return
            if job.state is JobState.RUNNING:
                Attempt(worker, job, stop).run()
            else:
                _close(job, worker)
    finally:
        worker.live.release_lease(job_id, owner, fence)


def _started(job: Job, fence: int, clock: Clock) -> Job:
    if job.cancel_requested and not job.state.final:
        return job.moved_to(JobState.CANCELLED, at=clock())
    if job.state is JobState.RUNNING:
        # Its last worker is gone (we hold the lease) and nobody has put it back yet.
        job = job.moved_to(JobState.QUEUED, at=clock(), losses=job.losses + 1)
    return job.moved_to(JobState.RUNNING, at=clock(), fence=fence)


def _close(job: Job, worker: Worker) -> None:
    """Drops what only a running attempt needs, and archives the events of an ended job."""
    worker.live.clear(job.id)
    if job.state.final:
        worker.jobs.close(job.id)


@dataclass(frozen=True)
class Attempt:
    """One run of one job under one lease."""

    worker: Worker
    job: Job
    stop: Stop
    log_tail: deque[str] = field(default_factory=lambda: deque(maxlen=30))

    def run(self) -> None:
        """Runs it and records how it ended."""
        log.info("attempt_started", job=self.job.name, attempt=self.job.attempt)
        outcome = "UNKNOWN"
        try:
            published, result = self._work()
            outcome = self._succeeded(published, result)
        except StoppedError as stopped:
            outcome = self._stopped(stopped.reason)
        except UnavailableError as exc:
            outcome = self._unavailable(exc)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the job must say so
            outcome = self._failed(exc)
        finally:
            measures.ATTEMPTS.labels(self.job.kind, outcome).inc()
            log.info("attempt_ended", job=self.job.name, outcome=outcome)

    def _work(self) -> tuple[ModelManifest, RunResult]:
        with tempfile.TemporaryDirectory(prefix=f"{self.job.id}-", dir=self.worker.scratch) as root:
            folder = Workdir(Path(root))
            order = self._fetch(folder)
            checkpoints = Checkpoints(
                self.worker.objects, self.job.id, self.job.fence, folder.checkpoint
            )
            if isinstance(order, DataFreeOrder) and checkpoints.fetch():
                log.info("checkpoint_fetched", job=self.job.name)
            result = self._train(folder, checkpoints)
            return self._publish(folder, order, result), result

    def _fetch(self, folder: Workdir) -> Order:
        self._tell(Progress(stage="fetching"))
        objects, spec = self.worker.objects, self.job.spec
        if isinstance(spec, DataFreeSpec):
            teachers = self._fetch_teachers(folder, spec.teachers)
            order: Order = DataFreeOrder(
                job=self.job.name,
                attempt=self.job.attempt,
                spec=spec,
                teachers=teachers,
                checkpoint_s=self.worker.settings.checkpoint_s,
            )
        else:
            dataset = catalog.find(objects, DATASETS, spec.dataset)
            for _ in catalog.fetch(objects, DATASETS, dataset, folder.dataset):
                self.stop.check()
            references = spec.teachers if isinstance(spec, MultiTeacherSpec) else ()
            order = RunOrder(
                job=self.job.name,
                attempt=self.job.attempt,
                spec=spec,
                dataset=dataset,
                teachers=self._fetch_teachers(folder, references),
                teacher_cache=self.worker.settings.teacher_cache,
                teacher_cache_bytes=self.worker.settings.teacher_cache_bytes,
            )
        folder.write_order(order)
        return order

    def _fetch_teachers(
        self, folder: Workdir, references: Sequence[str]
    ) -> tuple[ModelManifest, ...]:
        objects = self.worker.objects
        teachers = tuple(catalog.find(objects, MODELS, reference) for reference in references)
        for index, teacher in enumerate(teachers):
            only = (WEIGHTS if teacher.network else TORCHSCRIPT, STATISTICS)
            for _ in catalog.fetch(objects, MODELS, teacher, folder.teacher(index), only=only):
                self.stop.check()
        return teachers

    def _train(self, folder: Workdir, checkpoints: Checkpoints) -> RunResult:
        settings = self.worker.settings
        threads = settings.threads or max(1, len(os.sched_getaffinity(0)) // settings.concurrency)
        with checkpoints.stored():
            return run_trainer(
                self.worker.command(folder),
                trainer_environment(os.environ, threads=threads),
                folder,
                self.stop,
                on_event=self._on_event,
                on_log=self._log,
                grace_s=settings.stop_grace_s,
            )

    def _publish(self, folder: Workdir, order: Order, result: RunResult) -> ModelManifest:
        self._tell(Progress(stage="publishing"))
        self.stop.check()
        files = sorted(folder.result.iterdir())
        with_job = {
            "report.html": report_key(self.job.id),
            SAMPLES: samples_key(self.job.id),
            GENERATORS: generators_key(self.job.id),
        }
        kept = [path for path in files if path.name not in with_job]
        for path in files:
            if path.name in with_job:
                self.worker.objects.put_file(with_job[path.name], path)
        if isinstance(order, DataFreeOrder) and order.spec.keep_generators:
            kept += [path for path in files if path.name in {SAMPLES, GENERATORS}]
        manifest = made_manifest(
            order, result, map(catalog.file_of, kept), create_time=self.worker.clock()
        )
        return catalog.publish(self.worker.objects, self.worker.versions, MODELS, manifest, kept)

    def _succeeded(self, published: ModelManifest, result: RunResult) -> str:
        name = f"models/{published.name}/versions/{published.version}"
        try:
            self._finish(JobState.SUCCEEDED, result_model=name, metrics=result.metrics)
        except (StoppedError, HistillError):
            # The answer may be lost and the record written: only the record knows.
            if self.worker.jobs.stored(self.job.id).result_model != name:
                reference = Reference(published.name, published.version)
                catalog.delete(self.worker.objects, MODELS, reference)
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
        return reason

    def _unavailable(self, exc: UnavailableError) -> str:
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
            self._finish(JobState.FAILED, error=job_error(exc, tuple(self.log_tail)))
        except UnavailableError:
            log.warning("job_left_to_reaper", job=self.job.name)
        return JobState.FAILED

    def _finish(self, state: JobState, **changes: object) -> None:
        """Records the end, unless the job meanwhile belongs to another lease."""

        def move(job: Job) -> Job:
            if job.fence != self.job.fence or job.state is not JobState.RUNNING:
                raise StoppedError(StopReason.LEASE_LOST)
            to = state
            if job.cancel_requested and state is not JobState.SUCCEEDED:
                to = JobState.CANCELLED
            return job.moved_to(to, at=self.worker.clock(), **changes)

        try:
            job = self.worker.jobs.update(self.job.id, move)
        except StoppedError:
            if state is JobState.SUCCEEDED:
                raise
            self._stopped(StopReason.LEASE_LOST)
            return
        try:
            _close(job, self.worker)
        except UnavailableError as exc:
            log.warning("attempt_not_closed", job=self.job.name, why=str(exc))

    def _on_event(self, event: RunEvent) -> None:
        if seconds := event.metrics.get("step_seconds"):
            measures.STEP_SECONDS.labels(self.job.kind).observe(seconds)
        self._tell(event.progress, event.metrics)

    def _tell(self, progress: Progress, metrics: dict[str, float] | None = None) -> None:
        self._append(progress=progress, metrics=metrics or {})
        try:
            self.worker.live.set_progress(self.job.id, progress, metrics or {})
        except UnavailableError as exc:
            log.warning("progress_lost", job=self.job.name, error=str(exc))

    def _log(self, line: str) -> None:
        self.log_tail.append(line)
        self._append(log=line)

    def _append(self, **fields: object) -> None:
        event = JobEvent.model_validate(
            {"time": self.worker.clock(), "attempt": self.job.attempt, **fields}
        )
        try:
            self.worker.jobs.events.append(self.job.id, event)
        except UnavailableError as exc:
            # Live progress may be lost while Redis is away; the training goes on.
            log.warning("event_lost", job=self.job.name, error=str(exc))

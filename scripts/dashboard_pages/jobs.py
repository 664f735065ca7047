"""Jobs and training: what waits, what runs, how it goes, and how it ends."""

from __future__ import annotations

from dashboard_pages.asking import age, cpu, greatest, grown, memory, quantile, rate
from dashboard_pages.drawing import NS, Page, Panel, Query, Row

_STEP = "histill_job_step_seconds"
_WHERE = "{{pod}} {{instance}}"


def _state(state: str) -> str:
    each = greatest("histill_jobs", "kind", f'state="{state}"')
    return f"sum({each}) or vector(0)"


def _by(label: str) -> str:
    return f"sum by (namespace, {label}) ({greatest('histill_jobs', 'kind, state')})"


PAGE = Page(
    "histill-jobs",
    "histill: jobs and training",
    "What waits, what runs and how far it is, how attempts end, and what workers do.",
    (
        Row(
            "Now",
            (
                Panel(
                    "Running",
                    "Jobs that a worker holds.",
                    "none",
                    (Query(_state("RUNNING"), "running"),),
                ),
                Panel(
                    "Queued",
                    "Jobs that wait for a worker.",
                    "none",
                    (Query(_state("QUEUED"), "queued"),),
                ),
                Panel(
                    "Workers",
                    "Worker processes that Prometheus reads.",
                    "none",
                    (
                        Query(
                            f'count(histill_build_info{{{NS}, process="worker"}}) or vector(0)',
                            "workers",
                        ),
                    ),
                    runbook="HistillNoWorkerTakesJobs",
                ),
                Panel(
                    "Longest wait",
                    "Of the job that has been queued longest.",
                    "s",
                    (Query(f"max(histill_job_queue_oldest_seconds{{{NS}}})", "waits"),),
                    warn=3600,
                    bad=6 * 3600,
                    runbook="HistillQueueOld",
                ),
                Panel(
                    "Longest silence",
                    "Since a running job last told progress; 0 when none runs.",
                    "s",
                    (
                        Query(
                            f"max(histill_job_progress_oldest_seconds{{{NS}}}) or vector(0)",
                            "silent",
                        ),
                    ),
                    warn=600,
                    bad=1800,
                    runbook="HistillJobStuck",
                ),
            ),
            now=True,
        ),
        Row(
            "Queue",
            (
                Panel(
                    "Jobs by state",
                    "Jobs that have not ended.",
                    "none",
                    (
                        Query(
                            _by("state"),
                            "{{state}}",
                        ),
                    ),
                    stacked=True,
                    runbook="HistillNoWorkerTakesJobs",
                ),
                Panel(
                    "Demand by pool",
                    "Queued and running jobs: as many workers as KEDA starts, within its bounds.",
                    "none",
                    (Query(greatest("histill_worker_demand", "pool"), "{{pool}}"),),
                    stacked=True,
                    runbook="HistillNoWorkerTakesJobs",
                ),
                Panel(
                    "Longest wait by pool",
                    "Of the job that has been queued longest.",
                    "s",
                    (
                        Query(
                            greatest("histill_job_queue_oldest_seconds", "pool"),
                            "{{pool}}",
                        ),
                    ),
                    warn=3600,
                    bad=6 * 3600,
                    runbook="HistillQueueOld",
                ),
                Panel(
                    "Messages",
                    "Job ids that no worker has taken from Redis.",
                    "none",
                    (Query(greatest("histill_job_queue_depth", ""), "messages"),),
                    runbook="HistillQueueOld",
                ),
                Panel(
                    "Creations",
                    "CreateJob a second, by what was answered.",
                    "reqps",
                    (
                        Query(
                            rate(
                                "grpc_server_handled_total",
                                "grpc_code",
                                'grpc_service=~"histill[.]api[.]distillation[.].*"',
                                'grpc_method="CreateJob"',
                            ),
                            "{{grpc_code}}",
                        ),
                    ),
                    stacked=True,
                    runbook="HistillServiceFails",
                ),
                Panel(
                    "Jobs by kind",
                    "Jobs that have not ended.",
                    "none",
                    (
                        Query(
                            _by("kind"),
                            "{{kind}}",
                        ),
                    ),
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Training",
            (
                Panel(
                    "Progress",
                    "Mean share of their training that running jobs have done.",
                    "percentunit",
                    (Query(greatest("histill_job_progress_ratio", "kind"), "{{kind}}"),),
                    most=1,
                    runbook="HistillJobStuck",
                ),
                Panel(
                    "Silence",
                    "Longest time for which a running job has told no progress.",
                    "s",
                    (
                        Query(
                            greatest("histill_job_progress_oldest_seconds", "kind"),
                            "{{kind}}",
                        ),
                    ),
                    warn=600,
                    bad=1800,
                    runbook="HistillJobStuck",
                ),
                Panel(
                    "Steps",
                    "Optimiser steps a second, of all workers together.",
                    "ops",
                    (Query(rate("histill_job_steps_total", "kind"), "{{kind}}"),),
                    stacked=True,
                ),
                Panel(
                    "Seconds of a step, median",
                    "Of one optimiser step; of some steps a second, not of all.",
                    "s",
                    (Query(quantile(0.5, _STEP, "kind"), "{{kind}}"),),
                ),
                Panel(
                    "Seconds of a step, p95",
                    "Of one optimiser step; far above the median, the machine is shared or swaps.",
                    "s",
                    (Query(quantile(0.95, _STEP, "kind"), "{{kind}}"),),
                ),
                Panel(
                    "Seconds of a step, mean by worker",
                    "A worker that is slower than the others has fewer cores, or neighbours.",
                    "s",
                    (
                        Query(
                            f"{rate(f'{_STEP}_sum', 'pod, instance')} / "
                            f"{rate(f'{_STEP}_count', 'pod, instance')}",
                            _WHERE,
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Ends",
            (
                Panel(
                    "Jobs ended",
                    "By how they ended. Each point counts the minutes before it.",
                    "none",
                    (Query(grown("histill_jobs_ended_total", "state"), "{{state}}"),),
                    stacked=True,
                    runbook="HistillAttemptsFail",
                ),
                Panel(
                    "Attempts ended",
                    "QUEUED: given back, to be tried again. DRAINED: the worker was stopped. "
                    "LEASE_LOST: somebody else has the job by now. Each point counts the minutes "
                    "before it.",
                    "none",
                    (Query(grown("histill_job_attempts_total", "outcome"), "{{outcome}}"),),
                    stacked=True,
                    runbook="HistillAttemptsFail",
                ),
                Panel(
                    "Leases and workers lost",
                    "Leases: a worker froze, or could not reach Redis. Workers: nobody renewed the "
                    "lease, and the job was taken back. Each point counts the minutes before it.",
                    "none",
                    (
                        Query(grown("histill_lease_lost_total", ""), "leases lost"),
                        Query(grown("histill_jobs_lost_total", ""), "workers lost"),
                    ),
                    runbook="HistillWorkersLost",
                ),
            ),
        ),
        Row(
            "Workers",
            (
                Panel(
                    "Memory",
                    "Of the supervisors; a trainer is a process of its own, which the container's "
                    "metrics tell.",
                    "bytes",
                    (Query(memory("worker"), _WHERE),),
                    runbook="HistillWorkersLost",
                ),
                Panel(
                    "CPU",
                    "Cores that the supervisors use.",
                    "none",
                    (Query(cpu("worker"), _WHERE),),
                ),
                Panel(
                    "Age",
                    "Since the worker started.",
                    "s",
                    (Query(age("worker"), _WHERE),),
                    runbook="HistillProcessRestarts",
                ),
            ),
        ),
    ),
)

"""What everything stands on: stores, certificates, the audit log, processes."""

from __future__ import annotations

from dashboard_pages.asking import age, cpu, greatest, grown, memory, rate
from dashboard_pages.drawing import NS, Panel, Query, Row

_WHERE = "{{process}} {{pod}} {{instance}}"
_DAY_S = 86400


def days_left(by: str) -> str:
    """Days until certificates expire, the first of each by some labels."""
    metric = "histill_tls_certificate_expiry_timestamp_seconds"
    return f"(min by ({by}) ({metric}{{{NS}}}) - time()) / {_DAY_S}"


STORES = Row(
    "Stores, certificates, audit",
    (
        Panel(
            "Store errors",
            "Failed calls a second. unanswered: no connection, or no answer in time. "
            "credentials: our keys are refused. refused: the server cannot.",
            "ops",
            (
                Query(
                    rate("histill_store_errors_total", "store, reason"),
                    "{{store}} {{reason}}",
                ),
            ),
            bad=0.05,
            runbook="HistillStoreErrors",
        ),
        Panel(
            "Store errors by who met them",
            "One process alone has a network of its own to blame.",
            "ops",
            (
                Query(
                    rate("histill_store_errors_total", "store, job, pod"),
                    "{{store}} {{job}} {{pod}}",
                ),
            ),
            runbook="HistillStoreErrors",
        ),
        Panel(
            "Days until certificates expire",
            "Of those in use. Empty without TLS.",
            "d",
            (Query(days_left("namespace, job, use"), "{{job}} {{use}}"),),
            warn=21,
            bad=7,
            runbook="HistillCertificateExpires",
        ),
        Panel(
            "Audit records",
            "Written, a second.",
            "ops",
            (Query(rate("histill_audit_records_total", "job"), "{{job}}"),),
            stacked=True,
        ),
        Panel(
            "Audit records that wait",
            "Bytes that are not in S3 yet; where they grow, S3 is away.",
            "bytes",
            (Query(greatest("histill_audit_held_bytes", "job, pod"), "{{job}} {{pod}}"),),
            bad=16 << 20,
            runbook="HistillAuditHeld",
        ),
        Panel(
            "Audit records lost",
            "For which there was no room. Each point counts the minutes before it.",
            "none",
            (Query(grown("histill_audit_dropped_total", "job"), "{{job}}"),),
            warn=1,
            bad=1,
            runbook="HistillAuditDropped",
        ),
    ),
)
PROCESSES = Row(
    "Processes",
    (
        Panel(
            "Memory",
            "Resident memory.",
            "bytes",
            (Query(memory(".*"), _WHERE),),
            runbook="HistillProcessRestarts",
        ),
        Panel("CPU", "Cores in use.", "none", (Query(cpu(".*"), _WHERE),)),
        Panel(
            "Age",
            "Since the process started.",
            "s",
            (Query(age(".*"), _WHERE),),
            runbook="HistillProcessRestarts",
        ),
        Panel(
            "Processes by version",
            "Two versions at once are an update under way, or one that stopped halfway.",
            "none",
            (
                Query(
                    f"count by (namespace, process, version) (histill_build_info{{{NS}}})",
                    "{{process}} {{version}}",
                ),
            ),
            runbook="HistillProcessGone",
        ),
        Panel(
            "Ready",
            "1: a process of the kind is ready. 0: all of them run, and none is. The page has no "
            "such state.",
            "none",
            (Query(greatest("histill_ready", "process"), "{{process}}"),),
            warn=1,
            bad=0.5,
            most=1,
            runbook="HistillNotReady",
        ),
        Panel(
            "Open files",
            "Files and connections as a share of what a process may have.",
            "percentunit",
            (
                Query(
                    f"(process_open_fds{{{NS}}} / process_max_fds{{{NS}}}) "
                    "* on (namespace, job, instance) group_left (process) "
                    f"histill_build_info{{{NS}}}",
                    _WHERE,
                ),
            ),
            warn=0.6,
            bad=0.8,
        ),
        Panel(
            "Targets that do not answer",
            "Of those that were histill's within a day.",
            "none",
            (
                Query(
                    f"sum by (namespace, job) ((up{{{NS}}} == bool 0) "
                    "and on (namespace, job, instance) "
                    f"last_over_time(histill_build_info{{{NS}}}[1d]))",
                    "{{job}}",
                ),
            ),
            warn=1,
            bad=1,
            runbook="HistillTargetDown",
        ),
    ),
)

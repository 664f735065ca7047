"""Queries that more than one panel asks."""

from __future__ import annotations

from dashboard_pages.drawing import NS, Query

# Codes that say that our side failed; the others are the caller's, or say that there is no room.
OURS = "UNKNOWN|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|DATA_LOSS"
_WINDOW = "[$__rate_interval]"


def _labels(by: str) -> str:
    """Some labels, and that by which installations in one Prometheus are told apart."""
    return f"namespace, {by}" if by else "namespace"


def rate(metric: str, by: str, *matchers: str) -> str:
    """Events a second, summed up by namespace and some other labels."""
    return f"sum by ({_labels(by)}) (rate({metric}{{{', '.join((NS, *matchers))}}}{_WINDOW}))"


def grown(metric: str, by: str, *matchers: str) -> str:
    """Events within the window of a rate, summed up by namespace and some other labels.

    The window is four looks of Prometheus or a step of the graph and one look, whichever is
    longer: neighbouring points share events, and do not add up to all of them.
    """
    return f"sum by ({_labels(by)}) (increase({metric}{{{', '.join((NS, *matchers))}}}{_WINDOW}))"


def greatest(metric: str, by: str, *matchers: str) -> str:
    """The greatest value among replicas of a namespace that all tell the same."""
    return f"max by ({_labels(by)}) ({metric}{{{', '.join((NS, *matchers))}}})"


def quantile(share: float, histogram: str, by: str, *matchers: str) -> str:
    """A quantile of a histogram, by namespace and some other labels."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(histogram + '_bucket', labels, *matchers)})"


def quantiles(histogram: str, *matchers: str) -> tuple[Query, ...]:
    """The median, the 95th and the 99th percentile of each namespace."""
    return tuple(
        Query(quantile(share, histogram, "", *matchers), f"p{share * 100:.0f}")
        for share in (0.5, 0.95, 0.99)
    )


def of_process(metric: str, process: str) -> str:
    """A metric that every process has, of one kind of process, with its name as a label."""
    return (
        f"{metric} * on (namespace, job, instance) group_left (process) "
        f'histill_build_info{{{NS}, process=~"{process}"}}'
    )


def memory(process: str) -> str:
    """Bytes of memory that processes hold."""
    return of_process(f"process_resident_memory_bytes{{{NS}}}", process)


def cpu(process: str) -> str:
    """Cores that processes use."""
    return of_process(f"rate(process_cpu_seconds_total{{{NS}}}{_WINDOW})", process)


def age(process: str) -> str:
    """Seconds since processes started."""
    return of_process(f"(time() - process_start_time_seconds{{{NS}}})", process)

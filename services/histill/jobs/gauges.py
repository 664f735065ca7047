"""Tells what there is to do: numbers that an operator watches and that workers are scaled by."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

import structlog

from histill.core.pools import PoolLoad
from histill.jobs import measures

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from prometheus_client import Gauge

    from histill.core.clock import Clock
    from histill.core.jobs import JobKind
    from histill.core.ports import JobIndex, LiveState

# Looks in a row that tell nothing new, after which what was told before is taken back.
_BLIND_AFTER = 5
log = structlog.get_logger()


@dataclass
class Gauges:
    """Sets the gauges; the cost grows with running jobs, not with those that wait.

    Attributes:
        pools: Those of the settings: told of even when they have nothing to do, since who
            scales by a number needs it to be there.
    """

    index: JobIndex
    live: LiveState
    pools: tuple[str, ...]
    clock: Clock
    _left: frozenset[str] = frozenset()
    _told: defaultdict[Gauge, set[tuple[str, ...]]] = field(
        default_factory=lambda: defaultdict(set)
    )
    _blind: int = 0

    def loads(self) -> dict[str, PoolLoad]:
        """What each pool has to do: those of the settings, and others that still have jobs."""
        found = self.index.pools()
        left = {
            name: load
            for name, load in found.items()
            if name not in self.pools and (load.queued or load.running)
        }
        if self._left != left.keys():
            self._left = frozenset(left)
            for name, load in left.items():
                # They wait for a worker that still takes from it, or for the setting.
                log.warning("pool_not_configured", pool=name, jobs=load.queued + load.running)
        return {name: found.get(name, PoolLoad()) for name in self.pools} | left

    def publish(self, depth: int, loads: dict[str, PoolLoad]) -> None:
        """Says how things are now.

        Args:
            depth: Messages that no worker has taken.
            loads: From ``loads``.
        """
        self._blind = 0
        measures.QUEUE_DEPTH.set(depth)
        self._set(measures.JOBS, self.index.counts())
        demand = {name: load.queued + load.running for name, load in loads.items()}
        self._set(measures.DEMAND, demand)
        self._set(measures.RUNNING, {name: load.running for name, load in loads.items()})
        now = self.clock()
        waits = {
            name: (now - load.oldest).total_seconds() for name, load in loads.items() if load.oldest
        }
        self._set(measures.OLDEST_QUEUED, {name: max(0.0, waits.get(name, 0.0)) for name in loads})
        self._publish_progress(self.index.running_since())

    def _publish_progress(self, running: Mapping[JobKind, Mapping[str, datetime]]) -> None:
        told = self.live.told([job_id for jobs in running.values() for job_id in jobs])
        now = self.clock()
        silences, shares = {}, {}
        for kind, jobs in running.items():
            if not jobs:
                continue
            # Who has told nothing yet is silent since it began.
            silences[kind] = max(
                told[job_id][1] if job_id in told else max(0.0, (now - since).total_seconds())
                for job_id, since in jobs.items()
            )
            shares[kind] = fmean(
                told[job_id][0].share if job_id in told else 0.0 for job_id in jobs
            )
        self._set(measures.OLDEST_PROGRESS, silences)
        self._set(measures.PROGRESS, shares)

    def age(self) -> None:
        """Called after each look; takes everything back when several of them told nothing.

        Workers are scaled by these numbers: none at all leaves them as they are, an old one
        may be greater than the true one of another replica.
        """
        self._blind += 1
        if self._blind != _BLIND_AFTER + 1:
            return
        log.warning("gauges_taken_back", looks=_BLIND_AFTER)
        measures.QUEUE_DEPTH.set(math.nan)
        for gauge in list(self._told):
            self._set(gauge, {})

    def _set(self, gauge: Gauge, values: Mapping[Any, float]) -> None:
        """Sets these series; one that was set before and is none of them goes."""
        given = {_labels(key): value for key, value in values.items()}
        for labels, value in given.items():
            gauge.labels(*labels).set(value)
        for gone in self._told[gauge] - given.keys():
            gauge.remove(*gone)
        self._told[gauge] = set(given)


def _labels(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(str, key)) if isinstance(key, tuple) else (str(key),)

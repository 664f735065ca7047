"""How many cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup/cpu.max")


def cores(quota: Path = _CGROUP) -> int:
    """Cores of the affinity mask, or fewer when a cgroup's quota says so.

    Args:
        quota: The cgroup v2 file ``cpu.max``: microseconds and period, or ``max``.
    """
    allowed = len(os.sched_getaffinity(0))
    try:
        limit, period = quota.read_text().split()
        return (
            allowed if limit == "max" else max(1, min(allowed, math.ceil(int(limit) / int(period))))
        )
    except (OSError, ValueError):
        return allowed

"""Rolling restarts of two inference replicas under load: what is lost, and what is slower.

Each arm starts two replicas behind one name, lets four callers of our client and four of a
client that never tries again call for a while, then replaces both replicas, time after time::

    PYTHONPATH=tests .venv/bin/python tests/benchmarks/rolling.py --rolls 5
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

# Before gRPC is imported: with it, children that are forked beside its threads now and then abort.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from callers import Calls, calling
from conftest import end, run_s3
from inference_calls import of_one_model, raw, sdk
from replicas import Replicas

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CALLERS = 4
CLIENTS = {"retries nothing": raw, "our own": sdk}


@dataclass(frozen=True)
class Seen:
    """What one kind of client saw in a span of time.

    Attributes:
        seconds: How long the span was.
        took: Seconds of each answer.
        failed: How often each status came.
    """

    seconds: float
    took: Sequence[float]
    failed: Mapping[str, int]

    def cells(self) -> list[str]:
        """For a table."""
        ordered = sorted(self.took)
        at99 = ordered[int(0.99 * (len(ordered) - 1))]
        failures = ", ".join(f"{count} {code}" for code, count in sorted(self.failed.items()))
        return [
            *(str(len(ordered)), failures or "0", f"{len(ordered) / self.seconds:.0f}"),
            *(f"{1000 * value:.0f}" for value in (median(ordered), at99, ordered[-1])),
        ]


class Span:
    """Takes the answers and failures that come from now on."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._begun = time.monotonic()
        self._answered, self._failed = len(calls.answered), len(calls.failed)

    def seen(self) -> Seen:
        """What has come since."""
        took = [seconds for _, seconds in self._calls.answered[self._answered :]]
        codes = [words.split(":")[0] for words in self._calls.failed[self._failed :]]
        return Seen(time.monotonic() - self._begun, took, Counter(codes))


def measured(
    folder: Path, variables: Mapping[str, str], *, linger_s: float, rolls: int, away_s: float
) -> dict[tuple[str, str], Seen]:
    """One arm, by client and by whether replicas were being replaced."""
    found: dict[tuple[str, str], Seen] = {}
    with ExitStack() as stack:
        own = {**variables, "HISTILL_SERVER__LINGER_S": str(linger_s)}
        replicas = stack.enter_context(Replicas("inference", folder, own, away_s))
        replicas.add()
        replicas.add()
        loads = {
            name: stack.enter_context(
                calling(stack.enter_context(client(replicas.target)), callers=CALLERS)
            )
            for name, client in CLIENTS.items()
        }
        time.sleep(3)
        spans = {name: Span(calls) for name, calls in loads.items()}
        time.sleep(15)
        found |= {(name, "steady"): span.seen() for name, span in spans.items()}
        spans = {name: Span(calls) for name, calls in loads.items()}
        for _ in range(rolls):
            replicas.roll()
        found |= {(name, f"{rolls} rolls"): span.seen() for name, span in spans.items()}
    return found


def main() -> None:
    """Prints a table, a row an arm, client and phase."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rolls", type=int, default=5)
    parser.add_argument("--lingers", type=float, nargs="+", default=[0.0, 6.0], help="seconds")
    parser.add_argument("--away", type=float, default=0.0, help="seconds to the service, one way")
    asked = parser.parse_args()
    table = Table("linger s", "client", "phase", "calls", "failed", "a second", "p50 ms", "p99 ms",
                  "worst ms")  # fmt: skip
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        s3 = run_s3(folder / "s3")
        try:
            variables = of_one_model(s3, folder)
            for linger_s in asked.lingers:
                arm = folder / f"{linger_s:g}"
                arm.mkdir()
                rows = measured(
                    arm, variables, linger_s=linger_s, rolls=asked.rolls, away_s=asked.away
                )
                for (client, phase), seen in rows.items():
                    table.add_row(f"{linger_s:g}", client, phase, *seen.cells())
        finally:
            end(s3.server)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()

"""Cases of the service levels, which are alike but for names and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.edges import Edge

if TYPE_CHECKING:
    from collections.abc import Iterator

_SERVICE = 'grpc_service="histill.api.segmentation.v1.SegmentationService"'
_OPEN = 'grpc_service="inference.GRPCInferenceService"'
# What may fail, by objective.
_MAY = {"inference-availability": 0.005, "inference-latency": 0.05}
_ALERTS = {
    ("inference-availability", True): "HistillInferenceFailsFast",
    ("inference-availability", False): "HistillInferenceFailsSlowly",
    ("inference-latency", True): "HistillInferenceSlowFast",
    ("inference-latency", False): "HistillInferenceSlowSlowly",
}
# Minutes of the windows that ratios are recorded over.
_MINUTES = {"30m": 30, "1h": 60, "2h": 120, "6h": 360, "1d": 1440, "3d": 4320}


@dataclass(frozen=True)
class Burn:
    """One way in which an alert fires.

    Attributes:
        long: Window that says that it matters.
        short: Window that says that it still goes on.
        times: How many times faster than allowed the budget goes.
        step_m: Minutes between two looks at how many failures there were.
    """

    fast: bool
    long: str
    short: str
    times: float
    step_m: int


_BURNS = (
    Burn(fast=True, long="1h", short="5m", times=14.4, step_m=1),
    Burn(fast=True, long="6h", short="30m", times=6, step_m=5),
    Burn(fast=False, long="1d", short="2h", times=3, step_m=5),
    Burn(fast=False, long="3d", short="6h", times=1, step_m=15),
)


def slo_edges() -> list[Edge]:
    """All of them."""
    return [*_alerts(), *_ratios(), *_counts(), *_budgets()]


def _alerts() -> Iterator[Edge]:
    for (slo, fast), alert in _ALERTS.items():
        for burn in _BURNS:
            if burn.fast is fast:
                yield _alert(alert, slo, burn)


def _alert(alert: str, slo: str, burn: Burn) -> Edge:
    """Five installations of which one has what it takes, and one had it some time ago."""
    bound = burn.times * _MAY[slo]
    looks = _MINUTES[burn.long] // burn.step_m
    end = 2 * looks

    def failures(number: float, age: float) -> str:
        """So many of them at once, an age ago, as a share of the window."""
        at = end - round(age * looks)
        return f"0x{at - 1} {number / (60 * burn.step_m)} 0x{end - at}"

    def shares(long: float, short: float, number: float, age: float) -> tuple[str, str, str]:
        return f"{long * bound}x{end}", f"{short * bound}x{end}", failures(number, age)

    installations = {
        "burns": shares(1.1, 1.1, 10.5, 0.75),
        "long": shares(0.9, 2, 100, 0.75),
        "short": shares(2, 0.9, 100, 0.75),
        "few": shares(2, 2, 9.5, 0.75),
        "old": shares(2, 2, 100, 1.5),
    }
    names = (
        f"histill_slo_errors:ratio_rate{burn.long}",
        f"histill_slo_errors:ratio_rate{burn.short}",
        "histill_slo_failures:rate5m",
    )
    at = f"{end * burn.step_m}m"
    return Edge(
        alert,
        f"{burn.times} times over {burn.long} and {burn.short}",
        {
            f'{name}{{namespace="{namespace}", slo="{slo}"}}': values
            for namespace, given in installations.items()
            for name, values in zip(names, given, strict=True)
        }
        | {f'histill_slo_objective{{slo="{slo}"}}': f"{1 - _MAY[slo]}x{end}"},
        fires={at: [{"namespace": "burns", "slo": slo}]},
        interval=f"{burn.step_m}m",
        evaluation=at,
    )


def _ratios() -> Iterator[Edge]:
    """Failures that become more with time: each window has a mean of its own."""
    for window, minutes in _MINUTES.items():
        series = {
            'histill_slo_failures:rate5m{slo="x"}': "0+1x30",
            'histill_slo_requests:rate5m{slo="x"}': "100x30",
        }
        step_s = minutes * 6
        yield Edge(
            f"histill_slo_errors:ratio_rate{window}",
            "failures become more",
            series,
            values={f"{30 * step_s}s": {"": 0.25}},
            interval=f"{step_s}s",
        )
    yield Edge(
        "histill_slo_errors:ratio_rate5m",
        "a quarter fails, and where nobody asks there is no share",
        {
            'histill_slo_failures:rate5m{slo="x"}': "25x5",
            'histill_slo_requests:rate5m{slo="x"}': "100x5",
            'histill_slo_failures:rate5m{slo="y"}': "0x5",
            'histill_slo_requests:rate5m{slo="y"}': "0x5",
        },
        values={"5m": {"": 0.25}},
    )


def _budgets() -> Iterator[Edge]:
    for slo, may in _MAY.items():
        yield Edge(f"histill_slo_objective {slo}", "it stands", {}, values={"5m": {"": 1 - may}})
    yield Edge(
        "histill_slo_budget:left30d",
        "failures become more for three months",
        {
            'histill_slo_failures:rate5m{slo="x"}': "0+1x30",
            'histill_slo_requests:rate5m{slo="x"}': "1000x30",
            'histill_slo_objective{slo="x"}': "0.99x30",
        },
        # 25 of a thousand failed in the last month, where ten may.
        values={"90d": {"": -1.5}},
        interval="3d",
    )


def _counts() -> Iterator[Edge]:
    """Calls of all kinds that begin three minutes ago, one a second each."""
    began = "0x7 60+60x2"
    methods = [
        f'{_SERVICE}, grpc_method="Segment"',
        f'{_SERVICE}, grpc_method="SegmentLarge"',
        f'{_OPEN}, grpc_method="ModelInfer"',
        f'{_OPEN}, grpc_method="ModelStreamInfer"',
    ]
    others = {
        f'grpc_server_handled_total{{{each}, grpc_code="INTERNAL"}}': began
        for each in (
            f'{_OPEN}, grpc_method="ServerLive"',
            'grpc_service="other.S", grpc_method="Segment"',
        )
    }
    # A share of 3/5 of the window of five minutes: 0.6 a second.
    share = 0.6
    yield Edge(
        "histill_slo_requests:rate5m inference-availability",
        "calls of each kind, and requests within streams",
        {f'grpc_server_handled_total{{{each}, grpc_code="OK"}}': began for each in methods}
        | {'histill_inference_streamed_total{grpc_code="OK"}': began}
        | others,
        values={"10m": {"": 5 * share}},
    )
    ours = ("UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
    theirs = ("OK", "CANCELLED", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED")
    yield Edge(
        "histill_slo_failures:rate5m inference-availability",
        "failures of each code by each way in, and what is the caller's fault",
        {
            f'grpc_server_handled_total{{{each}, grpc_code="{code}"}}': began
            for each, code in zip([*methods, methods[0]], ours, strict=True)
        }
        | {f'histill_inference_streamed_total{{grpc_code="{code}"}}': began for code in ours}
        | {
            f'grpc_server_handled_total{{{each}, grpc_code="{code}"}}': began
            for each in methods
            for code in theirs
        }
        | {f'histill_inference_streamed_total{{grpc_code="{code}"}}': began for code in theirs}
        | others,
        values={"10m": {"": 10 * share}},
    )
    one_image = (methods[0], methods[2])
    times = {
        f"grpc_server_handling_seconds_count{{{each}}}": began for each in (*one_image, methods[1])
    }
    yield Edge(
        "histill_slo_requests:rate5m inference-latency",
        "calls of one image",
        times,
        values={"10m": {"": 2 * share}},
    )
    yield Edge(
        "histill_slo_failures:rate5m inference-latency",
        "of sixty calls of one image fifteen are in time",
        times
        | {
            f'grpc_server_handling_seconds_bucket{{{each}, le="{bound}"}}': f"0x7 {a}+{a}x2"
            for each in (*one_image, methods[1])
            for bound, a in (("0.5", 6), ("1.0", 15), ("2.5", 40))
        },
        values={"10m": {"": 2 * share * 0.75}},
    )
    yield Edge(
        "histill_inference_occupancy",
        "it is twice as full as it may be for the last minute",
        {
            "histill_inference_running": "0x270 2x29",
            "histill_inference_waiting": "0x270 2x29",
            "histill_inference_slots": "2x300",
        },
        values={"10m": {"": 1}},
        interval="2s",
        evaluation="1m",
    )

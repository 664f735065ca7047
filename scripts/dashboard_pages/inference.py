"""Inference: how fast, how much, how full, and what fails."""

from __future__ import annotations

from dashboard_pages.asking import OURS, age, cpu, memory, quantile, quantiles, rate
from dashboard_pages.drawing import NS, Page, Panel, Query, Row

_SERVICES = 'grpc_service=~"histill[.]api[.]segmentation[.].*|inference[.]GRPCInferenceService"'
_WORK = 'grpc_method=~"Segment|SegmentLarge|ModelInfer|ModelStreamInfer"'
_ONE_IMAGE = 'grpc_method=~"Segment|ModelInfer"'
_STAGE = "histill_inference_stage_seconds"
_WHERE = "{{pod}} {{instance}}"
_REFUSED = "histill_inference_refused_total"


def _stages(share: float) -> Panel:
    return Panel(
        f"Stages, p{share * 100:.0f}",
        "Where the time of a request goes: decode, queue, compute and encode, all models.",
        "s",
        (Query(quantile(share, _STAGE, "stage"), "{{stage}}"),),
        runbook="HistillInferenceSlowFast",
    )


PAGE = Page(
    "histill-inference",
    "histill: inference",
    "How fast images are segmented, how much room is left, and what fails.",
    (
        Row(
            "Now",
            (
                Panel(
                    "Calls answered",
                    "Share of the calls that segment and did not fail for reasons of our own, "
                    "over an hour. Wrong requests and full houses do not count.",
                    "percentunit",
                    (
                        Query(
                            "1 - max(histill_slo_errors:ratio_rate1h"
                            f'{{{NS}, slo="inference-availability"}})',
                            "answered",
                        ),
                    ),
                    warn=0.995,
                    bad=0.99,
                    runbook="HistillInferenceFailsFast",
                ),
                Panel(
                    "Within a second",
                    "Share of the calls of one image that took a second at most, over an hour.",
                    "percentunit",
                    (
                        Query(
                            "1 - max(histill_slo_errors:ratio_rate1h"
                            f'{{{NS}, slo="inference-latency"}})',
                            "in time",
                        ),
                    ),
                    warn=0.95,
                    bad=0.8,
                    runbook="HistillInferenceSlowFast",
                ),
                Panel(
                    "Requests",
                    "Calls that segment, a second.",
                    "reqps",
                    (
                        Query(
                            f"sum({rate('grpc_server_handled_total', 'pod', _SERVICES, _WORK)})",
                            "requests",
                        ),
                    ),
                ),
                Panel(
                    "Occupancy of the fullest",
                    "Requests inside for each that may be worked on at a time: beyond 1 they wait.",
                    "percentunit",
                    (Query(f"max(histill_inference_occupancy{{{NS}}})", "occupancy"),),
                    warn=1,
                    bad=1.7,
                    runbook="HistillInferenceRefuses",
                ),
                Panel(
                    "Sent away",
                    "Requests that were refused or expired, a second.",
                    "reqps",
                    (Query(f"sum({rate(_REFUSED, 'reason')})", "refused"),),
                    warn=0.01,
                    bad=1,
                    runbook="HistillInferenceRefuses",
                ),
                Panel(
                    "Replicas",
                    "Inference processes that Prometheus reads.",
                    "none",
                    (Query(f'count(histill_build_info{{{NS}, process="inference"}})', "replicas"),),
                    runbook="HistillProcessGone",
                ),
            ),
            now=True,
        ),
        Row(
            "Requests",
            (
                Panel(
                    "Latency of one image",
                    "Segment and ModelInfer from start to end, as the service sees it.",
                    "s",
                    quantiles("grpc_server_handling_seconds", _SERVICES, _ONE_IMAGE),
                    bad=1,
                    runbook="HistillInferenceSlowFast",
                ),
                Panel(
                    "Calls by method",
                    "Calls that ended, a second. A stream counts once, when it ends.",
                    "reqps",
                    (
                        Query(
                            rate("grpc_server_handled_total", "grpc_method", _SERVICES, _WORK),
                            "{{grpc_method}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Calls that failed, by code",
                    f"All but OK. Our own fault are {OURS.replace('|', ', ')}; the others are the "
                    "caller's, or say that there was no room.",
                    "reqps",
                    (
                        Query(
                            rate(
                                "grpc_server_handled_total",
                                "grpc_code",
                                _SERVICES,
                                'grpc_code!="OK"',
                            ),
                            "{{grpc_code}}",
                        ),
                        Query(
                            rate(
                                "histill_inference_streamed_total",
                                "grpc_code",
                                'grpc_code!="OK"',
                            ),
                            "{{grpc_code}} in streams",
                        ),
                    ),
                    runbook="HistillInferenceFailsFast",
                ),
                _stages(0.5),
                _stages(0.95),
                _stages(0.99),
                Panel(
                    "Images by model",
                    "Requests that were answered, a second.",
                    "reqps",
                    (
                        Query(
                            rate(f"{_STAGE}_count", "project, model", 'stage="compute"'),
                            "{{project}}/{{model}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Computation by model, p95",
                    "Seconds of one request in the network; a large image is many tiles.",
                    "s",
                    (
                        Query(
                            quantile(0.95, _STAGE, "project, model", 'stage="compute"'),
                            "{{project}}/{{model}}",
                        ),
                    ),
                    runbook="HistillInferenceSlowFast",
                ),
                Panel(
                    "Streamed requests",
                    "Requests within streams of ModelStreamInfer, a second.",
                    "reqps",
                    (
                        Query(
                            rate("histill_inference_streamed_total", "grpc_code"), "{{grpc_code}}"
                        ),
                    ),
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Room",
            (
                Panel(
                    "Occupancy",
                    "Requests inside for each that may be worked on at a time. The autoscaler "
                    "follows it; refusals begin at 2 by default.",
                    "percentunit",
                    (Query(f"histill_inference_occupancy{{{NS}}}", _WHERE),),
                    warn=1,
                    bad=1.7,
                    runbook="HistillInferenceRefuses",
                ),
                Panel(
                    "Worked on, and waiting",
                    "Requests that are inside, and how many may be worked on at a time.",
                    "none",
                    (
                        Query(
                            f"sum by (namespace) (histill_inference_running{{{NS}}})", "worked on"
                        ),
                        Query(f"sum by (namespace) (histill_inference_waiting{{{NS}}})", "waiting"),
                        Query(f"sum by (namespace) (histill_inference_slots{{{NS}}})", "slots"),
                    ),
                    runbook="HistillInferenceRefuses",
                ),
                Panel(
                    "Sent away, by reason",
                    "full: every place taken. project: all places of one project. hopeless: others "
                    "would outlast the deadline. expired: the deadline passed inside. uploads and "
                    "memory: no room for the image.",
                    "reqps",
                    (Query(rate(_REFUSED, "reason"), "{{reason}}"),),
                    stacked=True,
                    runbook="HistillInferenceRefuses",
                ),
                Panel(
                    "Size of batches",
                    "Images or tiles of one run of a network: the mean, and the 95th percentile.",
                    "none",
                    (
                        Query(
                            f"{rate('histill_inference_batch_size_sum', '')} / "
                            f"{rate('histill_inference_batch_size_count', '')}",
                            "mean",
                        ),
                        Query(quantile(0.95, "histill_inference_batch_size", ""), "p95"),
                    ),
                ),
                Panel(
                    "Runs of networks",
                    "A second, by model; images and tiles together where batches are joined.",
                    "ops",
                    (
                        Query(
                            rate("histill_inference_batch_size_count", "project, model"),
                            "{{project}}/{{model}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Models in memory",
                    "By replica. One that comes and goes is loaded over and over: raise "
                    "HISTILL_INFERENCE__CACHE_BYTES.",
                    "none",
                    (Query(f"histill_models_loaded{{{NS}}}", _WHERE),),
                ),
            ),
        ),
        Row(
            "Processes",
            (
                Panel(
                    "Memory",
                    "Resident memory of the services; processes that read image files come on top.",
                    "bytes",
                    (Query(memory("inference"), _WHERE),),
                    runbook="HistillProcessRestarts",
                ),
                Panel(
                    "CPU",
                    "Cores in use.",
                    "none",
                    (Query(cpu("inference"), _WHERE),),
                    runbook="HistillInferenceSlowFast",
                ),
                Panel(
                    "Age",
                    "Since the process started; a saw tooth starts over and over.",
                    "s",
                    (Query(age("inference"), _WHERE),),
                    runbook="HistillProcessRestarts",
                ),
            ),
        ),
    ),
)

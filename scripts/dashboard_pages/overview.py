"""The platform: objectives, stores, services, the page, certificates, audit, processes."""

from __future__ import annotations

from dashboard_pages.asking import OURS, quantile, rate
from dashboard_pages.drawing import NS, Page, Panel, Query, Row
from dashboard_pages.ground import PROCESSES, STORES, days_left

_OURS = 'grpc_service=~"histill[.]api[.].*|inference[.]GRPCInferenceService"'
_HANDLED = "grpc_server_handled_total"


def _burn(window: str) -> Query:
    ratio = f"histill_slo_errors:ratio_rate{window}{{{NS}}}"
    budget = "(1 - histill_slo_objective)"
    return Query(f"{ratio} / on (slo) group_left () {budget}", f"{{{{slo}}}}, {window}")


def _left(slo: str) -> Query:
    return Query(f'min(histill_slo_budget:left30d{{{NS}, slo="{slo}"}})', "left")


PAGE = Page(
    "histill-overview",
    "histill: overview",
    "Whether histill keeps what it promises, and what it stands on.",
    (
        Row(
            "Now",
            (
                Panel(
                    "Budget left: availability",
                    "Of the failures that 30 days may have (99.5 % of the calls are answered).",
                    "percentunit",
                    (_left("inference-availability"),),
                    warn=0.5,
                    bad=0.1,
                    runbook="HistillInferenceFailsFast",
                ),
                Panel(
                    "Budget left: latency",
                    "Of the slow answers that 30 days may have (95 % come within a second).",
                    "percentunit",
                    (_left("inference-latency"),),
                    warn=0.5,
                    bad=0.1,
                    runbook="HistillInferenceSlowFast",
                ),
                Panel(
                    "Alerts firing",
                    "Of histill's own.",
                    "none",
                    (
                        Query(
                            f'count(ALERTS{{{NS}, alertname=~"Histill.*", alertstate="firing"}}) '
                            "or vector(0)",
                            "firing",
                        ),
                    ),
                    warn=1,
                    bad=3,
                ),
                Panel(
                    "Certificates",
                    "Days until the first one expires. Empty without TLS.",
                    "d",
                    (Query(days_left(""), "days"),),
                    warn=21,
                    bad=7,
                    runbook="HistillCertificateExpires",
                ),
                Panel(
                    "Store errors",
                    "Failed calls to S3 and Redis, a second.",
                    "ops",
                    (Query(f"sum({rate('histill_store_errors_total', 'store')})", "errors"),),
                    warn=0.01,
                    bad=0.05,
                    runbook="HistillStoreErrors",
                ),
                Panel(
                    "Processes",
                    "That Prometheus reads.",
                    "none",
                    (Query(f"count(histill_build_info{{{NS}}})", "processes"),),
                    runbook="HistillProcessGone",
                ),
            ),
            now=True,
        ),
        Row(
            "Objectives",
            (
                Panel(
                    "Budget left of 30 days",
                    "1: nothing is spent. 0: all is. Alerts look at how fast it goes.",
                    "percentunit",
                    (Query(f"histill_slo_budget:left30d{{{NS}}}", "{{slo}}"),),
                    warn=0.5,
                    bad=0.1,
                    most=1,
                    least=None,
                    runbook="HistillInferenceFailsFast",
                ),
                Panel(
                    "Burn rate, an hour and six",
                    "How many times faster than allowed the budget goes: 14.4 over an hour, or 6 "
                    "over six, wake somebody.",
                    "none",
                    (_burn("1h"), _burn("6h")),
                    bad=14.4,
                    runbook="HistillInferenceFailsFast",
                ),
                Panel(
                    "Burn rate, a day and three",
                    "How many times faster than allowed the budget goes: 3 over a day, or 1 over "
                    "three, make a ticket.",
                    "none",
                    (_burn("1d"), _burn("3d")),
                    bad=3,
                    runbook="HistillInferenceFailsSlowly",
                ),
            ),
        ),
        Row(
            "Services",
            (
                Panel(
                    "Calls by service",
                    "Calls that ended, a second.",
                    "reqps",
                    (Query(rate(_HANDLED, "grpc_service", _OURS), "{{grpc_service}}"),),
                    stacked=True,
                ),
                Panel(
                    "Calls that failed, by service",
                    "For reasons of our own, a second.",
                    "reqps",
                    (
                        Query(
                            rate(
                                _HANDLED, "grpc_service, grpc_code", _OURS, f'grpc_code=~"{OURS}"'
                            ),
                            "{{grpc_service}} {{grpc_code}}",
                        ),
                    ),
                    runbook="HistillServiceFails",
                ),
                Panel(
                    "Latency by service, p95",
                    "From start to end of a call. Uploads, downloads and watchers last as long as "
                    "they last.",
                    "s",
                    (
                        Query(
                            quantile(
                                0.95,
                                "grpc_server_handling_seconds",
                                "grpc_service",
                                _OURS,
                                'grpc_type="unary"',
                            ),
                            "{{grpc_service}}",
                        ),
                    ),
                    runbook="HistillServiceFails",
                ),
                Panel(
                    "Registry by method",
                    "Calls that ended, a second.",
                    "reqps",
                    (
                        Query(
                            rate(
                                _HANDLED,
                                "grpc_method",
                                'grpc_service=~"histill[.]api[.]registry[.].*"',
                            ),
                            "{{grpc_method}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Jobs service by method",
                    "Calls that ended, a second.",
                    "reqps",
                    (
                        Query(
                            rate(
                                _HANDLED,
                                "grpc_method",
                                'grpc_service=~"histill[.]api[.]distillation[.].*"',
                            ),
                            "{{grpc_method}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Calls that were refused",
                    "For want of a key, of a right, or of room, a second.",
                    "reqps",
                    (
                        Query(
                            rate(
                                _HANDLED,
                                "grpc_code",
                                _OURS,
                                'grpc_code=~"UNAUTHENTICATED|PERMISSION_DENIED|RESOURCE_EXHAUSTED"',
                            ),
                            "{{grpc_code}}",
                        ),
                    ),
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Page",
            (
                Panel(
                    "Requests by route",
                    "A second.",
                    "reqps",
                    (Query(rate("histill_web_requests_total", "route"), "{{route}}"),),
                    stacked=True,
                ),
                Panel(
                    "Answers by status",
                    "A second. 5xx: a service failed. 429: it was full. none: the browser left.",
                    "reqps",
                    (Query(rate("histill_web_requests_total", "status"), "{{status}}"),),
                    stacked=True,
                    runbook="HistillWebFails",
                ),
                Panel(
                    "Time to an answer by route, p95",
                    "Until it begins: a stream of events may last for hours.",
                    "s",
                    (Query(quantile(0.95, "histill_web_request_seconds", "route"), "{{route}}"),),
                    runbook="HistillWebFails",
                ),
            ),
        ),
        STORES,
        PROCESSES,
    ),
)

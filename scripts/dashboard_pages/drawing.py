"""Panels as data, and the one place that turns them into Grafana's JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import common, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

# What every query filters by; All is ".*", which also matches metrics without a namespace.
NS = 'namespace=~"$namespace"'
_SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
_WIDTH = 24
_HEIGHT = 8
_STAT_HEIGHT = 4
_TAG = "histill"


@dataclass(frozen=True)
class Query:
    """One query of a panel.

    Attributes:
        expr: PromQL.
        legend: Grafana's template of a series' name; graphs put the namespace before it, so
            that what is asked must keep that label.
    """

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """A graph.

    Attributes:
        title: What is shown.
        says: What it means, and what a bad value asks for.
        unit: Grafana's id of a unit.
        queries: What is drawn.
        warn: From where it is yellow; ``None``: nowhere.
        bad: From where it is red; below ``warn`` when less is worse.
        runbook: Section of docs/runbooks.md.
        stacked: Whether series add up to something.
        most: End of the axis.
        least: Its begin; ``None``: of the data.
    """

    title: str
    says: str
    unit: str
    queries: tuple[Query, ...]
    warn: float | None = None
    bad: float | None = None
    runbook: str = ""
    stacked: bool = False
    most: float | None = None
    least: float | None = 0

    @property
    def description(self) -> str:
        """What Grafana shows behind the panel's mark."""
        more = f" Runbook: docs/runbooks.md#{self.runbook.lower()}" if self.runbook else ""
        return self.says + more


@dataclass(frozen=True)
class Row:
    """Panels under a heading; those of ``now`` are single numbers."""

    title: str
    panels: tuple[Panel, ...]
    now: bool = False


@dataclass(frozen=True)
class Page:
    """A dashboard.

    Attributes:
        uid: Never changed: links and bookmarks hold it.
    """

    uid: str
    title: str
    says: str
    rows: tuple[Row, ...]


def drawn(page: Page) -> str:
    """A dashboard as the JSON that Grafana takes."""
    made = (
        build.Dashboard(page.title)
        .uid(page.uid)
        .description(page.says)
        .tags([_TAG])
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(
            build.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
        .with_variable(_namespaces())
        .link(
            build.DashboardLink("histill")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([_TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
    )
    top, number = 0, 0
    for row in page.rows:
        place = model.GridPos(x=0, y=top, w=_WIDTH, h=1)
        number += 1
        made.with_row(build.Row(row.title).grid_pos(place).id(number))
        top += 1
        for panel, spot in _laid_out(row, top):
            number += 1
            draw = _number if row.now else _graph
            made.with_panel(draw(panel).grid_pos(spot).id(number))
            bottom = spot.y + spot.h
        top = bottom
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


def _namespaces() -> build.QueryVariable:
    everything = model.VariableOption(text="All", value="$__all", selected=True)
    return (
        build.QueryVariable("namespace")
        .label("Namespace")
        .datasource(_SOURCE)
        .query("label_values(histill_build_info, namespace)")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(everything)
    )


def _laid_out(row: Row, top: int) -> Sequence[tuple[Panel, model.GridPos]]:
    """Three graphs a line, or all numbers in one."""
    a_line = len(row.panels) if row.now else 3
    height = _STAT_HEIGHT if row.now else _HEIGHT
    width = _WIDTH // a_line
    return [
        (
            panel,
            model.GridPos(
                x=number % a_line * width, y=top + number // a_line * height, w=width, h=height
            ),
        )
        for number, panel in enumerate(row.panels)
    ]


def _steps(panel: Panel) -> build.ThresholdsConfig:
    green, yellow, red = "green", "yellow", "red"
    low, high = panel.warn, panel.bad
    steps = [model.Threshold(color=green, value=None)]
    if low is not None and high is not None and high < low:  # less is worse
        steps = [
            model.Threshold(color=red, value=None),
            model.Threshold(color=yellow, value=high),
            model.Threshold(color=green, value=low),
        ]
    else:
        steps += [model.Threshold(color=yellow, value=low)] if low is not None else []
        steps += [model.Threshold(color=red, value=high)] if high is not None else []
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def _graph(panel: Panel) -> timeseries.Panel:
    legend = (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )
    made = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .legend(legend)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .fill_opacity(30 if panel.stacked else 5)
        .thresholds(_steps(panel))
    )
    if panel.stacked:
        made.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if panel.least is not None:
        made.min(panel.least)
    if panel.most is not None:
        made.max(panel.most)
    if panel.bad is not None:
        style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        made.thresholds_style(style)
    for place, query in enumerate(panel.queries):
        shown = Query(query.expr, f"{{{{namespace}}}} {query.legend}")
        made.with_target(_target(shown, place))
    return made


def _number(panel: Panel) -> stat.Panel:
    made = (
        stat.Panel()
        .title(panel.title)
        .description(panel.description)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .thresholds(_steps(panel))
    )
    for place, query in enumerate(panel.queries):
        made.with_target(_target(query, place))
    return made


def _target(query: Query, place: int) -> Dataquery:
    return (
        Dataquery()
        .datasource(_SOURCE)
        .expr(query.expr)
        .legend_format(query.legend)
        .range()
        .ref_id("ABCDEFGH"[place])
    )

"""The kinds of panel that the dashboards are made of, and the frame that all dashboards share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models

__all__ = [
    "QUEUES",
    "Query",
    "Section",
    "Steps",
    "dashboard",
    "number",
    "over_time",
    "quantile",
    "times",
]

Panel = stat.Panel | timeseries.Panel

#: The queues that are chosen on a dashboard.
QUEUES = 'queue=~"$queue"'

#: The data source is chosen on the dashboard.
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${source}")

#: The whole width of a dashboard, in Grafana's columns.
COLUMNS = 24

QUANTILES = (0.5, 0.95, 0.99)
GREEN, YELLOW, RED = "green", "#EAB839", "red"


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and what its series are called: `{{label}}` is replaced."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Steps:
    """From which values on somebody should look, and something is wrong.

    Attributes:
        falling: it is the low values that are wrong.
    """

    warning: float
    critical: float
    falling: bool = False

    def built(self) -> builders.ThresholdsConfig:
        """As Grafana stores them: the first holds from the lowest value on."""
        steps = [(None, GREEN), (self.warning, YELLOW), (self.critical, RED)]
        if self.falling:
            steps = [(None, RED), (self.critical, YELLOW), (self.warning, GREEN)]
        thresholds = [models.Threshold(value=value, color=color) for value, color in steps]
        return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(thresholds)


@dataclass(frozen=True, slots=True)
class Section:
    """Panels below a heading; the first of a dashboard may have none."""

    title: str | None
    panels: Sequence[Panel]


def number(
    title: str, description: str, expression: str, *, unit: str = "short", steps: Steps | None = None
) -> stat.Panel:
    """One number, with its past behind it; coloured where it has steps."""
    color = common.BigValueColorMode.NONE if steps is None else common.BigValueColorMode.VALUE
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .no_value("-")
        .span(COLUMNS // 6)
        .height(4)
        .with_target(prometheus.Dataquery().expr(expression).range().ref_id("A"))
        .color_mode(color)
        .graph_mode(common.BigValueGraphMode.AREA)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    return panel if steps is None else panel.thresholds(steps.built())


def over_time(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    parts: int = 2,
    stacked: bool = False,
    limit: Steps | None = None,
) -> timeseries.Panel:
    """Series over time, with their last and highest values below.

    Args:
        title: the panel's name.
        description: what is shown.
        queries: what is drawn.
        unit: Grafana's id of it.
        parts: how many such panels share a line.
        stacked: series lie on top of each other.
        limit: drawn as dashed lines.
    """
    stacking = common.StackingMode.NORMAL if stacked else common.StackingMode.NONE
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .span(COLUMNS // parts)
        .height(8)
        .line_width(1)
        .fill_opacity(30 if stacked else 8)
        .show_points(common.VisibilityMode.NEVER)
        .stacking(common_builders.StackingConfig().mode(stacking))
        .legend(_legend())
        .tooltip(_tooltip())
    )
    for reference, query in zip("ABCDEF", queries, strict=False):
        target = prometheus.Dataquery().expr(query.expression).legend_format(query.legend)
        panel.with_target(target.range().ref_id(reference))
    if limit is not None:
        style = common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(limit.built()).thresholds_style(style)
    return panel


def quantile(part: float, histogram: str, *, by: str = "", where: str = "") -> str:
    """The value that this part of what was observed does not exceed."""
    labels = f"le, {by}" if by else "le"
    rate = f"rate({histogram}_bucket{{{where}}}[$__rate_interval])"
    return f"histogram_quantile({part}, sum by ({labels}) ({rate}))"


def times(histogram: str, *, where: str = "") -> list[Query]:
    """The middle of what was observed, and what 95 and 99 of 100 do not exceed."""
    return [Query(quantile(part, histogram, where=where), f"p{part * 100:.0f}") for part in QUANTILES]


def dashboard(
    name: str, title: str, description: str, sections: Sequence[Section], *, by_queue: bool = False
) -> models.Dashboard:
    """A dashboard of these sections.

    Args:
        name: in its address.
        title: as Grafana lists it.
        description: the questions that it answers.
        sections: from top to bottom.
        by_queue: lets the reader choose queues, which expressions name by `QUEUES`.
    """
    board = (
        builders.Dashboard(f"GoQueue: {title}")
        .uid(f"goqueue-{name}")
        .description(description)
        .tags(["goqueue"])
        .timezone("browser")
        .readonly()
        .refresh("10s")
        .time("now-1h", "now")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(_siblings())
        .with_variable(builders.DatasourceVariable("source").label("Prometheus").type("prometheus"))
    )
    if by_queue:
        board.with_variable(_queues())
    for section in sections:
        if section.title is not None:
            board.with_row(builders.Row(section.title))
        for panel in section.panels:
            board.with_panel(panel)
    return board.build()


def _queues() -> builders.QueryVariable:
    return (
        builders.QueryVariable("queue")
        .label("Queue")
        .datasource(SOURCE)
        .query("label_values(queue_depth, queue)")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".+")
        .current(models.VariableOption(text="All", value="$__all"))
    )


def _siblings() -> builders.DashboardLink:
    link = builders.DashboardLink("GoQueue").type(models.DashboardLinkType.DASHBOARDS).tags(["goqueue"])
    return link.keep_time(keep_time=True).include_vars(include_vars=True)


def _legend() -> common_builders.VizLegendOptions:
    legend = common_builders.VizLegendOptions().display_mode(common.LegendDisplayMode.TABLE)
    legend.placement(common.LegendPlacement.BOTTOM).show_legend(show_legend=True)
    return legend.calcs(["lastNotNull", "max"])


def _tooltip() -> common_builders.VizTooltipOptions:
    mode = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    return mode.sort(common.SortOrder.DESCENDING)

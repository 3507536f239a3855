"""The job types: how their jobs end and how long they run, and their circuit breakers."""

from __future__ import annotations

import falcon

from goqueue.api.queues import flow_control_of
from goqueue.dashboard import type_reading
from goqueue.dashboard.access.guard import form_of
from goqueue.dashboard.charts.duration_histogram import histogram_chart
from goqueue.dashboard.charts.duration_scatter import scatter_chart
from goqueue.dashboard.notices import go_to
from goqueue.dashboard.page import Page, Site
from goqueue.dashboard.parts.json_tree import tree
from goqueue.dashboard.type_reading import TYPES_SHOWN, place_of
from goqueue.insight.ranges import RANGES
from goqueue.limits.settings import BreakerState

__all__ = ["TypePage", "TypesPage"]

#: The range that a page of a type shows at first: enough for two populations to be seen.
FIRST_RANGE = "1h"

_STATES = {"open": BreakerState.OPEN, "close": BreakerState.CLOSED}


class TypesPage(Page):
    """All types."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """The page."""
        rows = self._site.shared.get("types", lambda: type_reading.rows(self._context))
        self._renderer.page(
            request,
            response,
            "types.html",
            rows=rows[:TYPES_SHOWN],
            limits=type_reading.limits(self._context),
            has_more=len(rows) > TYPES_SHOWN,
            shown=TYPES_SHOWN,
        )


class TypePage(Page):
    """One type. Its name is the rest of the address: it may hold anything that can be printed."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._flow = flow_control_of(site.context)

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """The page."""
        wanted = RANGES.get(request.get_param("range", default=FIRST_RANGE), RANGES[FIRST_RANGE])
        key = ("type", name, wanted.name)
        found = self._site.shared.get(key, lambda: type_reading.one(self._context, name, wanted))
        figures = found.figures
        declared = found.declared
        self._renderer.page(
            request,
            response,
            "type.html",
            type=found,
            limited=type_reading.limits(self._context).get(name),
            figures=figures,
            place=place_of(name),
            ranges=RANGES.values(),
            range=wanted,
            histogram=histogram_chart(figures.runs, mean_seconds=figures.run_mean or 0.0),
            scatter=scatter_chart(found.steps, found.since, wanted.seconds),
            schema=None if declared is None else tree(declared.schema.json_schema()),
        )

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Open or close its circuit breaker."""
        action = form_of(request).get("action", "")
        state = _STATES.get(action)
        if state is None:
            raise falcon.HTTPBadRequest(description="expected an action: open or close")
        self._flow.move_breaker(name, state)
        done = (
            "open: no job of this type starts" if state is BreakerState.OPEN else "closed: jobs start again"
        )
        go_to(request, response, place_of(name), f"The circuit breaker of {name} is {done}.")

"""Every page of the dashboard, found in its route table: what is added there is tested as well."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from falcon import inspect

from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD

__all__ = ["Route", "addresses", "form_routes", "page_routes", "routes"]

_PARAMETER = re.compile(r"/([^/{]+)/(\{[^}]+\})")

#: What answers with something else than a page, or with the page of another address.
_NO_PAGES = ("/", "/dashboard/static/", "/dashboard/login")

#: What is asked of a page; of others, nothing.
_QUERIES: Mapping[str, Sequence[Mapping[str, str]]] = {
    "/dashboard": [{}, {"range": "30d"}, {"range": "24h"}],
    "/dashboard/jobs": [{}, {"status": "failed"}, {"status": "completed"}, {"tag": "nobody has this tag"}],
    "/dashboard/operations/new": [
        {"action": "retry", "status": "failed", "queue": "payments"},
        {"action": "set_priority", "status": "queued", "queue": "mail"},
        {"action": "delete", "status": "failed", "error": "ValueError"},
    ],
    "/dashboard/failures": [{}, {"queue": "nobody"}, {"order": "count", "since": "1h"}],
    "/dashboard/create": [{}, {"type": "charge_card"}],
}

#: The parameter by which a page is about a place.
_NAMED = {"/dashboard/jobs": "queue", "/dashboard/failures": "type", "/dashboard/schedules-edit": "name"}

#: What these parameters are names of.
_PLACES = {"queue": "queues", "type": "types", "name": "schedules"}

#: What is asked of a page that is about a place, once more.
_MORE = {"/dashboard/queues/{name:path}": "?range=24h&advice=yes"}


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the dashboard."""

    template: str
    methods: frozenset[str]


@functools.cache
def routes() -> tuple[Route, ...]:
    """Every route of the dashboard. Nothing connects."""
    app = create_app(Settings(), site=DASHBOARD)
    found = [
        Route(route.path, frozenset(method.method for method in route.methods if not method.internal))
        for route in inspect.inspect_routes(app)
    ]
    return tuple(route for route in found if DASHBOARD.is_its(route.template))


def page_routes() -> list[str]:
    """The templates of all pages, the login left out."""
    return [
        route.template
        for route in routes()
        if "GET" in route.methods
        and route.template != "/"
        and not route.template.startswith(_NO_PAGES[1:])
        and not route.template.endswith((".json", ".jsonl"))
        and "/files/" not in route.template
    ]


def form_routes() -> list[str]:
    """The templates of everything that a form is sent to."""
    return [route.template for route in routes() if "POST" in route.methods]


def addresses(template: str, places: Mapping[str, Sequence[str]]) -> list[str]:
    """The addresses of a page: one for each place, or one for each query, the plainest first.

    Args:
        template: the route.
        places: what parameters stand for, by the part of the path before them: "jobs" → ids; "editable" are
            the ids of jobs that have a form.
    """
    parameter = _PARAMETER.search(template)
    if parameter is None:
        plainest, *others = _QUERIES.get(template, [{}])
        queries = [plainest, *_named(template, places), *others]
        return [f"{template}?{urlencode(query)}" if query else template for query in queries]
    known = places["editable" if template.endswith("/edit") else parameter[1]]
    found = [template.replace(parameter[2], quote(place, safe="")) for place in known]
    within = _PARAMETER.search(found[0]) if found else None
    if within is not None:
        # Of what belongs to the first of them.
        found = [found[0].replace(within[2], quote(place, safe="")) for place in places[within[1]]]
    return [*found, f"{found[0]}{_MORE[template]}"] if template in _MORE and found else found


def _named(template: str, places: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """The queries of a page that name a place."""
    parameter = _NAMED.get(template)
    return [] if parameter is None else [{parameter: place} for place in places[_PLACES[parameter]]]

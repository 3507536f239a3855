"""One queue: its figures and charts, how it lets its jobs in, and changing that."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import falcon
import orjson

from goqueue.dashboard.access.guard import FOLDER, form_of
from goqueue.dashboard.charts.history import chart, chart_of, history_of, range_of
from goqueue.dashboard.forms.queue import (
    FIELDS,
    Blanks,
    changes_of,
    limit_words,
    number_of,
    texts_of,
    whole_number_of,
    wrong_by_field,
)
from goqueue.dashboard.notices import go_to
from goqueue.dashboard.page import Page, Site
from goqueue.dashboard.pages.queues import PAUSES, QueueReader, QueueView
from goqueue.dashboard.polls import is_poll
from goqueue.db.database import Connection
from goqueue.engine.options.request_models import validate
from goqueue.errors import InvalidJobError
from goqueue.insight.autoscale import ASSUMED_RUN_SECONDS
from goqueue.insight.autoscaling import slots_per_worker
from goqueue.insight.explain import blocked_key_rows as blocked_keys
from goqueue.insight.explain.blocked_key_rows import BlockedKey
from goqueue.insight.overview_rows import COUNTED_UP_TO
from goqueue.insight.ranges import RANGES
from goqueue.insight.rollup_rows import RollupScope
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.limits.flow_settings import KeySettings, PauseSettings, QueueSettings
from goqueue.limits.rules import KEYLESS

__all__ = ["QueueChart", "QueuePage"]

PLACE = f"{FOLDER}/queues"

#: Who pauses: keys have no names.
AUTHOR = "dashboard"

KEYS_SHOWN = 100
BLOCKED_SHOWN = 20

#: So many keys are looked at for blocked ones, each time that the page is refreshed.
BLOCKED_AMONG = 300

Wrong = dict[str, Blanks]


class QueuePage(Page):
    """The page of a queue, by its name, which may hold anything that can be printed."""

    def __init__(self, site: Site, reader: QueueReader) -> None:
        super().__init__(site)
        self._reader = reader
        self._flow = site.goqueue.flow
        self._actions: dict[str, Callable[[str, Mapping[str, str]], str]] = {
            "pause": self._pause,
            "resume": self._resume,
            "settings": self._set,
            "key": self._set_key,
            "forget": self._forget_key,
        }

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Show the page of a queue."""
        self._show(request, response, name, {}, {})

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Change the queue; what is wrong is told beside its field."""
        form = form_of(request)
        action = form.get("action", "")
        if action not in self._actions:
            raise falcon.HTTPBadRequest(description="this form says nothing that can be done to a queue")
        try:
            said = self._actions[action](name, form)
        except InvalidJobError as error:
            response.status = falcon.HTTP_400
            self._show(request, response, name, form, {action: wrong_by_field(error.fields)})
            return
        place = PLACE if form.get("back") == "list" else place_of(name)
        go_to(request, response, place, said)

    def _pause(self, name: str, form: Mapping[str, str]) -> str:
        wanted: dict[str, Any] = {"author": AUTHOR}
        if form.get("reason", "").strip():
            wanted["reason"] = form["reason"].strip()
        if form.get("until"):
            wanted["until"] = _moment(form["until"])
        _put(wanted, "seconds", number_of, form)
        self._flow.pause(name, validate(PauseSettings, wanted))
        return f"Queue {name} is paused: its running jobs go on, and no other starts."

    def _resume(self, name: str, _form: Mapping[str, str]) -> str:
        self._flow.resume(name)
        return f"Queue {name} goes on."

    def _set(self, name: str, form: Mapping[str, str]) -> str:
        changes = changes_of(form, _shown(form))
        if not changes:
            return "Nothing was changed."
        self._flow.set_queue(name, validate(QueueSettings, changes))
        return f"The settings of queue {name} are changed."

    def _set_key(self, name: str, form: Mapping[str, str]) -> str:
        wanted: dict[str, Any] = {}
        _put(wanted, "weight", whole_number_of, form)
        _put(wanted, "concurrency", whole_number_of, form)
        self._flow.set_key(name, form.get("key", ""), validate(KeySettings, wanted))
        return f"Key {form['key']} has settings of its own."

    def _forget_key(self, name: str, form: Mapping[str, str]) -> str:
        self._flow.delete_key(name, form.get("key", ""))
        return f"Key {form['key']} is like every other."

    def _show(
        self,
        request: falcon.Request,
        response: falcon.Response,
        name: str,
        form: Mapping[str, str],
        wrong: Wrong,
    ) -> None:
        view = self._reader.one(name)
        with self._goqueue.database.autocommit() as connection:
            blocked, has_more = _blocked(connection, view)
        values: dict[str, Any] = {
            "view": view,
            "blocked": blocked,
            "has_more_blocked": has_more,
            "limit_words": limit_words(view.standing.limits),
            "counted_up_to": COUNTED_UP_TO,
            "place": place_of(name),
            "pauses": PAUSES,
            "wrong": {action: wrong.get(action, Blanks()) for action in self._actions},
            "form": {field: form.get(field, "") for field in ("reason", "seconds", "until")},
        }
        # What stands outside of the live part is not asked for again.
        if not is_poll(request):
            values |= self._below(request, view, form, wrong)
        self._renderer.page(request, response, "queue.html", **values)

    def _below(
        self, request: falcon.Request, view: QueueView, form: Mapping[str, str], wrong: Wrong
    ) -> dict[str, Any]:
        name, wanted, shown = view.name, range_of(request), texts_of(view.standing.limits)
        with self._goqueue.database.autocommit() as connection:
            keys = list(queue_settings.key_limits(connection, name).items())
        points = history_of(self._site, RollupScope.QUEUE, name, wanted).points
        is_typed = bool(wrong.get("settings"))
        return {
            "ranges": RANGES.values(),
            "range": wanted,
            "points": [point for point in points if point.wait_p50 is not None or point.retried],
            "keys": keys[:KEYS_SHOWN],
            "has_more_keys": len(keys) > KEYS_SHOWN,
            "shown": orjson.dumps(_shown(form) if is_typed else shown).decode(),
            "fields": {field: form.get(field, "") for field in FIELDS} if is_typed else shown,
            "key_form": {field: form.get(field, "") for field in ("key", "weight", "concurrency")}
            if wrong.get("key")
            else dict.fromkeys(("key", "weight", "concurrency"), ""),
            "advice": self._site.shared.get(("advice", name), lambda: self._advice(name))
            if request.get_param("advice")
            else None,
        }

    def _advice(self, name: str) -> dict[str, Any]:
        """How many threads it needs, and what that follows from."""
        settings = self._goqueue.settings
        answer = self._goqueue.autoscale(name)
        slots = slots_per_worker(answer, settings)
        return {
            "answer": answer,
            "demand": answer.demand,
            "objective": answer.objective,
            "load": answer.demand.arrival_rate * answer.run_seconds,
            "slots_per_worker": slots,
            "slot": "thread" if answer.demand.slots == answer.demand.threads else "slot",
            "workers_needed": math.ceil(answer.threads_needed / slots),
            "assumed_run_seconds": ASSUMED_RUN_SECONDS,
        }


class QueueChart(Page):
    """The figures of a chart of a queue, over a range."""

    def __init__(self, site: Site, reader: QueueReader) -> None:
        super().__init__(site)
        self._reader = reader

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the document of a chart, as JSON."""
        name = request.get_param("queue", default="")
        self._reader.expect(name)
        chart_name, wanted = chart_of(request), range_of(request)
        found = chart(history_of(self._site, RollupScope.QUEUE, name, wanted), chart_name)
        self._renderer.data(request, response, found)


def place_of(name: str) -> str:
    """Return the address of the page of a queue."""
    return f"{PLACE}/{quote(name)}"


def _blocked(connection: Connection, view: QueueView) -> tuple[list[BlockedKey], bool]:
    """The keys that hold up later jobs, where the order is strict; and whether there may be more."""
    if not view.standing.limits.fifo:
        return [], False
    found, last = blocked_keys.page(
        connection, view.name, after=KEYLESS, limit=BLOCKED_SHOWN, keys_max=BLOCKED_AMONG
    )
    return found, last is not None


def _shown(form: Mapping[str, str]) -> dict[str, str]:
    """What the fields held when the form was made; of a form that does not say it, nothing."""
    try:
        document = orjson.loads(form.get("shown", "{}"))
    except orjson.JSONDecodeError:
        return {}
    return {field: str(document.get(field, "")) for field in FIELDS} if isinstance(document, dict) else {}


def _put(
    wanted: dict[str, Any], name: str, read: Callable[[str], float | None], form: Mapping[str, str]
) -> None:
    try:
        wanted[name] = read(form.get(name, ""))
    except ValueError as error:
        raise InvalidJobError({name: str(error)}) from None


def _moment(text: str) -> datetime:
    """As a browser writes a field of date and time, in UTC.

    Raises:
        InvalidJobError: it is none.
    """
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise InvalidJobError({"until": "expected a date and a time"}) from None

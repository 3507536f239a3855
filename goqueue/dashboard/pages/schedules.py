"""The schedules: what each creates and when, what became of its ticks, and pausing and running them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import falcon

from goqueue.api.schedule_models import PauseSchedule
from goqueue.dashboard.access.guard import FOLDER, form_of
from goqueue.dashboard.charts.tick_strip import TICKS_SHOWN, Strip, strip_of, tone_of, word_of
from goqueue.dashboard.notices import go_to
from goqueue.dashboard.page import Page, Site
from goqueue.dashboard.parts.json_tree import tree
from goqueue.engine.options.request_models import QueryMoment, validate
from goqueue.errors import InvalidJobError
from goqueue.limits.flow_settings import FlowSettings
from goqueue.schedules import schedule_rows as schedule_store
from goqueue.schedules import scheduling
from goqueue.schedules import tick_rows as tick_store
from goqueue.schedules.cron_expression import zone_of
from goqueue.schedules.cron_words import cron_words
from goqueue.schedules.rules import Schedule, Tick, preview

__all__ = ["SchedulePage", "SchedulesPage"]

PLACE = f"{FOLDER}/schedules"

SCHEDULES_SHOWN = 50
FIRES_IN_LIST = 3
FIRES_OF_ONE = 10
HISTORY_SHOWN = 50

#: Schedules whose next fires are remembered.
_REMEMBERED = 1_000

_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class NextFire:
    """A tick of a schedule that is to come.

    Attributes:
        at: when it is decided; of one that does not fire, its nominal time.
        local: its nominal time on the wall, with the offset.
        notes: what a change of the clock, a blackout or the jitter do to it.
    """

    at: datetime
    local: str
    notes: tuple[str, ...]
    fires: bool


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule as a page shows it."""

    schedule: Schedule
    words: str
    place: str
    fires: tuple[NextFire, ...]
    strip: Strip


class _SchedulesQuery(FlowSettings):
    after: str | None = None


class _HistoryQuery(FlowSettings):
    before: QueryMoment | None = None


class _Upcoming:
    """The next fires, computed once for each definition and place in its line: some take long to find."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, tuple[NextFire, ...]]] = {}

    def of(self, schedule: Schedule, now: datetime, limit: int) -> tuple[NextFire, ...]:
        """Return the next fires; of a paused schedule, those that would come if it went on now."""
        minute = now.replace(second=0, microsecond=0)
        after = minute if schedule.next_at is None else schedule.next_at - _INSTANT
        key = (schedule.updated_at, after, limit)
        known = self._known.get(schedule.id)
        if known is None or known[0] != key:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = (key, tuple(map(_next_fire_of(schedule), _next_ticks(schedule, after, limit))))
            self._known[schedule.id] = known
        return known[1]


class SchedulesPage(Page):
    """The page with the list of schedules."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._upcoming = _Upcoming()

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the schedules, by name, page by page."""
        query = validate(_SchedulesQuery, request.params, whole="query")
        with self._goqueue.database.autocommit() as connection:
            found = schedule_store.page(
                connection, after_name=_begin_of(query.after), limit=SCHEDULES_SHOWN + 1
            )
            shown = found[:SCHEDULES_SHOWN]
            now = schedule_store.now(connection)
            recent = tick_store.recent_of_each(connection, [one.id for one in shown], limit=TICKS_SHOWN)
        views = [
            _view(one, self._upcoming.of(one, now, FIRES_IN_LIST), recent.get(one.id, [])) for one in shown
        ]
        more = urlencode({"after": shown[-1].definition.name}) if len(found) > len(shown) else None
        self._renderer.page(
            request,
            response,
            "schedules.html",
            views=views,
            more=more,
            is_first=query.after is None,
            address=request.forwarded_prefix,
        )


class SchedulePage(Page):
    """The page of one schedule. Its name is the rest of the address: foreign names may hold anything."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._upcoming = _Upcoming()

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Show the page of a schedule."""
        self._show(request, response, name, wrong={}, typed={})

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Pause, resume, run or delete the schedule."""
        form = form_of(request)
        actions: dict[str, Callable[[str], tuple[str, str]]] = {
            "pause": lambda name: self._pause(name, form),
            "resume": self._resume,
            "run": self._run,
            "delete": self._delete,
        }
        action = actions.get(form.get("action", ""))
        if action is None:
            raise falcon.HTTPBadRequest(description="expected an action: pause, resume, run or delete")
        try:
            place, said = action(name)
        except InvalidJobError as error:
            response.status = falcon.HTTP_400
            self._show(request, response, name, wrong=error.fields, typed=form)
            return
        go_to(request, response, place, said)

    def _pause(self, name: str, form: dict[str, str]) -> tuple[str, str]:
        said = {member: form.get(member, "").strip() or None for member in ("reason", "author")}
        wanted = validate(PauseSchedule, said)
        scheduling.pause(self._goqueue.database, name, author=wanted.author, reason=wanted.reason)
        return place_of(name), f"The schedule {name} is paused: what it misses is not made up for."

    def _resume(self, name: str) -> tuple[str, str]:
        scheduling.resume(self._goqueue.database, name)
        return place_of(name), f"The schedule {name} goes on with its next tick."

    def _run(self, name: str) -> tuple[str, str]:
        goqueue = self._goqueue
        created = scheduling.run_now(goqueue.database, goqueue.creator, name)
        job_id = created.job.id
        place = f"{FOLDER}/jobs/{job_id}"
        if created.collected:
            return place, f"Job {job_id} took the payload of the schedule {name} beside its own."
        if created.deduplicated:
            return place, f"Nothing was created: job {job_id} has the unique key of the schedule {name}."
        return place, f"Job {job_id} was created by the schedule {name}."

    def _delete(self, name: str) -> tuple[str, str]:
        scheduling.delete(self._goqueue.database, name)
        return PLACE, f"The schedule {name} is deleted; its jobs stay."

    def _show(
        self,
        request: falcon.Request,
        response: falcon.Response,
        name: str,
        *,
        wrong: dict[str, str],
        typed: dict[str, str],
    ) -> None:
        query = validate(_HistoryQuery, request.params, whole="query")
        with self._goqueue.database.autocommit() as connection:
            schedule = schedule_store.get(connection, name)
            now = schedule_store.now(connection)
            history = tick_store.page(connection, schedule.id, before=query.before, limit=HISTORY_SHOWN + 1)
        shown, job = history[:HISTORY_SHOWN], schedule.definition.job
        self._renderer.page(
            request,
            response,
            "schedule.html",
            view=_view(schedule, self._upcoming.of(schedule, now, FIRES_OF_ONE), shown),
            payload=tree(self._goqueue.database.contents.shown_document(job.payload, job.type)),
            history=_told(schedule, shown),
            older=urlencode({"before": shown[-1].nominal_at.isoformat()})
            if len(history) > len(shown)
            else "",
            is_newest=query.before is None,
            wrong=wrong,
            typed=typed,
        )


def place_of(name: str) -> str:
    """Return the address of the page of a schedule."""
    return f"{PLACE}/{quote(name, safe='')}"


def _view(schedule: Schedule, fires: tuple[NextFire, ...], recent: list[tick_store.TickRow]) -> ScheduleView:
    definition = schedule.definition
    return ScheduleView(
        schedule,
        cron_words(definition.cron, definition.timezone),
        place_of(definition.name),
        fires,
        strip_of(recent),
    )


def _told(
    schedule: Schedule, found: list[tick_store.TickRow]
) -> list[tuple[tick_store.TickRow, str, str, str]]:
    """Ticks, what became of each, its colour, and its time on the wall."""
    zone = zone_of(schedule.definition.timezone)
    told = []
    for tick in found:
        word = word_of(tick)
        local = f"{tick.nominal_at.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"
        told.append((tick, word, tone_of(word), local))
    return told


def _next_ticks(schedule: Schedule, after: datetime, limit: int) -> list[Tick]:
    return preview(schedule.definition, after, limit)


def _next_fire_of(schedule: Schedule) -> Callable[[Tick], NextFire]:
    zone = zone_of(schedule.definition.timezone)

    def next_fire(tick: Tick) -> NextFire:
        local = f"{tick.fire.at.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"
        at = tick.due_at if tick.fires else tick.fire.at
        return NextFire(at, local, tuple(_notes(tick)), tick.fires)

    return next_fire


def _notes(tick: Tick) -> list[str]:
    notes = []
    shift, meant = tick.fire.shift, tick.fire.meant
    if shift is not None:
        moved = "" if meant is None else f" from {meant:%H:%M}, which the clock skips"
        words = {
            "moved": f"moved{moved}",
            "first_of_two": "the first of two",
            "repeated": "the second of two",
        }
        notes.append(words[shift.value])
    if tick.in_blackout:
        notes.append("after the blackout" if tick.fires else "blackout: does not fire")
    return notes


def _begin_of(text: str | None) -> str:
    """Where a page begins; PostgreSQL keeps no NUL, so no name has one."""
    return "" if text is None or "\0" in text else text

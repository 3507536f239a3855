"""Making a schedule and defining one anew, by a form: what `PUT /schedules/{name}` takes."""

from __future__ import annotations

import json
from typing import Any

import falcon

from goqueue.api.frame.json_reader import read_json
from goqueue.api.frame.security import client_of
from goqueue.api.job_requests import JobRequests
from goqueue.api.schedule_models import JOB_MEMBERS, PutSchedule, schedule_document
from goqueue.dashboard.access.guard import FOLDER, form_of
from goqueue.dashboard.notices import go_to
from goqueue.dashboard.page import Page
from goqueue.dashboard.pages.schedules import place_of
from goqueue.engine.options.request_models import validate
from goqueue.errors import InvalidJobError, ScheduleConflictError
from goqueue.jobs import UniqueRule
from goqueue.schedules import schedule_rows as schedule_store
from goqueue.schedules import scheduling
from goqueue.schedules.rules import CatchUp, Overlap, Schedule, ScheduleDefinition, Source
from goqueue.schedules.settings import ScheduleIdentity

__all__ = ["ScheduleForm"]

#: The fields that are one line of text each; what is empty is not said.
_TEXTS = ("cron", "timezone", "queue", "type", "overlap", "catch_up")

#: What stands in the field of everything else, where it is not the default.
_DEFAULTS: dict[str, Any] = {
    "priority": 0,
    "max_retries": None,
    "time_limit_seconds": None,
    "ttl_seconds": None,
    "deadline_seconds": None,
    "concurrency_key": None,
    "rate_cost": 1,
    "limit_cost": 1,
    "requires": {},
    "slots": 1,
    "min_version": None,
    "catch_up_max": 100,
    "catch_up_window_seconds": 86_400.0,
    "jitter_seconds": 0.0,
    "blackouts": (),
    "blackout_policy": "skip",
}

_NEW = {"timezone": "UTC", "overlap": "queue", "catch_up": "once", "payload": "{}", "more": "{}"}


class ScheduleForm(Page):
    """The page with the form of a new schedule, or, with a name, of one that there is."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the form of a schedule.

        Raises:
            falcon.HTTPForbidden: nothing is changed here.
        """
        if self._goqueue.settings.dashboard_read_only:
            raise falcon.HTTPForbidden(description="this dashboard is read-only")
        name = request.get_param("name")
        if name is None:
            typed = {
                "queue": request.get_param("queue", default=""),
                "type": request.get_param("type", default=""),
            }
            self._show(request, response, None, _NEW | typed, {})
            return
        with self._goqueue.database.autocommit() as connection:
            schedule = schedule_store.get(connection, name)
        if schedule.definition.source is Source.CODE:
            raise ScheduleConflictError(name, f"the schedule {name!r} is declared in code: change it there")
        self._show(request, response, name, self._texts(schedule), {})

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Create the schedule, or define it anew."""
        form = form_of(request)
        old_name = form.get("old_name") or None
        try:
            definition = self._definition(old_name, form, client=client_of(request))
            if old_name is None:
                scheduling.create(self._goqueue.database, definition)
            else:
                scheduling.put(self._goqueue.database, definition)
        except (InvalidJobError, ScheduleConflictError) as error:
            wrong = error.fields if isinstance(error, InvalidJobError) else {"name": str(error)}
            response.status = falcon.HTTP_400 if isinstance(error, InvalidJobError) else falcon.HTTP_409
            self._show(request, response, old_name, form, wrong)
            return
        done = "created" if old_name is None else "defined anew"
        go_to(request, response, place_of(definition.name), f"The schedule {definition.name} is {done}.")

    def _definition(self, old_name: str | None, form: dict[str, str], *, client: str) -> ScheduleDefinition:
        """What was typed, validated like a request over REST."""
        name = old_name or form.get("name", "").strip()
        validate(ScheduleIdentity, {"name": name})
        document: dict[str, Any] = _object_of(form, "more")
        document |= {field: text for field in _TEXTS if (text := form.get(field, "").strip())}
        document["payload"] = _object_of(form, "payload")
        wanted = validate(PutSchedule, document)
        job = {member: document[member] for member in JOB_MEMBERS if member in document}
        requests, database = JobRequests(self._goqueue), self._goqueue.database
        job_type = self._goqueue.broker.job_type(wanted.type or requests.default_type(wanted.queue) or "")
        job["payload"] = scheduling.with_stored_values(database, job_type, name, job["payload"])
        return wanted.definition(name, requests.one(job, client=client)[0].job, Source.API)

    def _texts(self, schedule: Schedule) -> dict[str, str]:
        """What the fields show of a schedule."""
        definition = schedule.definition
        document = schedule_document(schedule, self._goqueue.database.contents)
        more = {name: document[name] for name, default in _DEFAULTS.items() if document[name] != default}
        job_type = self._goqueue.types.job_type(definition.job.type)
        # A type that makes the keys of its jobs makes this one again.
        if definition.job.unique is not None and (job_type is None or job_type.unique is None):
            more["unique"] = _unique(definition.job.unique)
        texts = {name: str(document[name]) for name in _TEXTS}
        return texts | {"payload": _pretty(document["payload"]), "more": _pretty(more)}

    def _show(
        self,
        request: falcon.Request,
        response: falcon.Response,
        name: str | None,
        typed: dict[str, str],
        wrong: dict[str, str],
    ) -> None:
        self._renderer.page(
            request,
            response,
            "schedule_form.html",
            name=name,
            back=f"{FOLDER}/schedules" if name is None else place_of(name),
            typed=typed,
            wrong=wrong,
            types=sorted(self._goqueue.types.all_types()),
            queues=sorted(self._goqueue.queues.declared()),
            overlaps=list(Overlap),
            catch_ups=list(CatchUp),
        )


def _object_of(form: dict[str, str], field: str) -> dict[str, Any]:
    """The JSON object of a field; an empty one is {}.

    Raises:
        InvalidJobError: it is none.
    """
    text = form.get(field, "").strip() or "{}"
    try:
        value = read_json(text.encode("utf-8", "surrogatepass"))
    except InvalidJobError as error:
        raise InvalidJobError({field: "; ".join(error.fields.values())}) from None
    if not isinstance(value, dict):
        raise InvalidJobError({field: "expected a JSON object"})
    return value


def _unique(rule: UniqueRule) -> dict[str, Any]:
    said = {
        "key": rule.key,
        "while": [state.value for state in rule.states],
        "window_seconds": rule.window_seconds,
        "mode": rule.mode.value,
        "debounce_max_seconds": rule.debounce_max_seconds,
    }
    if rule.collect is not None:
        del said["while"], said["window_seconds"]
        said |= {
            "collect_seconds": rule.collect.seconds,
            "collect_max": rule.collect.max_payloads,
            "collect_max_bytes": rule.collect.max_bytes,
        }
    return {name: value for name, value in said.items() if value is not None}


def _pretty(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2, default=list)

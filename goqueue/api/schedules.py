"""Schedules: making and changing them, pausing, running now, what comes and what was."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import falcon

from goqueue.api.documents import job_document
from goqueue.api.frame.answers import as_json
from goqueue.api.frame.bodies import read_document, read_optional_document
from goqueue.api.frame.cursors import link_next
from goqueue.api.frame.resource import Resource
from goqueue.api.frame.security import client_of
from goqueue.api.job_requests import JobRequests
from goqueue.api.schedule_models import (
    JOB_MEMBERS,
    CreateSchedule,
    PauseSchedule,
    PreviewQuery,
    PutSchedule,
    SchedulesQuery,
    TicksQuery,
    preview_document,
    schedule_document,
)
from goqueue.engine.options.request_models import validate
from goqueue.instance import GoQueue
from goqueue.schedules import schedule_rows as schedule_store
from goqueue.schedules import scheduling
from goqueue.schedules import tick_rows as tick_store
from goqueue.schedules.cron_expression import CronExpression
from goqueue.schedules.rules import Schedule, ScheduleDefinition, Source, preview
from goqueue.schedules.settings import ScheduleIdentity


class SchedulesResource(Resource):
    """The schedules: a GET lists them, a POST creates one."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List schedules by name; the next page is in the Link header."""
        query = validate(SchedulesQuery, request.params, whole="limit")
        with self._goqueue.database.autocommit() as connection:
            found = schedule_store.page(connection, after_name=query.cursor or "", limit=query.limit + 1)
        if len(found) > query.limit:
            found.pop()
            link_next(request, response, found[-1].definition.name)
        response.data = as_json([_document(self._goqueue, schedule) for schedule in found])

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Create a schedule: 201, and its Location."""
        document = read_document(request, self._goqueue.settings.job_max_bytes)
        wanted = validate(CreateSchedule, document)
        definition = _definition(self._goqueue, request, wanted.name, wanted, document)
        _answer_created(self._goqueue, response, scheduling.create(self._goqueue.database, definition))


class ScheduleResource(Resource):
    """A schedule, read, defined anew or deleted by its name."""

    def on_get(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Return the schedule as it is now."""
        response.data = as_json(_document(self._goqueue, _get(self._goqueue, name)))

    def on_put(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Define the schedule anew, or create it: 201."""
        validate(ScheduleIdentity, {"name": name})
        document = read_document(request, self._goqueue.settings.job_max_bytes)
        definition = _definition(self._goqueue, request, name, validate(PutSchedule, document), document)
        schedule, new = scheduling.put(self._goqueue.database, definition)
        if new:
            _answer_created(self._goqueue, response, schedule)
        else:
            response.data = as_json(_document(self._goqueue, schedule))

    def on_delete(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Delete the schedule and its history; its jobs stay."""
        scheduling.delete(self._goqueue.database, name)
        response.status = falcon.HTTP_204


class PauseScheduleResource(Resource):
    """The pause of a schedule: no tick is decided any more."""

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Pause the schedule; a paused one gets what reason and author are given."""
        wanted = validate(
            PauseSchedule, read_optional_document(request, self._goqueue.settings.job_max_bytes)
        )
        schedule = scheduling.pause(self._goqueue.database, name, author=wanted.author, reason=wanted.reason)
        response.data = as_json(_document(self._goqueue, schedule))


class ResumeScheduleResource(Resource):
    """The end of a schedule's pause: ticks are decided again."""

    def on_post(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Go on with the next tick from now."""
        response.data = as_json(_document(self._goqueue, scheduling.resume(self._goqueue.database, name)))


class RunScheduleResource(Resource):
    """The run of a schedule outside its time."""

    def on_post(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Create the schedule's job now: 201, and the job; or 200, and the job that has its unique key."""
        goqueue = self._goqueue
        created = scheduling.run_now(goqueue.database, goqueue.creator, name)
        response.set_header("Location", f"/jobs/{created.job.id}")
        if created.deduplicated:
            more = {"deduplicated": True} | ({"collected": True} if created.collected else {})
            response.data = as_json(job_document(created.job) | more)
        else:
            response.status = falcon.HTTP_201
            response.data = as_json(job_document(created.job))


class PreviewResource(Resource):
    """The ticks that are to come."""

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """List the next ticks; of a paused schedule, those that would come if it went on now."""
        query = validate(PreviewQuery, request.params, whole="n")
        with self._goqueue.database.autocommit() as connection:
            schedule = schedule_store.get(connection, name)
            now = schedule_store.now(connection)
        definition = schedule.definition
        after = now if schedule.next_at is None else schedule.next_at - timedelta(microseconds=1)
        expression = CronExpression(definition.cron, definition.timezone)
        response.data = as_json(
            [preview_document(tick, expression) for tick in preview(definition, after, query.n)]
        )


class TicksResource(Resource):
    """The ticks that were decided."""

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """List the decided ticks, the newest first; the next page is in the Link header."""
        query = validate(TicksQuery, request.params, whole="limit")
        with self._goqueue.database.autocommit() as connection:
            schedule = schedule_store.get(connection, name)
            found = tick_store.page(connection, schedule.id, before=query.cursor, limit=query.limit + 1)
        if len(found) > query.limit:
            found.pop()
            link_next(request, response, found[-1].nominal_at.isoformat())
        response.data = as_json([tick._asdict() for tick in found])


def _definition(
    goqueue: GoQueue, request: falcon.Request, name: str, wanted: PutSchedule, document: Any
) -> ScheduleDefinition:
    """The schedule of a request; its job is validated like any other."""
    job = {member: document[member] for member in JOB_MEMBERS if member in document}
    requests = JobRequests(goqueue)
    job_type = goqueue.broker.job_type(wanted.type or requests.default_type(wanted.queue) or "")
    job["payload"] = scheduling.with_stored_values(goqueue.database, job_type, name, job["payload"])
    return wanted.definition(name, requests.one(job, client=client_of(request))[0].job, Source.API)


def _get(goqueue: GoQueue, name: str) -> Schedule:
    with goqueue.database.autocommit() as connection:
        return schedule_store.get(connection, name)


def _document(goqueue: GoQueue, schedule: Schedule) -> dict[str, Any]:
    return schedule_document(schedule, goqueue.database.contents)


def _answer_created(goqueue: GoQueue, response: falcon.Response, schedule: Schedule) -> None:
    response.status = falcon.HTTP_201
    response.set_header("Location", f"/schedules/{schedule.definition.name}")
    response.data = as_json(_document(goqueue, schedule))

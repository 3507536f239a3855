"""Schedules that code declares beside its actors: `goqueue.cron`."""

from __future__ import annotations

from typing import Any, TypedDict

from dramatiq.actor import Actor

from goqueue.engine.new_job import DeclaredTypes, new_job
from goqueue.engine.options.job_settings import JobSettings
from goqueue.errors import ConfigurationError, InvalidJobError
from goqueue.limits.flow_settings import validated
from goqueue.schedules.rules import ScheduleDefinition, Source
from goqueue.schedules.settings import ScheduleIdentity, ScheduleSettings

__all__ = ["ScheduleOptions", "declaration"]


class ScheduleOptions(TypedDict, total=False):
    """The options of a schedule; docs/schedules.md says what they mean.

    Attributes:
        timezone: an IANA time zone; UTC where it is not given.
        overlap: `skip`, `queue` or `cancel_running`.
        catch_up: `skip`, `once` or `all`; with `all`, at most `catch_up_max`, of `catch_up_window_seconds`.
        jitter_seconds: fire up to so long after the nominal time.
        blackouts: `{"start": "22:00", "end": "06:00", "days": ["sat"]}` or `{"from": …, "until": …}`.
        blackout_policy: `skip` or `after`.
    """

    timezone: str
    overlap: str
    catch_up: str
    catch_up_max: int
    catch_up_window_seconds: float
    jitter_seconds: float
    blackouts: list[dict[str, Any]]
    blackout_policy: str


def declaration(
    types: DeclaredTypes,
    actor: Actor[Any, Any],
    line: str,
    *,
    name: str | None,
    payload: Any,
    job: JobSettings,
    options: ScheduleOptions,
) -> ScheduleDefinition:
    """Define a schedule of an actor's jobs; see `GoQueue.cron`.

    Raises:
        ConfigurationError: each thing that is wrong.
        TypeError: `actor` is no actor.
    """
    job_type = types.type_of(actor)
    name = name or job_type.name
    try:
        validated(ScheduleIdentity, {"name": name})
        settings = validated(ScheduleSettings, {"cron": line, **options})
        document = job_type.payload_of_call(({} if payload is None else payload,), {})
        created = new_job(types, actor.actor_name, document, **job)
    except InvalidJobError as error:
        problems = [f"the schedule {name!r}: {field}: {wrong}" for field, wrong in error.fields.items()]
        raise ConfigurationError(problems) from None
    if absolute := [field for field in ("available_at", "expires_at", "deadline_at") if job.get(field)]:
        raise ConfigurationError(
            [f"the schedule {name!r}: {field}: expected a duration" for field in absolute]
        )
    return settings.definition(name, created, Source.CODE)

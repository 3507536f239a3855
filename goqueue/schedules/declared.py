"""Declaring schedules beside their actors: `goqueue.cron`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict, TypeVar, Unpack

from dramatiq.actor import Actor

from goqueue.engine.options.job_settings import JobSettings
from goqueue.engine.submit import current_broker, new_job, type_of
from goqueue.errors import ConfigurationError, InvalidJobError
from goqueue.limits.flow_settings import validated
from goqueue.schedules.rules import ScheduleDefinition, Source
from goqueue.schedules.settings import ScheduleIdentity, ScheduleSettings

__all__ = ["cron", "declared"]

AnyActor = TypeVar("AnyActor", bound=Actor[Any, Any])

_declared: dict[str, ScheduleDefinition] = {}


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


def cron(
    line: str,
    *,
    name: str | None = None,
    payload: Any = None,
    job: JobSettings | None = None,
    **options: Unpack[ScheduleOptions],
) -> Callable[[AnyActor], AnyActor]:
    """Declare that jobs of an actor are created by a cron line. The scheduler process sees to it.

    Args:
        line: five fields, or `@hourly` and its like.
        name: of the schedule; the actor's where it is not given.
        payload: of each job; empty where it is not given.
        job: what else is said of each job: `{"queue": …, "priority": …}`.
        **options: see `ScheduleOptions`.

    Raises:
        ConfigurationError: when it is applied: each thing that is wrong.
        TypeError: when it is applied to what is no actor.
    """

    def declare(actor: AnyActor) -> AnyActor:
        type_name = type_of(actor).name
        definition = _definition(actor, name or type_name, line, payload, job or {}, options)
        if _declared.setdefault(definition.name, definition) != definition:
            raise ConfigurationError([f"the schedule {definition.name!r} is declared twice"])
        return actor

    return declare


def declared() -> list[ScheduleDefinition]:
    """List the schedules that this process has declared, by name."""
    return sorted(_declared.values(), key=lambda definition: definition.name)


def _definition(
    actor: Actor[Any, Any], name: str, line: str, payload: Any, job: JobSettings, options: ScheduleOptions
) -> ScheduleDefinition:
    broker = current_broker()
    try:
        validated(ScheduleIdentity, {"name": name})
        settings = validated(ScheduleSettings, {"cron": line, **options})
        document = type_of(actor).payload_of_call(({} if payload is None else payload,), {})
        created = new_job(broker, actor.actor_name, document, **job)
    except InvalidJobError as error:
        problems = [f"the schedule {name!r}: {field}: {wrong}" for field, wrong in error.fields.items()]
        raise ConfigurationError(problems) from None
    if absolute := [name for name in ("available_at", "expires_at", "deadline_at") if job.get(name)]:
        raise ConfigurationError(
            [f"the schedule {name!r}: {field}: expected a duration" for field in absolute]
        )
    return settings.definition(name, created, Source.CODE)

"""Chains: jobs that run one after the other, created in one call."""

from __future__ import annotations

from typing import Any

from dramatiq.actor import Actor
from sqlalchemy import Connection
from sqlalchemy.orm import Session, scoped_session

from goqueue.db.database import joined
from goqueue.engine.graph_rows import NewNode
from goqueue.engine.options.job_settings import JobSettings
from goqueue.engine.submit import current_broker, current_submitter, new_job, type_of
from goqueue.errors import InvalidJobError
from goqueue.jobs import NewJob

__all__ = ["Step", "enqueue_chain"]

#: An actor, its payload, and the settings of the job, where it has some.
Step = tuple[Actor[Any, Any], Any] | tuple[Actor[Any, Any], Any, JobSettings]


def enqueue_chain(
    *steps: Step, session: Session | scoped_session[Any] | Connection | None = None
) -> list[int]:
    """Create jobs of which each waits until the one before has completed; their ids, in their order.

    All are created or none. When one does not complete, what follows it fails, or what its
    `on_parent_failure` says. `goqueue.current_job().parent_results()` is what the one before returned.

    Args:
        steps: `(actor, payload)`, or `(actor, payload, {"priority": 5, …})` with any of the `JobSettings`; a
            `depends_on` is waited for as well.
        session: as for `enqueue`.

    Raises:
        InvalidJobError: a payload does not fit its type, or a setting is wrong; a field is named
            `steps[1].payload`.
        TypeError: what should be an actor or a session is none.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    connection = None if session is None else joined(session, current_broker().settings)
    if not steps:
        raise InvalidJobError({"steps": "expected at least one"})
    nodes = [
        NewNode(_job_of(place, step), after=(place - 1,) if place else (), path=f"steps[{place}].")
        for place, step in enumerate(steps)
    ]
    if connection is None:
        created = current_submitter().create_many(nodes)
    else:
        created = current_submitter().create_many_within(connection, nodes)
    return [row.id for row in created]


def _job_of(place: int, step: Step) -> NewJob:
    if not isinstance(step, tuple) or not 2 <= len(step) <= 3:  # noqa: PLR2004  (as the type says)
        raise InvalidJobError({f"steps[{place}]": "expected (actor, payload) or (actor, payload, settings)"})
    actor, payload, *settings = step
    said: JobSettings = settings[0] if settings else {}
    if not isinstance(said, dict):
        raise InvalidJobError({f"steps[{place}]": "expected the settings as a mapping"})
    broker = current_broker()
    job_type = type_of(actor)
    try:
        payload = job_type.payload_of_call((payload,), {})
        return new_job(broker, actor.actor_name, payload, **said)
    except InvalidJobError as error:
        fields = {f"steps[{place}].{name}": wrong for name, wrong in error.fields.items()}
        raise InvalidJobError(fields) from None

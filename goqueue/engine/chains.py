"""Chains: jobs that run one after the other, created in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dramatiq.actor import Actor

from goqueue.engine.graph_rows import NewNode
from goqueue.engine.new_job import DeclaredTypes, new_job
from goqueue.engine.options.job_settings import JobSettings
from goqueue.errors import InvalidJobError
from goqueue.jobs import NewJob

__all__ = ["ChainStep", "nodes_of_chain"]

#: An actor or the name of a type, its payload, and the settings of the job, where it has some.
ChainStep = tuple[Actor[Any, Any] | str, Any] | tuple[Actor[Any, Any] | str, Any, JobSettings]


def nodes_of_chain(types: DeclaredTypes, steps: Sequence[ChainStep]) -> list[NewNode]:
    """Make the jobs of a chain, each of which waits for the one before.

    Raises:
        InvalidJobError: there are no steps, a payload does not fit its type, or a setting is wrong; a field
            is named `steps[1].payload`.
        TypeError: what should be an actor, or the name of a type, is neither.
    """
    if not steps:
        raise InvalidJobError({"steps": "expected at least one"})
    return [
        NewNode(_job_of(types, place, step), after=(place - 1,) if place else (), path=f"steps[{place}].")
        for place, step in enumerate(steps)
    ]


def _job_of(types: DeclaredTypes, place: int, step: ChainStep) -> NewJob:
    if not isinstance(step, tuple) or not 2 <= len(step) <= 3:  # noqa: PLR2004  (as the type says)
        raise InvalidJobError({f"steps[{place}]": "expected (actor, payload) or (actor, payload, settings)"})
    actor, payload, *rest = step
    settings: JobSettings = rest[0] if rest else {}
    if not isinstance(settings, dict):
        raise InvalidJobError({f"steps[{place}]": "expected the settings as a mapping"})
    try:
        job_type = types.type_of(actor)
        return new_job(types, job_type.name, job_type.payload_of_call((payload,), {}), **settings)
    except InvalidJobError as error:
        fields = {f"steps[{place}].{name}": wrong for name, wrong in error.fields.items()}
        raise InvalidJobError(fields) from None

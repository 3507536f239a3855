"""The model that declares a job type from outside, which REST, Python and the terminal share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from goqueue.config.labels import entries_of, with_version
from goqueue.engine.options.job_options import MinVersion, Requires, Retries, TimeLimit
from goqueue.engine.options.receiver_url import ReceiverUrl
from goqueue.engine.options.request_models import Name, Request
from goqueue.errors import InvalidJobError
from goqueue.jobs import MAX_DELAY_SECONDS, QUARANTINE_QUEUE
from goqueue.remote.declared_schema import DeclaredSchema
from goqueue.remote.declared_type_rows import StoredDeclaration

__all__ = ["PUSH_MAX_SECONDS", "TypeDeclaration"]

#: A receiver may take so long to answer.
PUSH_MAX_SECONDS = 900

#: Dramatiq has queues of its own by these endings.
RESERVED_QUEUES = (".DQ", ".XQ")

Backoff = Annotated[float, Field(ge=0, le=MAX_DELAY_SECONDS, allow_inf_nan=False)]


class TypeDeclaration(Request):
    """A job type, declared for workers that are no Python processes. What is not given is the default."""

    schema_: Annotated[
        dict[str, Any],
        Field(
            alias="schema",
            description="The JSON Schema (2020-12) of its payloads, which are objects. At most 64 KiB; "
            "references only to #/…, and none that leads back to itself.",
        ),
    ]
    queue: Annotated[Name, Field(description="Where its jobs go by default.")] = "default"
    max_retries: Annotated[Retries | None, Field(description="Retries after the first run.")] = None
    min_backoff_seconds: Annotated[Backoff | None, Field(description="The wait before the first retry.")] = (
        None
    )
    max_backoff_seconds: Annotated[Backoff | None, Field(description="The longest wait before a retry.")] = (
        None
    )
    jitter: Annotated[bool | None, Field(description="Whether the waits are spread at random.")] = None
    time_limit_seconds: Annotated[TimeLimit | None, Field(description="The longest run of an attempt.")] = (
        None
    )
    requires: Annotated[
        Requires | None,
        Field(description="The labels that a worker of its jobs has to have, where they do not say."),
    ] = None

    min_version: Annotated[
        MinVersion | None,
        Field(description="The version that a worker of jobs has to have at least that do not say."),
    ] = None

    url: Annotated[
        ReceiverUrl | None,
        Field(
            description="Its jobs are sent here by the workers of its queue, signed, and the answer is the "
            "outcome: docs/remote-types.md. Null: workers lease them."
        ),
    ] = None

    def stored(self) -> StoredDeclaration:
        """Return what is written of it, when its schema was looked at.

        Raises:
            InvalidJobError: the schema is none that is taken; fields are named `schema.…`.
        """
        DeclaredSchema(self.schema_)
        if self.queue == QUARANTINE_QUEUE or self.queue.endswith(RESERVED_QUEUES):
            raise InvalidJobError({"queue": f"{self.queue} is not a queue to create jobs in"})
        least, most = self.min_backoff_seconds, self.max_backoff_seconds
        if least is not None and most is not None and least > most:
            raise InvalidJobError({"max_backoff_seconds": "expected at least min_backoff_seconds"})
        if self.url is not None and (self.time_limit_seconds or 0) > PUSH_MAX_SECONDS:
            raise InvalidJobError({"time_limit_seconds": f"expected at most {PUSH_MAX_SECONDS} with a url"})
        return StoredDeclaration(
            queue=self.queue,
            schema=self.schema_,
            max_retries=self.max_retries,
            min_backoff_seconds=least,
            max_backoff_seconds=most,
            jitter=self.jitter,
            time_limit_seconds=self.time_limit_seconds,
            url=self.url,
            requires=with_version(entries_of(self.requires or {}), self.min_version or 0),
        )

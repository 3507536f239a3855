"""The audit log: who changed what, page by page and as JSON lines."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import falcon
from pydantic import BaseModel, ConfigDict, Field

from goqueue.api.frame.answers import Document, as_json
from goqueue.api.frame.cursors import link_next
from goqueue.api.frame.resource import Resource
from goqueue.audit import audit_rows
from goqueue.audit.audit_rows import AuditEntry, AuditFilter
from goqueue.engine.options.request_models import Name, QueryMoment, validate
from goqueue.instance import GoQueue
from goqueue.jobs import MAX_JOB_ID

PAGE_MAX = 1_000
LINES_MAX = 10_000


class AuditQuery(BaseModel):
    """The query of GET /audit."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    actor: Annotated[Name | None, Field(description="The name of a key, a user or a program.")] = None
    key_id: Name | None = None
    subject: Annotated[Name | None, Field(description="Of a user: what the provider calls that one.")] = None
    action: Annotated[Name | None, Field(description="What was done: queue.pause, job.cancel.")] = None
    target: Annotated[Name | None, Field(description="To what: queue mail, job 7.")] = None
    since: Annotated[QueryMoment | None, Field(description="Then or later.")] = None
    until: Annotated[QueryMoment | None, Field(description="Before then.")] = None
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = 100
    cursor: Annotated[
        int | None, Field(ge=1, le=MAX_JOB_ID, description="From the Link header of the page before.")
    ] = None

    def filter(self) -> AuditFilter:
        """Make the filter that the rows are read by."""
        return AuditFilter(
            self.actor, self.key_id, self.action, self.target, self.since, self.until, self.subject
        )


class AuditLinesQuery(AuditQuery):
    """The query of GET /audit/lines."""

    limit: Annotated[int, Field(ge=1, le=LINES_MAX)] = LINES_MAX


class AuditEntryDocument(Document):
    """A change that somebody made."""

    id: int
    noted_at: datetime
    actor_kind: Annotated[str, Field(description="key, user, anybody, terminal, program or system.")]
    actor: Annotated[str, Field(description="The name of the key, the user or the program.")]
    key_id: str | None
    address: Annotated[str | None, Field(description="Where it came from.")]
    request_id: Annotated[str | None, Field(description="As in the answer's X-Request-ID and in the log.")]
    action: str
    target: str
    before: Annotated[dict[str, Any] | None, Field(description="Of what changed, what it was; no payload.")]
    after: Annotated[
        dict[str, Any] | None, Field(description="Of what changed, what it is then; no payload.")
    ]
    reason: str | None
    issuer: Annotated[str | None, Field(description="Of a user: the provider that said who that is.")]
    subject: Annotated[str | None, Field(description="Of a user: what the provider calls that one for ever.")]


class AuditResource(Resource):
    """The audit log as pages of documents."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List changes, the newest first; the next page is in the Link header."""
        query = validate(AuditQuery, request.params, whole="query")
        response.data = as_json(_page(self._goqueue, request, response, query))


class AuditLinesResource(Resource):
    """The audit log as JSON lines, for an archive."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Write a change a line, the newest first; what comes after 10,000 is in the Link header."""
        query = validate(AuditLinesQuery, request.params, whole="query")
        entries = _page(self._goqueue, request, response, query)
        response.content_type = falcon.MEDIA_TEXT
        response.data = as_lines(entries)


def as_lines(entries: Iterable[AuditEntry]) -> bytes:
    """Write changes as JSON lines."""
    return b"".join(as_json(entry) + b"\n" for entry in entries)


def _page(
    goqueue: GoQueue, request: falcon.Request, response: falcon.Response, query: AuditQuery
) -> list[AuditEntry]:
    with goqueue.read_database.autocommit() as connection:
        entries = audit_rows.page(connection, query.filter(), limit=query.limit + 1, before_id=query.cursor)
    if len(entries) > query.limit:
        entries.pop()
        link_next(request, response, str(entries[-1].id))
    return entries

"""The page of the audit log: who changed what, filtered and page by page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import falcon
import orjson

from goqueue.api.audit import AuditQuery, as_lines
from goqueue.audit import audit_rows
from goqueue.audit.audit_rows import AuditEntry
from goqueue.dashboard.access.guard import FOLDER
from goqueue.dashboard.page import Page
from goqueue.engine.options.request_models import validate
from goqueue.errors import InvalidJobError

__all__ = ["AuditLines", "AuditPage"]

PLACE = f"{FOLDER}/audit"

PAGE_ENTRIES = 100
FILE_LINES = 10_000

FIELDS = ("actor", "action", "target", "since", "until")


class AuditPage(Page):
    """The page of the audit log."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show changes, the newest first; what is wrong about the address is told beside its field."""
        said = _said(request)
        wrong: dict[str, str] = {}
        entries: list[AuditEntry] = []
        before = request.get_param_as_int("before", min_value=1)
        try:
            wanted = _query(said).filter()
            with self._goqueue.read_database.autocommit() as connection:
                entries = audit_rows.page(connection, wanted, limit=PAGE_ENTRIES + 1, before_id=before)
        except InvalidJobError as error:
            wrong = error.fields
            response.status = falcon.HTTP_400
        more = len(entries) > PAGE_ENTRIES
        entries = entries[:PAGE_ENTRIES]
        kept = {name: value for name, value in said.items() if value}
        self._renderer.page(
            request,
            response,
            "audit.html",
            entries=[(entry, _changes(entry)) for entry in entries],
            said=said,
            wrong=wrong,
            is_filtered=bool(kept),
            is_first=before is None,
            file=f"{PLACE}.jsonl?{urlencode(kept)}" if kept else f"{PLACE}.jsonl",
            older=f"{PLACE}?{urlencode(kept | {'before': entries[-1].id})}" if more else None,
        )


class AuditLines(Page):
    """The audit log as a file of JSON lines."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the newest 10,000 changes that match."""
        wanted = _query(_said(request)).filter()
        with self._goqueue.read_database.autocommit() as connection:
            entries = audit_rows.page(connection, wanted, limit=FILE_LINES)
        response.content_type = "application/x-ndjson"
        response.downloadable_as = "audit.jsonl"
        response.data = as_lines(entries)


def _said(request: falcon.Request) -> dict[str, str]:
    return {name: request.get_param(name) or "" for name in FIELDS}


def _query(said: dict[str, str]) -> AuditQuery:
    """The filter that the fields say.

    Raises:
        InvalidJobError: one of them is wrong.
    """
    return validate(AuditQuery, {name: value for name, value in said.items() if value})


def _changes(entry: AuditEntry) -> list[tuple[str, str | None, str | None]]:
    """What changed, name by name: what it was and what it is then."""
    before: dict[str, Any] = entry.before or {}
    after: dict[str, Any] = entry.after or {}
    names = [*after, *(name for name in before if name not in after)]
    changes = [(name, _text(before.get(name)), _text(after.get(name))) for name in names]
    return [change for change in changes if change[1:] != (None, None)]


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return orjson.dumps(value).decode()

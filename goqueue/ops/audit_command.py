"""`goqueue audit`: the audit log at a terminal, and as JSON lines for an archive."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import orjson

from goqueue.audit import audit_rows
from goqueue.audit.audit_rows import AuditEntry, AuditFilter
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.observability.printable import printable

__all__ = ["lines"]

PAGE = 1_000


def lines(settings: Settings, options: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the answer: with `--json` all that match, otherwise the newest.

    Raises:
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    since = None if options.days is None else datetime.now(UTC) - timedelta(seconds=options.days)
    wanted = AuditFilter(actor=options.actor, action=options.action, target=options.target, since=since)
    database = Database(settings, application_name="goqueue-audit")
    try:
        if options.json:
            for entry in _all(database, wanted):
                yield orjson.dumps(entry, option=orjson.OPT_UTC_Z).decode()
            return
        with database.autocommit() as connection:
            for entry in audit_rows.page(connection, wanted, limit=options.limit):
                yield printable(_line(entry))
    finally:
        database.close()


def _all(database: Database, wanted: AuditFilter) -> Iterator[AuditEntry]:
    before_id: int | None = None
    while True:
        with database.autocommit() as connection:
            entries = audit_rows.page(connection, wanted, limit=PAGE, before_id=before_id)
        yield from entries
        if len(entries) < PAGE:
            return
        before_id = entries[-1].id


def _line(entry: AuditEntry) -> str:
    named_by = entry.key_id or entry.subject
    who = f"{entry.actor} ({entry.actor_kind}{f' {named_by}' if named_by else ''})"
    at = f"{entry.noted_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    what = f"{at}  {who}  {entry.action}  {entry.target}"
    changed = "" if entry.after is None else f"  {orjson.dumps(entry.after).decode()}"
    return f"{what}{changed}{f'  “{entry.reason}”' if entry.reason else ''}"

"""`goqueue keys`: API keys made, listed, revoked and rotated from a terminal."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from goqueue.access.key_rows import Key
from goqueue.access.keys import OVERLAP_SECONDS, Keys, MadeKey
from goqueue.config.namespaces import DEFAULT_NAMESPACE
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.observability.printable import printable

__all__ = ["Answer", "run"]

_HEAD = ("ID", "NAME", "STATE", "SCOPES", "ONLY", "LAST USED", "ENDS")


class Answer(NamedTuple):
    """The answer of the command.

    Attributes:
        text: for standard output: of a key its text alone, for whoever pipes it into a store of secrets.
        notes: what there is to know besides, line by line.
    """

    text: str
    notes: Sequence[str] = ()


def run(settings: Settings, options: argparse.Namespace) -> Answer:
    """Do what the command line says.

    Raises:
        InvalidJobError: a scope, a name or a time is wrong.
        ApiKeyNotFoundError: there is no such key.
        ApiKeyConflictError: the key that is to be rotated is revoked or expired.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    database = Database(settings.within(None), application_name="goqueue-keys")
    namespace = settings.database_namespace or DEFAULT_NAMESPACE
    try:
        return _do(Keys(database, namespace=namespace, schema=settings.schema_name), settings, options)
    finally:
        database.close()


def _do(keys: Keys, settings: Settings, options: argparse.Namespace) -> Answer:
    by = f"{getpass.getuser()} at a terminal"
    if options.action == "create":
        made = keys.create(
            options.name,
            *options.scopes,
            queues=options.queue,
            types=options.type,
            expires_in_seconds=options.expires_in,
            by=by,
        )
        return _answer(made, [] if settings.needs_api_key else [_STILL_OPEN])
    if options.action == "rotate":
        overlap = OVERLAP_SECONDS if options.overlap is None else options.overlap
        made = keys.rotate(options.key_id, overlap_seconds=overlap, by=by)
        until = made.key.previous_until
        return _answer(made, [] if until is None else [f"the secret before is good until {_when(until)} UTC"])
    if options.action == "revoke":
        key = keys.revoke(options.key_id, by=by)
        return Answer(f"{printable(key.name)} ({key.id}) is revoked: it opens nothing after two seconds")
    return Answer(_table([_HEAD, *map(_row, keys.list())]))


_STILL_OPEN = "the API still answers without a key: set GOQUEUE_API_KEYS_REQUIRED=true"


def _answer(made: MadeKey, notes: Sequence[str]) -> Answer:
    about = f"{made.key.name} ({made.key.id}): {', '.join(made.key.scopes)}"
    return Answer(made.text, [f"{printable(about)}; its text is not kept", *notes])


def _row(key: Key) -> Sequence[str]:
    only = [f"queue {name}" for name in key.queues or ()] + [f"type {name}" for name in key.types or ()]
    return (
        key.id,
        printable(key.name),
        key.state,
        ",".join(key.scopes),
        printable(", ".join(only)) or "-",
        _when(key.last_used_at),
        _when(key.revoked_at or key.expires_at),
    )


def _when(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)

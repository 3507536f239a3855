"""`goqueue types`: job types that are no Python code, declared, listed and removed from a terminal."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.errors import InvalidJobError
from goqueue.instance import GoQueue
from goqueue.observability.printable import printable
from goqueue.remote.declared_type_rows import DeclaredType
from goqueue.remote.type_declarations import OVERLAP_SECONDS

__all__ = ["run"]


def run(settings: Settings, options: argparse.Namespace) -> list[str]:
    """Do what the command line says, and return the lines to print.

    Raises:
        InvalidJobError: the file holds no declaration, or a wrong one.
        TypeNotFoundError: there is no such type.
        TypeConflictError: Python code declares it, or it is in use.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    with GoQueue(settings, database=Database(settings, application_name="goqueue-types")) as goqueue:
        if options.action == "declare":
            by = f"{getpass.getuser()} at a terminal"
            made, secret = goqueue.declare_type(options.name, by=by, **_read(options.file))
            queue = printable(made.declaration.queue)
            return [f"{printable(made.name)} is declared, for the queue {queue}", *_shown(secret)]
        if options.action == "rotate":
            overlap = OVERLAP_SECONDS if options.overlap is None else options.overlap
            return _shown(goqueue.rotate_type_secret(options.name, overlap_seconds=overlap).secret)
        if options.action == "remove":
            goqueue.remove_type(options.name)
            return [f"{printable(options.name)} is removed"]
        return [_line(found) for _, found in sorted(goqueue.types.all_declared().items())]


def _shown(secret: str | None) -> list[str]:
    """A secret that is new, which is not told again."""
    return [] if secret is None else [secret]


def _read(path: str) -> dict[str, Any]:
    """The declaration in a file, or of the standard input, as JSON."""
    try:
        document = json.loads(sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidJobError({"file": str(error)}) from None
    if not isinstance(document, dict) or not document.keys().isdisjoint({"name", "by"}):
        raise InvalidJobError({"file": "expected the declaration of a type: schema, queue, max_retries, …"})
    return document


def _line(found: DeclaredType) -> str:
    columns: Sequence[str] = (found.name, found.declaration.queue, found.declared_by, found.url or "")
    return printable("  ".join(columns)).rstrip()

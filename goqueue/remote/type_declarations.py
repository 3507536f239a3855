"""Declaring and removing job types from outside of Python code, and the secrets of those with a URL."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

import structlog

from goqueue.audit import audit_rows as audit
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import queue_rows
from goqueue.engine.options.job_settings import problem_of_name
from goqueue.engine.options.known_types import schema_hash
from goqueue.engine.options.request_models import UNSTORABLE
from goqueue.errors import InvalidJobError, TypeConflictError, TypeNotFoundError
from goqueue.remote.declaration import TypeDeclaration
from goqueue.remote.declared_type_rows import (
    DeclaredType,
    StoredDeclaration,
    count_all,
    delete,
    find,
    is_wanted,
    rotate,
    upsert,
)
from goqueue.remote.declared_types import TypeDirectory, TypesOfPython
from goqueue.webhooks.signatures import new_secret

__all__ = ["OVERLAP_MAX_SECONDS", "OVERLAP_SECONDS", "TYPES_MAX", "MadeType", "TypeDeclarations"]

log = structlog.get_logger(__name__)

#: As many types may be declared: each process has all of them in memory.
TYPES_MAX = 1_000

#: How long calls are signed with the secret before a rotation as well, where nothing else is said.
OVERLAP_SECONDS = 86_400.0
OVERLAP_MAX_SECONDS = 90 * 86_400.0


class MadeType(NamedTuple):
    """A type that was declared, or whose secret was rotated.

    Attributes:
        secret: what its calls are signed with from now on, where that is new; it is not told again.
    """

    type: DeclaredType
    secret: str | None


class TypeDeclarations(TypeDirectory):
    """The directory of all types, with what declares and removes those that are rows.

    Args:
        settings: the defaults of what a declaration does not say.
        database: where the rows are.
        python_types: the types of Python code.
    """

    def __init__(self, settings: Settings, database: Database, python_types: TypesOfPython) -> None:
        super().__init__(settings, database, python_types)
        self._database = database
        self._python_types = python_types

    def declare(self, name: str, declaration: TypeDeclaration, *, by: str) -> MadeType:
        """Declare a type, or declare it anew; it replaces what was declared as a whole.

        With a URL that it did not have before it gets a secret, which is told only now.

        Args:
            name: of the type.
            declaration: what it says.
            by: who declares it.

        Raises:
            InvalidJobError: the name or the declaration is wrong.
            TypeConflictError: Python code declares it, or there are too many.
            DatabaseUnavailableError: PostgreSQL does not answer; it was not declared.
        """
        if wrong := problem_of_name(name):
            raise InvalidJobError({"name": wrong})
        self._expect_free(name)
        stored = declaration.stored()
        with self._database.transaction() as connection:
            before = find(connection, name, lock=True)
            if before is None and count_all(connection) >= TYPES_MAX:
                raise TypeConflictError(name, f"is one too many: at most {TYPES_MAX:,} can be declared")
            queue_rows.ensure(connection, [stored.queue])
            made = upsert(connection, name, stored, by=by, secret=new_secret())
            audit.record(
                connection,
                "type.declare",
                f"type {name}",
                before=None if before is None else _noted(name, before.declaration),
                after=_noted(name, stored),
            )
        log.info("type_declared", type=name, queue=stored.queue, by=by, is_new=before is None)
        self.look_again()
        is_first = before is None or before.url is None
        return MadeType(made, made.secret if is_first else None)

    def rotate_secret(self, name: str, *, overlap_seconds: float = OVERLAP_SECONDS) -> MadeType:
        """Give a type another secret, which is told only now; calls are signed with both for a while.

        Args:
            name: of a type with a URL.
            overlap_seconds: for how long; 0: with the new one alone from now on.

        Raises:
            TypeNotFoundError: there is no such type.
            TypeConflictError: Python code declares it, or it has no URL.
            InvalidJobError: the overlap is negative, or longer than 90 days.
            DatabaseUnavailableError: PostgreSQL does not answer; it was not changed.
        """
        if not 0 <= overlap_seconds <= OVERLAP_MAX_SECONDS:
            raise InvalidJobError({"overlap_seconds": f"expected 0 to {OVERLAP_MAX_SECONDS:,.0f}"})
        self._expect_free(name)
        with self._database.transaction() as connection:
            if find(connection, name, lock=True) is None:
                raise TypeNotFoundError(name)
            made = rotate(connection, name, new_secret(), overlap_seconds=overlap_seconds)
            if made is None:
                raise TypeConflictError(name, "has no url, and so no secret")
            noted = {"overlap_seconds": overlap_seconds}
            audit.record(connection, "type.rotate_secret", f"type {name}", after=noted)
        log.info("type_secret_rotated", type=name, overlap_seconds=overlap_seconds)
        self.look_again()
        return MadeType(made, made.secret)

    def remove(self, name: str) -> None:
        """Remove a type that was declared from outside.

        Raises:
            TypeNotFoundError: there is no such type.
            TypeConflictError: Python code declares it, jobs of it have not ended, or a schedule makes some.
            DatabaseUnavailableError: PostgreSQL does not answer; it was not removed.
        """
        self._expect_free(name)
        with self._database.transaction() as connection:
            before = find(connection, name, lock=True)
            if before is None:
                raise TypeNotFoundError(name)
            has_jobs, has_schedule = is_wanted(connection, name)
            if has_jobs or has_schedule:
                why = "has jobs that have not ended" if has_jobs else "is the type of a schedule"
                raise TypeConflictError(name, why)
            delete(connection, name)
            audit.record(connection, "type.remove", f"type {name}", before=_noted(name, before.declaration))
        log.info("type_removed", type=name)
        self.look_again()

    def _expect_free(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a type: expected a text, got {type(name).__qualname__}")
        if UNSTORABLE.search(name):
            raise TypeNotFoundError(name)
        if name in self._python_types.type_names():
            raise TypeConflictError(name, "is declared by Python code (GOQUEUE_ACTORS)")


def _noted(name: str, declaration: StoredDeclaration) -> dict[str, Any]:
    """A declaration, for the audit log: its schema as a hash."""
    noted = asdict(declaration)
    return noted | {"schema": schema_hash(name, noted.pop("schema"))}

"""The directory of all job types: those of Python code, and those that were declared from outside.

Whatever looks a type up by its name asks here. What Python code declares is found without a query, as ever.
Of the types that are rows each process keeps a copy, which it compares with the rows once a second while it
is asked for such types; a name that it does not find makes it look again at once, so that a job can be
created as soon as its type is declared, by whichever process.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import structlog

from goqueue.config.settings import Settings
from goqueue.contents.contents import JobContents
from goqueue.db.database import Database
from goqueue.engine.options.job_type import JobType
from goqueue.errors import (
    DatabaseUnavailableError,
    GoQueueError,
    InvalidJobError,
)
from goqueue.jobs import RetryPolicy
from goqueue.remote.declaration import PUSH_MAX_SECONDS
from goqueue.remote.declared_schema import DeclaredSchema
from goqueue.remote.declared_type_rows import (
    DeclaredType,
    have_changed,
    read,
)

__all__ = ["KEPT_SECONDS", "TypeDirectory", "TypesOfPython", "job_type_of"]

log = structlog.get_logger(__name__)

#: So long the copy of a process is used without a look at the rows; after a name that it does not have, so
#: long, so that somebody who asks for types that there are not costs a few small queries a second.
KEPT_SECONDS = 1.0
MISSED_SECONDS = 0.05


class TypesOfPython(Protocol):
    """Knows the job types that Python code declares: a broker."""

    @property
    def job_types(self) -> Mapping[str, JobType]:
        """The types by their own names."""

    def job_type(self, name: str) -> JobType | None:
        """Return a type by its name or an alias; None: it is not declared."""

    def type_of(self, declared: Any) -> JobType:
        """Return the job type of an actor.

        Raises:
            TypeError: it is none, or one of another broker.
        """

    def type_names(self) -> set[str]:
        """Tell the names of all types, aliases included."""


class _Copy(NamedTuple):
    """What a process knows of the rows.

    Attributes:
        looked_at: when they were compared, by the monotonic clock.
    """

    types: Mapping[str, DeclaredType]
    looked_at: float


class TypeDirectory:
    """Knows every job type. Thread-safe.

    Args:
        settings: the defaults of what a declaration does not say.
        database: where the rows are.
        python_types: the types of Python code.
    """

    def __init__(self, settings: Settings, database: Database, python_types: TypesOfPython) -> None:
        self._settings = settings
        self._database = database
        self._python = python_types
        self._copy: _Copy | None = None
        self._made: dict[str, tuple[datetime, JobType]] = {}
        self._looking = threading.Lock()

    def job_type(self, name: str) -> JobType | None:
        """Return a type by its name or an alias; None: there is none.

        Raises:
            InvalidJobError: it was declared with a schema that this release does not take.
            DatabaseUnavailableError: Python code declares no such type, and PostgreSQL was never asked.
        """
        found = self._python.job_type(name)
        if found is not None:
            return found
        declared = self.declared(name)
        return None if declared is None else self._job_type_of(declared)

    def type_of(self, declared: Any) -> JobType:
        """Return the job type of an actor, or of the name of a type.

        Raises:
            TypeError: it is neither, or an actor of another broker.
            InvalidJobError: there is no type of this name.
            DatabaseUnavailableError: as `job_type`.
        """
        if not isinstance(declared, str):
            return self._python.type_of(declared)
        job_type = self.job_type(declared)
        if job_type is None:
            raise InvalidJobError({"type": f"unknown job type {declared!r}"})
        return job_type

    def retry_policy(self, name: str) -> RetryPolicy:
        """Tell how failed attempts of a type are retried; of an unknown one, by the default. Never raises."""
        job_type = self.found(name)
        return RetryPolicy() if job_type is None else job_type.retry

    def found(self, name: str) -> JobType | None:
        """Return a type as far as it can be told; None: there is none, or PostgreSQL does not answer."""
        try:
            return self.job_type(name)
        except GoQueueError:
            return None

    def knows(self, name: str) -> bool:
        """Tell whether there is a type of this name or alias. Raises as `declared`."""
        return name in self._python.type_names() or self.declared(name) is not None

    def all_types(self) -> dict[str, JobType]:
        """Return every type by its own name; of Python code where both declare it. Raises as `job_type`."""
        return {name: self._job_type_of(declared) for name, declared in self.all_declared().items()} | dict(
            self._python.job_types
        )

    def declared(self, name: str) -> DeclaredType | None:
        """Return the row of a type that was declared from outside; None: there is none.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer, and was never asked.
        """
        found = self._rows(KEPT_SECONDS).get(name)
        return found or self._rows(MISSED_SECONDS).get(name)

    def all_rows(self) -> Mapping[str, DeclaredType]:
        """Return all rows by name. Raises as `declared`."""
        return self._rows(KEPT_SECONDS)

    def all_declared(self) -> Mapping[str, DeclaredType]:
        """Return the rows of types that Python code does not declare, by name. Raises as `declared`."""
        taken = self._python.type_names()
        return {name: found for name, found in self._rows(KEPT_SECONDS).items() if name not in taken}

    def look_again(self) -> None:
        """Compare the copy with the rows now, as far as PostgreSQL answers."""
        self._rows(0.0)

    def _rows(self, age_seconds: float) -> Mapping[str, DeclaredType]:
        """The copy, which is at most so old; older where PostgreSQL does not answer."""
        before = self._copy
        if before is not None and time.monotonic() - before.looked_at < age_seconds:
            return before.types
        with self._looking:
            if self._copy is not None and self._copy is not before:
                # Somebody else looked while this one waited.
                return self._copy.types
            try:
                self._copy = self._looked()
            except DatabaseUnavailableError:
                if before is None:
                    raise
                self._copy = before._replace(looked_at=time.monotonic())
            return self._copy.types

    def _looked(self) -> _Copy:
        now, known = time.monotonic(), {} if self._copy is None else self._copy.types
        with self._database.autocommit() as connection:
            changed_at = have_changed(connection)
            kept = {name: found for name, found in known.items() if changed_at.get(name) == found.updated_at}
            new = changed_at.keys() - kept.keys()
            found = read(connection, new) if new else []
        return _Copy(kept | {one.name: one for one in found}, now)

    def _job_type_of(self, declared: DeclaredType) -> JobType:
        made = self._made.get(declared.name)
        if made is None or made[0] != declared.updated_at:
            try:
                made = declared.updated_at, job_type_of(self._settings, declared)
            except InvalidJobError as error:
                raise InvalidJobError({"type": f"its schema is not taken by this release: {error}"}) from None
            self._made[declared.name] = made
        return made[1]


def job_type_of(settings: Settings, declared: DeclaredType) -> JobType:
    """Make the job type that a row says; what it does not say is the default of the settings.

    Raises:
        InvalidJobError: its schema is not one that is taken.
    """
    said, keys = declared.declaration, JobContents.of_settings(settings).keys
    defaults = RetryPolicy(
        max_retries=settings.max_retries,
        min_backoff_seconds=settings.min_backoff_seconds,
        max_backoff_seconds=settings.max_backoff_seconds,
    )
    policy = {
        name: value
        for name in ("max_retries", "min_backoff_seconds", "max_backoff_seconds", "jitter")
        if (value := getattr(said, name)) is not None
    }
    return JobType(
        name=declared.name,
        queue=said.queue,
        schema=DeclaredSchema(said.schema),
        style="payload",
        retry=RetryPolicy(**{**asdict(defaults), **policy}),
        time_limit_seconds=said.time_limit_seconds
        or min(settings.time_limit_seconds, math.inf if said.url is None else PUSH_MAX_SECONDS),
        requires=said.requires,
        encrypt=settings.encrypt_payloads,
        fingerprint=keys.fingerprint if keys is not None and settings.encrypt_payloads else None,
        is_remote=True,
    )

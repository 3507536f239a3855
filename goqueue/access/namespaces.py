"""The namespaces inside of a database: made, changed and deleted while everything runs.

Each is a schema with all tables, and a prefix of its own in Redis: what GoQueue does in one knows nothing of
the others. A row in the schema of the installation says which there are, and what they may use.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from typing import NamedTuple

import structlog

from goqueue.access import namespace_rows, quota_rows
from goqueue.access.namespace_rows import Namespace, Unfinished
from goqueue.access.quotas import QuotaChanges, Quotas, expect_namespace_name
from goqueue.audit import audit_rows as audit
from goqueue.config.namespaces import schema_of_namespace
from goqueue.config.settings import Settings
from goqueue.db.database import Connection, Database
from goqueue.db.schemas import in_schema
from goqueue.engine.runway.runway import Runway
from goqueue.errors import (
    DatabaseUnavailableError,
    GoQueueError,
    InvalidJobError,
    NamespaceConflictError,
    NamespaceNotFoundError,
    RedisUnavailableError,
)
from goqueue.jobs import QUARANTINE_QUEUE

__all__ = ["Namespaces", "Use"]

log = structlog.get_logger(__name__)

#: So long a process believes what it read: a namespace that was made is served everywhere after two seconds.
GOOD_FOR_SECONDS = 1.0

#: And that there is none of a name, which may have just been made: so short that guesses cost little.
MISSING_FOR_SECONDS = 0.1

#: So often a deletion is tried while others use what is to be dropped.
DELETE_TRIES = 6


class Use(NamedTuple):
    """The use that a namespace makes of its quotas.

    Attributes:
        waiting: jobs that have not begun, counted up to a million.
        running: jobs that run, counted up to a million.
        creates_left: jobs that it may create at once, below 0 what it owes; None: nothing counts them.
    """

    waiting: int
    running: int
    creates_left: float | None


class Namespaces:
    """The namespaces inside of the database of an installation. Thread-safe.

    Args:
        settings: of the installation.
        database: of the installation.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._known: Mapping[str, Namespace] = {}
        self._read_at = -math.inf
        self._lock = threading.Lock()

    def create(self, name: str, quotas: Quotas | None = None, *, by: str = "system") -> Namespace:
        """Make a namespace: its row, its schema and all tables, which takes a part of a second.

        What an earlier attempt left half-made is gone on with; until it is ready nobody serves it.

        Args:
            name: up to 32 small letters, digits, `_` and `-`.
            quotas: what it may use; None: all there is.
            by: who makes it.

        Raises:
            InvalidJobError: no namespace can have this name.
            NamespaceConflictError: there is one, or its schema is somebody else's.
            DatabaseUnavailableError: PostgreSQL does not answer; making it again goes on.
        """
        wanted = quotas or Quotas()
        own = self._settings.within(self._expect_free(name))
        assert own.schema_name is not None
        with self._database.transaction() as connection:
            found = namespace_rows.insert(connection, name, wanted, by=by) or _found(connection, name)
            if found.made_at is not None:
                raise NamespaceConflictError(f"there is a namespace {name}")
            if not namespace_rows.make_schema(connection, own.schema_name):
                raise NamespaceConflictError(
                    f"the schema {own.schema_name} of the database is not GoQueue's own"
                )
        _migrate(own)
        with self._database.transaction() as connection:
            made = namespace_rows.note_made(connection, name)
            if made is None:
                raise NamespaceConflictError(f"there is a namespace {name}")
            # Of whoever began it first, or of whoever came to its end: what was asked for now holds.
            made = namespace_rows.change(connection, name, wanted) or made
            self._limit_running(connection, made, before=None)
            audit.record(connection, "namespace.create", f"namespace {name}", after=asdict(wanted))
        log.info("namespace_created", name=name, schema=own.schema_name, by=by)
        self._forget()
        return made

    def every(self) -> list[Namespace]:
        """List the namespaces by name, without those that are still being made."""
        with self._database.autocommit() as connection:
            return [one for one in namespace_rows.list_all(connection) if one.made_at is not None]

    def get(self, name: str) -> Namespace:
        """Return the namespace of this name.

        Raises:
            NamespaceNotFoundError: there is none of this name.
        """
        with self._database.autocommit() as connection:
            found = namespace_rows.find(connection, name)
        if found is None or found.made_at is None:
            raise NamespaceNotFoundError(name)
        return found

    def known(self) -> Mapping[str, Namespace]:
        """Return the namespaces by name, as they were a second ago at most.

        While PostgreSQL does not answer they are those that it told last.
        """
        with self._lock:
            self._refresh(GOOD_FOR_SECONDS)
            return self._known

    def find(self, name: str) -> Namespace | None:
        """Return what is known of a namespace; one that is not known is looked for a little sooner."""
        with self._lock:
            self._refresh(GOOD_FOR_SECONDS)
            if name not in self._known:
                self._refresh(MISSING_FOR_SECONDS)
            return self._known.get(name)

    def _refresh(self, after_seconds: float) -> None:
        now = time.monotonic()
        if now - self._read_at < after_seconds:
            return
        try:
            self._known = {one.name: one for one in self.every()}
        except GoQueueError as error:
            log.debug("namespaces_not_read", error=str(error))
        self._read_at = now

    def change(self, name: str, changes: QuotaChanges) -> Namespace:
        """Change quotas of a namespace; within two seconds every process holds to them.

        Raises:
            NamespaceNotFoundError: there is none of this name.
        """
        with self._database.transaction() as connection:
            before = _found(connection, name, lock=True)
            after = namespace_rows.change(connection, name, changes.of(before.quotas))
            if after is None:
                raise NamespaceNotFoundError(name)
            self._limit_running(connection, after, before=before.quotas.max_running_jobs)
            was, now = asdict(before.quotas), asdict(after.quotas)
            changed = [quota for quota in now if now[quota] != was[quota]]
            audit.record(
                connection,
                "namespace.change",
                f"namespace {name}",
                before={quota: was[quota] for quota in changed},
                after={quota: now[quota] for quota in changed},
            )
        log.info("namespace_changed", name=name, **{quota: now[quota] for quota in changed})
        self._forget()
        return after

    def use_of(self, name: str) -> Use:
        """Read what a namespace uses of its quotas.

        Raises:
            NamespaceNotFoundError: there is none of this name.
        """
        with self._database.transaction() as connection:
            found = _found(connection, name)
            if found.made_at is None:
                raise NamespaceNotFoundError(name)
            with in_schema(connection, self._schema_of(name)):
                left = namespace_rows.unfinished(connection)
                rate = found.quotas.creates_per_second
                creates = None if rate is None else quota_rows.tokens(connection, rate)
        return Use(left.waiting, left.running, creates)

    def delete(self, name: str, *, force: str | None = None, by: str = "system") -> None:
        """Delete a namespace for good, with all that is in it, its audit log too, and revoke its keys.

        Args:
            name: of the namespace.
            force: its name once more: also while jobs of it wait or run.
            by: who deletes it.

        Raises:
            NamespaceNotFoundError: there is none of this name.
            NamespaceConflictError: jobs of it wait or run, and nothing forces it.
            InvalidJobError: `force` is another name.
        """
        if force is not None and force != name:
            raise InvalidJobError({"force": "expected the name of the namespace once more"})
        for tries_left in reversed(range(DELETE_TRIES)):
            try:
                queues, signatures = self._delete(name, force=force, by=by)
                break
            except DatabaseUnavailableError as error:
                # Its workers hold what is to be dropped, each for a moment, and one of a deadlock has to go.
                if not error.may_be_the_statement or not tries_left:
                    raise
        self._forget()
        self._clear_runway(name, queues, signatures)

    def _delete(self, name: str, *, force: str | None, by: str) -> tuple[list[str], list[str]]:
        """Delete all that is in PostgreSQL; return queues and signatures of workers that Redis knows of."""
        schema = self._schema_of(name)
        queues, signatures = [QUARANTINE_QUEUE], list[str]()
        with self._database.transaction() as connection:
            found = _found(connection, name, lock=True)
            left = Unfinished(0, 0)
            if found.made_at is not None:
                with in_schema(connection, schema):
                    left = _left(connection, force=force)
                    queues += namespace_rows.queue_names(connection)
                    signatures = namespace_rows.worker_signatures(connection)
            namespace_rows.drop_schema(connection, schema)
            namespace_rows.delete(connection, name)
            revoked = namespace_rows.revoke_keys(connection, name, by=by)
            after = {"waiting": left.waiting, "running": left.running, "revoked_keys": revoked}
            audit.record(connection, "namespace.delete", f"namespace {name}", after=after)
        log.info("namespace_deleted", name=name, schema=schema, waiting=left.waiting, by=by)
        return queues, signatures

    def _expect_free(self, name: str) -> str:
        expect_namespace_name(name)
        if name == self._settings.namespace or name in self._settings.names_of_namespaces():
            raise NamespaceConflictError(f"there is a namespace {name}")
        return name

    def _schema_of(self, name: str) -> str:
        return schema_of_namespace(self._settings.namespace, name)

    def _limit_running(self, connection: Connection, now: Namespace, *, before: int | None) -> None:
        """Tell the namespace's own schema, whose rounds of admission hold to it."""
        most = now.quotas.max_running_jobs
        if most != before:
            with in_schema(connection, self._schema_of(now.name)):
                namespace_rows.set_running_quota(connection, now.name, most)

    def _forget(self) -> None:
        with self._lock:
            self._read_at = -math.inf

    def _clear_runway(self, name: str, queues: list[str], signatures: list[str]) -> None:
        with closing(Runway(self._settings.within(name))) as runway:
            try:
                runway.remove_all(queues, signatures)
            except RedisUnavailableError as error:
                # Ids that nobody asks for; one who makes a namespace of this name again refuses them.
                log.warning("runway_not_cleared", name=name, error=str(error))


def _found(connection: Connection, name: str, *, lock: bool = False) -> Namespace:
    found = namespace_rows.find(connection, name, lock=lock)
    if found is None:
        raise NamespaceNotFoundError(name)
    return found


def _left(connection: Connection, *, force: str | None) -> Unfinished:
    """What is lost with a namespace. Nobody creates a job meanwhile, and after that the table is gone."""
    namespace_rows.lock_jobs(connection)
    left = namespace_rows.unfinished(connection)
    if force is None and any(left):
        raise NamespaceConflictError(
            f"{left.waiting} jobs of the namespace wait and {left.running} run: force it by its name"
        )
    return left


def _migrate(settings: Settings) -> None:
    # Alembic takes a third of a second to import, and few processes make namespaces.
    from goqueue.migrations.upgrade import upgrade  # noqa: PLC0415

    with closing(Database(settings, pool_size=1, application_name="goqueue-migrate")) as own:
        upgrade(own)

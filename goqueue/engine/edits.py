"""Editing jobs that wait, and running failed ones again, edited or as they are; what they were before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

import orjson

from goqueue.audit import audit_rows as audit
from goqueue.config.labels import LabelValue, by_name, entries_of, version_of, with_version
from goqueue.contents.redaction import marker_in, merged
from goqueue.db.database import Connection, Database
from goqueue.engine import edit_rows as edit_store
from goqueue.engine import job_rows as job_store
from goqueue.engine import unique_rows as unique_keys
from goqueue.engine.create import JobCreator
from goqueue.engine.edit_rows import JobEdit, Version
from goqueue.engine.json_diff import Change, differences
from goqueue.engine.new_job import DeclaredTypes
from goqueue.engine.options.arguments import expect_id
from goqueue.engine.options.job_options import refuse_wrong
from goqueue.engine.options.job_type import JobType
from goqueue.engine.options.payloads import payload_of
from goqueue.engine.options.uniqueness import KEY_MAX_CHARACTERS
from goqueue.engine.transitions.retry import retry
from goqueue.errors import IllegalTransitionError, InvalidJobError, JobNotFoundError
from goqueue.jobs import Job, JobStatus

__all__ = ["EditedVersion", "Editor"]

#: Of a version that differs in more values, only the first ones are told.
MAX_CHANGES = 1000


class EditedVersion(NamedTuple):
    """A version, and what is different in it.

    Attributes:
        changes: against the version before, at most 1,000 of them; None: that one is not kept.
    """

    version: Version
    changes: list[Change] | None


class Editor:
    """Edits and replays jobs.

    Args:
        database: where the jobs are.
        types: knows the declared types: a new payload has to fit.
        creator: pushes what may start at once.
    """

    def __init__(self, database: Database, types: DeclaredTypes, creator: JobCreator) -> None:
        self._database = database
        self._types = types
        self._creator = creator

    def edit(
        self,
        job_id: int,
        *,
        payload: Any = None,
        priority: int | None = None,
        available_at: datetime | None = None,
        requires: Mapping[str, LabelValue] | None = None,
        slots: int | None = None,
        min_version: int | None = None,
        author: str | None = None,
    ) -> Job:
        """Edit a queued or blocked job; None is as it is. The job as it is now.

        Raises:
            InvalidJobError: nothing is to change, or the payload does not fit the type, or a value is wrong.
            JobNotFoundError: there is no such job.
            IllegalTransitionError: it waits no more; a worker's claim came first.
        """
        if all(value is None for value in (payload, priority, available_at, requires, slots, min_version)):
            raise InvalidJobError(
                {
                    "body": "expected at least one of payload, priority, available_at, requires, slots and "
                    "min_version"
                }
            )
        refuse_wrong({"requires": requires, "slots": slots, "min_version": min_version})
        change = JobEdit(None, priority, available_at, author, slots=slots)
        change = self._checked(job_id, payload, change, requires, min_version)
        with self._database.transaction() as connection:
            job = edit_store.edit(connection, job_id, change)
            if job is None:
                raise IllegalTransitionError(job_id, job_store.get(connection, job_id).status, "edited")
            audit.record(connection, "job.edit", f"job {job_id}", after=_noted(change))
        if _is_ready(job):
            self._creator.start(job)
        return job

    def retry(
        self,
        job_id: int,
        *,
        payload: Any = None,
        priority: int | None = None,
        available_at: datetime | None = None,
        requires: Mapping[str, LabelValue] | None = None,
        slots: int | None = None,
        min_version: int | None = None,
        author: str | None = None,
    ) -> Job:
        """Queue a failed or cancelled job again, edited or as it is, with its attempts counted anew.

        Raises:
            InvalidJobError: the payload does not fit the type, or a value is wrong.
            JobNotFoundError: there is no such job.
            IllegalTransitionError: it has not failed, and is not cancelled.
            UniqueKeyHeldError: another job has its unique key.
        """
        refuse_wrong({"requires": requires, "slots": slots, "min_version": min_version})
        change = JobEdit(None, priority, available_at, author, slots=slots)
        change = self._checked(job_id, payload, change, requires, min_version)
        with self._database.transaction() as connection:
            # Keys before jobs: see `unique_keys`.
            unique_keys.lock(connection, unique_keys.keyed(connection, [job_id]).values())
            if not change.changes_waiting_only:
                edit_store.edit(
                    connection,
                    job_id,
                    replace(change, available_at=None),
                    states=edit_store.REPLAYABLE,
                )
            retried = retry(connection, [job_id], available_at=available_at)
            job = job_store.get(connection, job_id)
            if not retried:
                self._refuse_retry(connection, job)
            audit.record(connection, "job.retry", f"job {job_id}", after=_noted(change))
        if _is_ready(job):
            self._creator.start(job)
        return job

    def versions(self, job_id: int) -> list[EditedVersion]:
        """List the versions of a job: the one before each edit, the oldest first, and the present one.

        Raises:
            JobNotFoundError: there is no such job.
        """
        expect_id("job_id", job_id, JobNotFoundError)
        with self._database.autocommit() as connection:
            versions = edit_store.versions_of(connection, job_id)
        before = [None, *map(_document, versions)]
        return [
            EditedVersion(version, _changes(version, document, _document(version)))
            for version, document in zip(versions, before, strict=False)
        ]

    def _checked(
        self,
        job_id: int,
        payload: Any,
        change: JobEdit,
        requires: Mapping[str, LabelValue] | None,
        min_version: int | None,
    ) -> JobEdit:
        """The edit, with the payload as it is stored, if all of it is right."""
        refuse_wrong(
            {
                "priority": 0 if change.priority is None else change.priority,
                "available_at": change.available_at,
            }
        )
        expect_id("job_id", job_id, JobNotFoundError)
        author = change.author or "-"
        if not isinstance(author, str) or len(author) > KEY_MAX_CHARACTERS or not author.isprintable():
            raise InvalidJobError({"author": f"expected 1 to {KEY_MAX_CHARACTERS} printable characters"})
        with self._database.autocommit() as connection:
            job = job_store.get(connection, job_id)
        _refuse_start_beyond_end(job, change.available_at)
        change = replace(change, requires=_required(job, requires, min_version))
        if payload is None:
            return change
        job_type = self._types.job_type(job.type)
        if job_type is None:
            raise InvalidJobError({"payload": f"the job's type {job.type!r} is not declared here"})
        document = payload_of(payload)
        change = replace(change, encrypt=job_type.encrypt)
        if marker_in(document, job_type.redact) is not None:
            return replace(change, complete=lambda stored: _completed(job_type, document, stored))
        return replace(change, payload=job_type.validated(document))

    @staticmethod
    def _refuse_retry(connection: Connection, job: Job) -> None:
        if job.status in edit_store.REPLAYABLE and job.unique_key is not None:
            unique_keys.refuse(connection, job.id, job.unique_key)
        raise IllegalTransitionError(job.id, job.status, JobStatus.QUEUED)


def _completed(job_type: JobType, document: Any, stored: str) -> str:
    """The payload with what is stored wherever it has the marker of a value that is not shown.

    Raises:
        InvalidJobError: nothing is stored there, or it does not fit its type.
    """
    try:
        return job_type.validated(merged(document, orjson.loads(stored), job_type.redact))
    except LookupError as error:
        raise InvalidJobError({str(error.args[0]): "expected a value: none is stored here"}) from None


def _noted(change: JobEdit) -> dict[str, Any]:
    """What an edit changes, for the audit log: of a payload only that, since its versions are kept."""
    said = {
        "payload": None if change.payload is None and change.complete is None else "changed",
        "priority": change.priority,
        "available_at": change.available_at,
        "author": change.author,
    }
    return {name: value for name, value in said.items() if value is not None}


def _is_ready(job: Job) -> bool:
    """Whether a job that was changed in this moment may start at once."""
    return job.status is JobStatus.QUEUED and job.available_at <= job.updated_at


def _refuse_start_beyond_end(job: Job, available_at: datetime | None) -> None:
    for name, end in ("expires_at", job.expires_at), ("deadline_at", job.deadline_at):
        # An end that a failed job has behind it is dropped when it runs again.
        ended = job.finished_at is not None and end is not None and end <= datetime.now(UTC)
        if available_at is not None and end is not None and end <= available_at and not ended:
            raise InvalidJobError({"available_at": f"expected a time before the job's {name}"})


def _required(
    job: Job, requires: Mapping[str, LabelValue] | None, min_version: int | None
) -> tuple[str, ...] | None:
    """What a job shall require, as it is kept: labels and version, each new or old; None: as it is."""
    if requires is None and min_version is None:
        return None
    entries = job.requires if requires is None else entries_of(requires)
    return with_version(entries, version_of(job.requires) if min_version is None else min_version)


def _document(version: Version) -> dict[str, Any]:
    return {
        "payload": version.payload,
        "priority": version.priority,
        "available_at": version.available_at,
        "requires": by_name(version.requires),
        "slots": version.slots,
        "min_version": version_of(version.requires) or None,
    }


def _changes(version: Version, before: dict[str, Any] | None, after: dict[str, Any]) -> list[Change] | None:
    if before is None:
        return [] if version.version == 1 else None
    return list(islice(differences(before, after), MAX_CHANGES))

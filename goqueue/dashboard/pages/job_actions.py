"""The actions on one job: cancel, retry, edit, clone and delete it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import falcon

from goqueue.api.edits import EditAndRetry
from goqueue.api.frame.json_reader import read_json
from goqueue.api.frame.security import client_of
from goqueue.api.job_requests import JobRequests
from goqueue.config.labels import entries_of, labels_typed, version_of, without_version
from goqueue.dashboard.access.guard import FOLDER, form_of
from goqueue.dashboard.notices import go_to
from goqueue.dashboard.page import Page
from goqueue.dashboard.pages.job import read
from goqueue.dashboard.parts.json_tree import pretty
from goqueue.dashboard.parts.recreate import request_document
from goqueue.engine import job_rows as job_store
from goqueue.engine.edit_rows import REPLAYABLE, WAITING
from goqueue.engine.job_changes import delete_jobs
from goqueue.engine.options.request_models import validate
from goqueue.errors import IllegalTransitionError, InvalidJobError
from goqueue.jobs import FINAL_STATUSES, Job, JobStatus

__all__ = ["CancelAction", "CloneAction", "DeleteAction", "EditPage", "RetryAction"]

#: Who edits, as versions tell it: keys have no names.
AUTHOR = "dashboard"

#: What the form of the edit asks for.
FIELDS = ("payload", "priority", "available_at", "requires", "slots", "min_version")

#: As a browser writes a field of date and time.
MOMENT = "%Y-%m-%dT%H:%M:%S"


def place_of(job_id: int) -> str:
    """Return the address of the page of a job."""
    return f"{FOLDER}/jobs/{job_id}"


class _Action(Page):
    """An action of a job."""

    def _job(self, job_id: int) -> Job:
        with self._goqueue.database.autocommit() as connection:
            return job_store.get(connection, job_id)


class CancelAction(_Action):
    """The action that stops a job."""

    def on_post(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Cancel an unfinished job, or ask its worker to stop it."""
        job = self._goqueue.cancel(job_id)
        if job.status is JobStatus.CANCELLED:
            notice = f"Job {job_id} is cancelled."
        else:
            notice = f"The worker of job {job_id} was asked to stop it."
        go_to(request, response, place_of(job_id), notice)


class RetryAction(_Action):
    """The action that runs a job again as it is."""

    def on_post(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Queue a failed or cancelled job again."""
        self._goqueue.editor.retry(job_id)
        go_to(request, response, place_of(job_id), f"Job {job_id} is queued again.")


class CloneAction(_Action):
    """The action that creates another job like one."""

    def on_post(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Create a job like it, on the way that the REST API creates jobs."""
        goqueue = self._goqueue
        view = read(goqueue, job_id)
        document = request_document(goqueue, view.job, view.parents, view.now)
        (node,) = JobRequests(goqueue).one(document, client=client_of(request))
        created = goqueue.creator.create(node.job)
        new_id = created.job.id
        said = f"Job {new_id} was created like job {job_id}."
        if created.collected:
            said = f"Job {new_id} took the payload of job {job_id} beside its own."
        elif created.deduplicated:
            said = f"Nothing was created: job {new_id} has the unique key of job {job_id}."
        go_to(request, response, place_of(new_id), said)


class DeleteAction(_Action):
    """The action that deletes a finished job."""

    def on_post(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Delete a finished job with everything that is kept of it."""
        if delete_jobs(self._goqueue.database, [job_id]):
            go_to(request, response, f"{FOLDER}/jobs", f"Job {job_id} is deleted.")
            return
        job = self._job(job_id)
        if job.status not in FINAL_STATUSES:
            raise IllegalTransitionError(job_id, job.status, "deleted")
        said = f"Job {job_id} was not deleted: a job that waits for it may still ask what it returned."
        go_to(request, response, place_of(job_id), said)


class EditPage(_Action):
    """The page that edits a job that waits, or one that is to run again."""

    def on_get(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Show the form of the edit.

        Raises:
            falcon.HTTPForbidden: nothing is changed here.
            IllegalTransitionError: it is in no state in which it may be edited.
        """
        if self._goqueue.settings.dashboard_read_only:
            raise falcon.HTTPForbidden(description="this dashboard is read-only")
        job = self._editable(job_id)
        starts_later = job.available_at > datetime.now(UTC)
        form = {
            "payload": pretty(job.payload),
            "priority": str(job.priority),
            "available_at": f"{job.available_at.astimezone(UTC):{MOMENT}}" if starts_later else "",
            "requires": ", ".join(without_version(job.requires)),
            "slots": str(job.slots),
            "min_version": str(version_of(job.requires) or ""),
        }
        self._show(request, response, job, form, {})

    def on_post(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Edit the job; one that failed or was cancelled runs again. Problems stand beside their fields."""
        form, job = form_of(request), self._editable(job_id)
        try:
            wanted = self._changes(job, form)
            said = self._apply(job, wanted)
        except InvalidJobError as error:
            response.status = falcon.HTTP_400
            self._show(request, response, job, form, _by_field(error.fields))
            return
        go_to(request, response, place_of(job_id), said)

    def _editable(self, job_id: int) -> Job:
        job = self._job(job_id)
        if job.status not in {*WAITING, *REPLAYABLE}:
            raise IllegalTransitionError(job_id, job.status, "edited")
        return job

    def _apply(self, job: Job, wanted: dict[str, Any]) -> str:
        if job.status in REPLAYABLE:
            self._goqueue.editor.retry(job.id, **wanted, author=AUTHOR)
            return f"Job {job.id} is queued again" + (", with your changes." if wanted else ".")
        if not wanted:
            return "Nothing was changed."
        self._goqueue.editor.edit(job.id, **wanted, author=AUTHOR)
        return f"Job {job.id} is changed."

    def _changes(self, job: Job, form: dict[str, str]) -> dict[str, Any]:
        """What the form says that is not so already.

        Raises:
            InvalidJobError: a value is wrong.
        """
        document: dict[str, Any] = {}
        text = form.get("payload", "").encode(errors="replace")
        if len(text) > self._goqueue.settings.job_max_bytes:
            largest = self._goqueue.settings.job_max_bytes
            raise InvalidJobError({"payload": f"expected at most {largest:,} bytes"})
        document["payload"] = read_json(text)
        document["priority"] = _whole_number("priority", form.get("priority", ""))
        if form.get("available_at"):
            document["available_at"] = _moment("available_at", form["available_at"])
        if "requires" in form:
            document["requires"] = labels_typed(form["requires"])
        if form.get("slots"):
            document["slots"] = _whole_number("slots", form["slots"])
        if "min_version" in form:
            document["min_version"] = _whole_number("min_version", form["min_version"] or "0")
        wanted = validate(EditAndRetry, document)
        changes = {
            "payload": None if _is_same(wanted.payload, job.payload) else wanted.payload,
            "priority": None if wanted.priority == job.priority else wanted.priority,
            "available_at": None if _is_start_of(job, wanted.available_at) else wanted.available_at,
            "requires": None
            if entries_of(wanted.requires or {}) == without_version(job.requires)
            else wanted.requires,
            "slots": None if wanted.slots == job.slots else wanted.slots,
            "min_version": None if wanted.min_version == version_of(job.requires) else wanted.min_version,
        }
        return {name: value for name, value in changes.items() if value is not None}

    def _show(
        self,
        request: falcon.Request,
        response: falcon.Response,
        job: Job,
        form: dict[str, str],
        wrong: dict[str, list[str]],
    ) -> None:
        job_type = self._goqueue.types.job_type(job.type)
        self._renderer.page(
            request,
            response,
            "job_edit.html",
            job=job,
            form={name: form.get(name, "") for name in FIELDS},
            wrong={name: wrong.get(name, []) for name in FIELDS},
            schema=None if job_type is None else pretty(job_type.json_schema()),
            runs_again=job.status in REPLAYABLE,
        )


def _is_same(one: Any, other: Any) -> bool:
    # As texts: 1, 1.0 and true are equal in Python, and different in JSON.
    return pretty(one) == pretty(other)


def _is_start_of(job: Job, at: datetime | None) -> bool:
    """Whether a start is what the form was shown with: the job's own, to the second."""
    return at is not None and at == job.available_at.replace(microsecond=0)


def _whole_number(field: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidJobError({field: "expected a whole number"}) from None


def _moment(field: str, text: str) -> str:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).isoformat()
    except ValueError:
        raise InvalidJobError({field: "expected a date and a time"}) from None


def _by_field(fields: dict[str, str]) -> dict[str, list[str]]:
    """What is wrong, by the fields of the form. What names none of them is about the payload's text."""
    wrong: dict[str, list[str]] = {}
    for path, problem in fields.items():
        name = path.partition(".")[0]
        if name in FIELDS and name != "payload":
            within = path.removeprefix(name).removeprefix(".")
            wrong.setdefault(name, []).append(f"{within}: {problem}" if within else problem)
        else:
            inner = path.removeprefix("payload").removeprefix(".").removeprefix("body")
            wrong.setdefault("payload", []).append(f"{inner}: {problem}" if inner else problem)
    return wrong

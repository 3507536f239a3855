"""The files of a job: what it was given, returned and logged, each as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import falcon

from goqueue.api.reports import LOG_PAGE_MAX_LINES
from goqueue.dashboard.page import Page
from goqueue.dashboard.pages.job import read
from goqueue.dashboard.parts.json_tree import pretty
from goqueue.dashboard.parts.recreate import curl_of, python_of, request_document
from goqueue.engine import job_rows as job_store
from goqueue.engine import report_rows as reports

__all__ = ["JobFile"]

TEXT = "text/plain; charset=utf-8"


class JobFile(Page):
    """The files of a job, each by its name."""

    def on_get(self, request: falcon.Request, response: falcon.Response, job_id: int, name: str) -> None:
        """Answer with one file of a job.

        Raises:
            falcon.HTTPNotFound: a job has no such file.
        """
        files: dict[str, tuple[Callable[[falcon.Request, int], str], str]] = {
            "payload.json": (self._payload, falcon.MEDIA_JSON),
            "result.json": (self._result, falcon.MEDIA_JSON),
            "log.txt": (self._log, TEXT),
            "create.sh": (self._curl, TEXT),
            "create.py": (self._python, TEXT),
        }
        if name not in files:
            raise falcon.HTTPNotFound
        write, media_type = files[name]
        response.text = write(request, job_id)
        response.content_type = media_type
        response.set_header("Cache-Control", "no-store")
        response.set_header("Content-Disposition", f'inline; filename="job-{job_id}-{name}"')

    def _payload(self, _request: falcon.Request, job_id: int) -> str:
        with self._goqueue.database.autocommit() as connection:
            return pretty(job_store.get(connection, job_id).payload)

    def _result(self, _request: falcon.Request, job_id: int) -> str:
        with self._goqueue.database.autocommit() as connection:
            return pretty(job_store.get(connection, job_id).result)

    def _log(self, request: falcon.Request, job_id: int) -> str:
        fence = request.get_param_as_int("attempt", min_value=0, max_value=2**31 - 1)
        with self._goqueue.database.autocommit() as connection:
            job_store.get(connection, job_id)
            lines = reports.lines_of(connection, job_id, fence=fence, after=0, limit=LOG_PAGE_MAX_LINES)
        return "".join(f"{line.logged_at:%Y-%m-%dT%H:%M:%S.%fZ} {line.text}\n" for line in lines)

    def _curl(self, request: falcon.Request, job_id: int) -> str:
        return curl_of(self._goqueue, request, self._document(job_id)) + "\n"

    def _python(self, request: falcon.Request, job_id: int) -> str:
        return python_of(self._goqueue, request, self._document(job_id)) + "\n"

    def _document(self, job_id: int) -> dict[str, Any]:
        view = read(self._goqueue, job_id)
        return request_document(self._goqueue, view.job, view.parents, view.now)

"""Creating a job: a form made of the schema of its type, or the request itself as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import falcon

from goqueue.api.frame.json_reader import read_json
from goqueue.api.frame.security import client_of
from goqueue.api.job_requests import JobRequests
from goqueue.dashboard.access.guard import FOLDER, form_of
from goqueue.dashboard.forms.create import (
    SETTINGS,
    document_of,
    texts_of_document,
    wrong_beside,
)
from goqueue.dashboard.forms.fields import all_fields
from goqueue.dashboard.forms.payload import payload_of, texts_of
from goqueue.dashboard.forms.schema import form_of as form_of_schema
from goqueue.dashboard.notices import go_to
from goqueue.dashboard.page import Page
from goqueue.engine.creation_rows import CreatedNode
from goqueue.engine.options.job_type import JobType
from goqueue.errors import InvalidJobError, TypeNotFoundError

__all__ = ["CreatePage"]

PLACE = f"{FOLDER}/create"

#: What cannot be shown as a form is not thrown away: it stays JSON.
_NO_FORM = "this request says more than the form can: change it here"


class CreatePage(Page):
    """The page that creates a job: the type first, then its form."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the form of a type, as its defaults fill it in; without a type, the choice of one."""
        types = self._types()
        name = request.get_param("type") or (next(iter(types)) if len(types) == 1 else "")
        if not name:
            self._renderer.page(request, response, "create.html", types=types, job_type=None, mode="choose")
            return
        job_type = self._type(name)
        fields = form_of_schema(job_type.json_schema())
        self._show_form(request, response, job_type, texts_of(fields) | {"queue": job_type.queue}, {})

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Create the job and go to it; or show the page again, as a form or as JSON, with what is wrong."""
        typed = form_of(request)
        job_type = self._type(typed.get("type", ""))
        if "document" in typed:
            self._on_document(request, response, job_type, typed)
        else:
            self._on_form(request, response, job_type, typed)

    def _on_form(
        self,
        request: falcon.Request,
        response: falcon.Response,
        job_type: JobType,
        typed: Mapping[str, str],
    ) -> None:
        payload, wrong = payload_of(form_of_schema(job_type.json_schema()), typed)
        document = document_of(job_type.name, payload, typed)
        if typed.get("do") == "json":
            self._show_document(request, response, job_type, _written(document), {})
            return
        try:
            # Everything that is wrong at once: also what the form itself could not read.
            self._create(request, response, document, refuse=wrong)
        except InvalidJobError as error:
            self._show_form(request, response, job_type, typed, error.fields | wrong)

    def _on_document(
        self,
        request: falcon.Request,
        response: falcon.Response,
        job_type: JobType,
        typed: Mapping[str, str],
    ) -> None:
        text = typed["document"]
        try:
            document = read_json(text.encode("utf-8", "surrogatepass"))
            if typed.get("do") == "form":
                self._show_as_form(request, response, document)
                return
            self._create(request, response, document, refuse={})
        except InvalidJobError as error:
            self._show_document(request, response, job_type, text, error.fields)

    def _create(
        self,
        request: falcon.Request,
        response: falcon.Response,
        document: Any,
        *,
        refuse: Mapping[str, str],
    ) -> None:
        """What POST /jobs/create does with the request.

        Raises:
            InvalidJobError: something is wrong with it; or, where nothing is, what is to be refused.
        """
        if isinstance(document, dict) and "queue" not in document:
            job_type = self._goqueue.types.job_type(str(document.get("type")))
            document = document | ({"queue": job_type.queue} if job_type else {})
        nodes = JobRequests(self._goqueue).one(document, client=client_of(request))
        if refuse:
            raise InvalidJobError(dict(refuse))
        if len(nodes) > 1:
            first = self._goqueue.creator.create_many(nodes)[0]
        else:
            first = self._goqueue.creator.create(nodes[0].job).node
        go_to(request, response, f"{FOLDER}/jobs/{first.id}", _said(first))

    def _show_form(
        self,
        request: falcon.Request,
        response: falcon.Response,
        job_type: JobType,
        texts: Mapping[str, str],
        wrong: Mapping[str, str],
    ) -> None:
        fields = form_of_schema(job_type.json_schema())
        keys = [*(field.key for field in all_fields(fields)), *(setting.key for setting in SETTINGS)]
        self._show(
            request,
            response,
            wrong_beside(keys, wrong),
            job_type=job_type,
            mode="form",
            fields=fields,
            settings=SETTINGS,
            queues=sorted(self._goqueue.queues.declared()),
            texts=texts,
        )

    def _show_as_form(self, request: falcon.Request, response: falcon.Response, document: Any) -> None:
        """A request as a form.

        Raises:
            InvalidJobError: a form cannot say all of it.
        """
        settings = texts_of_document(document) if isinstance(document, dict) else None
        job_type = self._goqueue.types.job_type(str(document.get("type"))) if settings is not None else None
        if settings is None or job_type is None:
            raise InvalidJobError({"body": _NO_FORM})
        fields = form_of_schema(job_type.json_schema())
        payload = document.get("payload", {})
        texts = texts_of(fields, payload)
        if payload_of(fields, texts) != (payload, {}):
            raise InvalidJobError({"payload": _NO_FORM})
        self._show_form(request, response, job_type, texts | settings, {})

    def _show_document(
        self,
        request: falcon.Request,
        response: falcon.Response,
        job_type: JobType,
        text: str,
        wrong: Mapping[str, str],
    ) -> None:
        self._show(request, response, wrong, job_type=job_type, mode="json", document=text)

    def _show(
        self, request: falcon.Request, response: falcon.Response, wrong: Mapping[str, str], **values: Any
    ) -> None:
        if wrong:
            response.status = falcon.HTTP_400
        self._renderer.page(request, response, "create.html", types=self._types(), wrong=wrong, **values)

    def _types(self) -> dict[str, JobType]:
        return dict(sorted(self._goqueue.types.all_types().items()))

    def _type(self, name: str) -> JobType:
        job_type = self._goqueue.types.job_type(name)
        if job_type is None:
            raise TypeNotFoundError(name)
        return job_type


def _said(created: CreatedNode) -> str:
    """What became of a create."""
    if created.collected:
        return f"Job {created.id} has this unique key, and took the payload beside its own."
    if created.deduplicated:
        return f"Job {created.id} has this unique key: no other was created."
    return "Created."


def _written(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2)

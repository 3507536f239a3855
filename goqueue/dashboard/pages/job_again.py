"""A job as the request, the command and the program that create it again."""

from __future__ import annotations

import inspect
from typing import Any

import falcon

from goqueue.api.context import Context
from goqueue.dashboard.pages.job_reading import JobView
from goqueue.dashboard.parts.recreate import Handler, as_curl, as_python, request_of
from goqueue.worker.execution import JobFunction

__all__ = ["curl_of", "python_of", "request_document"]


def request_document(context: Context, view: JobView) -> dict[str, Any]:
    """The body of a request that creates a job like this one."""
    job_type = context.broker.job_type(view.job.type)
    unique_by_type = job_type is not None and job_type.unique is not None
    return request_of(view.job, view.parents, now=view.now, unique_by_type=unique_by_type)


def curl_of(context: Context, request: falcon.Request, view: JobView) -> str:
    """The shell command that creates it again at the address that this request came to."""
    document = request_document(context, view)
    return as_curl(document, _url(request), needs_key=bool(context.settings.api_keys))


def python_of(context: Context, request: falcon.Request, view: JobView) -> str:
    """The Python that creates it again."""
    document = request_document(context, view)
    handler = _handler(context, view.job.type)
    return as_python(document, handler, _url(request), needs_key=bool(context.settings.api_keys))


def _url(request: falcon.Request) -> str:
    return f"{request.forwarded_prefix}/jobs/create"


def _handler(context: Context, type_name: str) -> Handler | None:
    """Where the actor of a type is; None where it is not declared here, or called by its arguments."""
    job_type = context.broker.job_type(type_name)
    if job_type is None or job_type.style == "call":
        return None
    called = context.broker.get_actor(type_name).fn
    function = inspect.unwrap(called.function if isinstance(called, JobFunction) else called)
    return Handler(function.__module__, function.__qualname__)

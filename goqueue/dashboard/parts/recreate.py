"""Creating a job like another one: the request, and the same as curl and as Python."""

from __future__ import annotations

import inspect
import pprint
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import falcon
import orjson

from goqueue.config.labels import by_name, version_of
from goqueue.dashboard.parts.json_tree import printable
from goqueue.engine.dependency_rows import Link
from goqueue.engine.options.uniqueness import without_client
from goqueue.instance import GoQueue
from goqueue.jobs import Job, OnParentFailure
from goqueue.worker.execution import JobFunction

__all__ = ["Handler", "as_curl", "as_python", "curl_of", "python_of", "request_document", "request_of"]

#: The longest argument that Linux hands to a program is 128 KiB; a longer body goes through a pipe.
ARGUMENT_MAX_BYTES = 100_000

#: Longer payloads are written in one line: making them neat takes long.
NEAT_MAX_CHARACTERS = 20_000

WIDTH = 100


@dataclass(frozen=True, slots=True)
class Handler:
    """The place at which Python code finds the actor of a job type."""

    module: str
    name: str

    @property
    def is_importable(self) -> bool:
        """Tell whether it is a name of a module, and not of something inside of a function."""
        return all(part.isidentifier() for part in (*self.module.split("."), self.name))


def request_document(goqueue: GoQueue, job: Job, parents: Sequence[Link], now: datetime) -> dict[str, Any]:
    """Build the body of a request that creates a job like this one."""
    job_type = goqueue.types.job_type(job.type)
    unique_by_type = job_type is not None and job_type.unique is not None
    return request_of(job, parents, now=now, unique_by_type=unique_by_type)


def curl_of(goqueue: GoQueue, request: falcon.Request, document: dict[str, Any]) -> str:
    """Write the shell command that creates a job again, at the address that this request came to."""
    return as_curl(document, _url(request), needs_key=goqueue.settings.needs_api_key)


def python_of(goqueue: GoQueue, request: falcon.Request, document: dict[str, Any]) -> str:
    """Write the Python that creates a job again."""
    handler = _handler(goqueue, document["type"])
    return as_python(document, handler, _url(request), needs_key=goqueue.settings.needs_api_key)


def request_of(job: Job, parents: Sequence[Link], *, now: datetime, unique_by_type: bool) -> dict[str, Any]:
    """Build the body of a `POST /jobs/create` that creates a job like this one.

    Times that were given are kept as they were meant: a start that is still to come, and how long after the
    creation the job could start and run. What is the default is left out.

    Args:
        job: as it is now.
        parents: what it was created to wait for.
        now: the present.
        unique_by_type: its type makes the unique keys of its jobs by itself.
    """
    request: dict[str, Any] = {"queue": job.queue, "type": job.type, "payload": job.payload}
    request["max_retries"] = job.max_retries
    optional = {
        "priority": job.priority or None,
        "tags": list(job.tags) or None,
        "available_at": _time(job.available_at) if job.fence == 0 and job.available_at > now else None,
        "time_limit_seconds": job.time_limit_seconds,
        "ttl_seconds": _seconds_after(job.created_at, job.expires_at),
        "deadline_seconds": _seconds_after(job.created_at, job.deadline_at),
        "concurrency_key": job.concurrency_key,
        "rate_cost": job.rate_cost if job.rate_cost != 1 else None,
        "limit_cost": job.limit_cost if job.limit_cost != 1 else None,
        "requires": by_name(job.requires) or None,
        "slots": job.slots if job.slots != 1 else None,
        "min_version": version_of(job.requires) or None,
        "unique": {"key": without_client(job.unique_key)}
        if job.unique_key is not None and not unique_by_type
        else None,
        "depends_on": [link.id for link in parents if link.status is not None] or None,
        "on_parent_failure": _policy(parents),
    }
    return request | {name: value for name, value in optional.items() if value is not None}


def as_curl(request: dict[str, Any], url: str, *, needs_key: bool) -> str:
    """Write a shell command that sends a request."""
    body = printable(orjson.dumps(request).decode())
    # A header that the shell fills in: in double quotes, and a constant.
    key = ' -H "Authorization: Bearer $GOQUEUE_API_KEY"' if needs_key else ""
    options = f"-H 'Content-Type: application/json'{key}"
    if len(body.encode()) <= ARGUMENT_MAX_BYTES:
        return f"curl {shlex.quote(url)} {options} \\\n  -d {shlex.quote(body)}"
    return f"printf %s {shlex.quote(body)} |\n  curl {shlex.quote(url)} {options} --data-binary @-"


def as_python(request: dict[str, Any], handler: Handler | None, url: str, *, needs_key: bool) -> str:
    """Write Python that creates the job: by its actor, or, where that cannot be imported, over REST."""
    if handler is None or not handler.is_importable:
        return _python_of_rest(request, url, needs_key=needs_key)
    said = {name: value for name, value in request.items() if name not in {"type", "payload"}}
    imports = ["from datetime import datetime", ""] if "available_at" in said else []
    imports += ["import goqueue", f"from {handler.module} import {handler.name}"]
    settings = [f"{name}={_setting(name, value)}" for name, value in said.items()]
    return _call(
        "\n".join(imports), "goqueue.enqueue", [handler.name, _python(request["payload"]), *settings]
    )


def _python_of_rest(request: dict[str, Any], url: str, *, needs_key: bool) -> str:
    arguments = [repr(url), f"json={_python(request)}"]
    if needs_key:
        arguments.append("headers={'Authorization': 'Bearer ' + os.environ['GOQUEUE_API_KEY']}")
    imports = "import os\n\nimport httpx" if needs_key else "import httpx"
    return _call(imports, "httpx.post", arguments) + ".raise_for_status()"


def _call(imports: str, function: str, arguments: Sequence[str]) -> str:
    # No literal has a line break of its own, so that lines can be moved.
    moved = [argument.replace("\n", "\n    ") for argument in arguments]
    return f"{imports}\n\n{function}(\n" + "".join(f"    {argument},\n" for argument in moved) + ")"


def _setting(name: str, value: Any) -> str:
    if name == "available_at":
        return f"datetime.fromisoformat({value!r})"
    if name == "unique":
        return f"goqueue.Unique(key={value['key']!r})"
    return _python(value)


def _python(value: Any) -> str:
    text = repr(value)
    if len(text) > NEAT_MAX_CHARACTERS or len(text) <= WIDTH:
        return text
    return pprint.pformat(value, width=WIDTH, sort_dicts=False)


def _time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _seconds_after(start: datetime, end: datetime | None) -> float | None:
    return None if end is None or end <= start else (end - start).total_seconds()


def _policy(parents: Sequence[Link]) -> str | None:
    policies = {link.on_parent_failure for link in parents}
    return next((policy.value for policy in policies if policy is not OnParentFailure.FAIL), None)


def _url(request: falcon.Request) -> str:
    return f"{request.forwarded_prefix}/jobs/create"


def _handler(goqueue: GoQueue, type_name: str) -> Handler | None:
    """Where the actor of a type is; None where it is not declared in Python, or called by its arguments."""
    job_type = goqueue.types.job_type(type_name)
    if job_type is None or job_type.style == "call" or job_type.is_remote:
        return None
    called = goqueue.broker.get_actor(type_name).fn
    function = inspect.unwrap(called.function if isinstance(called, JobFunction) else called)
    return Handler(function.__module__, function.__qualname__)

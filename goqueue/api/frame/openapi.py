"""GET /openapi.json: the description of the API (OpenAPI 3.1), made of the models and the operations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import falcon
from pydantic.json_schema import models_json_schema

from goqueue.api.frame.answers import as_json
from goqueue.api.frame.json_reader import MAX_DEPTH, MAX_VALUES
from goqueue.api.frame.problems import ProblemDocument
from goqueue.api.frame.resource import Resource
from goqueue.api.operations import OPERATIONS, Model, Operation
from goqueue.engine.options.uniqueness import KEY_MAX_CHARACTERS
from goqueue.instance import GoQueue

JSON = "application/json"
#: What a schema cannot say.
DESCRIPTION = (
    "Bodies are strict JSON in UTF-8: each name of an object once, no NaN and no Infinity, no NUL character "
    f"and no lone surrogate in texts and names, at most {MAX_DEPTH} levels, at most {MAX_VALUES:,} values "
    "and names together. Every integer, also inside of a payload, fits into 64 bits. Where an integer is "
    "expected it is written without a fraction and an exponent: 1.0 is refused. A date-time has a zone "
    "(RFC 3339) and exists. The format `cron` is a line of five fields, or a name such as @daily, that fires "
    "on some day; the format `iana-time-zone` is the name of a zone, such as Europe/Berlin. Every GET also "
    "answers HEAD. Any request may be answered with 429, Retry-After and the RateLimit headers."
)
_PREFIX = "#/components/schemas/"
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A repeat with the same key and body is answered as the first one was.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_TRACEPARENT = {
    "name": "traceparent",
    "in": "header",
    "description": "The trace that the jobs belong to (W3C Trace GoQueue); ignored where it is not valid.",
    "schema": {"type": "string"},
}


_LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The id of the last event that came: the stream goes on behind it. Browsers send it.",
    "schema": {"type": "string"},
}


class OpenApiResource(Resource):
    """The description of the API."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """The document, with the payloads of the declared types among its schemas."""
        response.data = as_json(document(self._goqueue, request.root_path))


def document(goqueue: GoQueue, root_path: str = "") -> dict[str, Any]:
    """The OpenAPI document of these declared types.

    Args:
        goqueue: with the types.
        root_path: where the paths begin: the prefix of a namespace.
    """
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "GoQueue", "version": version("goqueue"), "description": DESCRIPTION},
        "servers": _servers(goqueue, root_path),
        "paths": paths,
        "components": {
            "schemas": request_schemas() | _payload_schemas(goqueue),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}, {}],
    }


def _servers(goqueue: GoQueue, root_path: str) -> list[dict[str, Any]]:
    """Where the paths begin. Which namespaces there are is not told to whoever reads this without a key."""
    if root_path:
        return [{"url": root_path}]
    servers: list[dict[str, Any]] = [{"url": "/"}]
    if goqueue.settings.namespaces_file is not None:
        described = "The namespace of the request: an installation with a database of its own."
        variable = {"default": goqueue.settings.namespace, "description": described}
        servers.append({"url": "/ns/{namespace}", "variables": {"namespace": variable}})
    return servers


def _operation(method: str, path: str, operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": "_".join([method.lower(), *re.findall(r"\w+", path)]),
        "summary": operation.summary,
        "parameters": _parameters(path, operation),
        "responses": _responses(operation),
        "security": [{"bearer": [str(operation.scope)]}, {}] if operation.scope else [{"bearer": []}, {}],
    }
    if operation.body:
        described["requestBody"] = {
            "required": operation.body_required,
            "content": {JSON: {"schema": _reference(operation.body)}},
        }
    return described


_INTEGER: dict[str, Any] = {"type": "integer", "format": "int64", "minimum": 1}

#: The parameters of paths, by their names in the templates of routes.
_PATH_PARAMETERS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("job_id", "operation_id", "worker_id", "delivery_id"), _INTEGER),
    "key_id": {"type": "string", "pattern": "^[a-z0-9]{12}$"},
    "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
    "token": {"type": "string"},
    "name": {"type": "string"},
    "key": {"type": "string", "minLength": 1, "maxLength": KEY_MAX_CHARACTERS},
}


def _parameters(path: str, operation: Operation) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in _PATH_PARAMETERS.items()
        if f"{{{name}}}" in path
    ]
    if operation.stream:
        parameters.append(_LAST_EVENT_ID)
    if operation.idempotent:
        parameters += [_IDEMPOTENCY_KEY, _TRACEPARENT]
    if operation.query:
        properties = operation.query.model_json_schema(ref_template=_PREFIX + "{model}")["properties"]
        parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]
    return parameters


def _responses(operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {str(operation.status): _success(operation)}
    for status, model in operation.other_answers.items():
        content = {JSON: {"schema": _reference(model)}}
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": content}
    problem = {"application/problem+json": {"schema": _reference(ProblemDocument)}}
    for status in sorted({*operation.refusals, 401, 403, 429, 500, 503}):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": problem}
    return responses


def _success(operation: Operation) -> dict[str, Any]:
    success: dict[str, Any] = {"description": HTTPStatus(operation.status).phrase}
    if operation.answer:
        schema = _reference(operation.answer)
        success["content"] = {
            JSON: {"schema": {"type": "array", "items": schema} if operation.many else schema}
        }
    elif operation.stream:
        success["content"] = {"text/event-stream": {"schema": _reference(operation.stream)}}
    elif operation.text:
        success["content"] = {"text/plain": {"schema": {"type": "string"}}}
    elif operation.status == HTTPStatus.OK:
        success["content"] = {JSON: {"schema": {"type": "object"}}}
    return success


def _reference(model: Model) -> dict[str, str]:
    return {"$ref": _PREFIX + model.__name__}


def request_schemas() -> dict[str, Any]:
    """The schemas of all requests and answers, by their names."""
    requests = _models(operation.body or operation.query for operation in OPERATIONS.values())
    answers = _models(
        model
        for operation in OPERATIONS.values()
        for model in (operation.answer, operation.stream, *operation.other_answers.values())
    )
    answers.append((ProblemDocument, "serialization"))
    _, definitions = models_json_schema([*requests, *answers], ref_template=_PREFIX + "{model}")
    return dict(definitions["$defs"])


def _models(models: Iterable[Model | None]) -> list[Any]:
    return [(model, "validation") for model in dict.fromkeys(models) if model]


def _payload_schemas(goqueue: GoQueue) -> dict[str, Any]:
    schemas_of_payloads: dict[str, Any] = {}
    for job_type in goqueue.broker.job_types.values():
        schemas_of_payloads |= job_type.components()
    return schemas_of_payloads

"""Leaving out of answers what jobs hold, for keys that may not read it.

The models of answers mark it (`CONTENTS`), and this is the one place that leaves it out: no resource has to
think of it. It costs such a key's answers a second reading; those of other keys cost nothing more.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import falcon
import orjson
from pydantic import BaseModel

from goqueue.api.frame.answers import CONTENTS, as_json
from goqueue.api.frame.security import principal_of
from goqueue.api.operations import Operation, operation_of

__all__ = ["WITHHELD_HEADER", "Withholding", "marks_of", "without_contents"]

#: Of an answer in which something may have been left out: the scope that it takes.
WITHHELD_HEADER = "Contents-Withheld"

#: The members of a model that hold contents, or lead to models that do; None: the member itself is left out.
Marks = Mapping[str, "Marks | None"]


class Withholding:
    """Falcon middleware that leaves contents out of answers; it stands before whatever packs these."""

    def process_response(
        self, request: falcon.Request, response: falcon.Response, _resource: object, succeeded: bool
    ) -> None:
        """Leave out what the key of the request may not read."""
        if not succeeded or response.data is None or principal_of(request).reads_contents:
            return
        operation = operation_of(request.method, request.uri_template)
        marks = None if operation is None else _marks_of_answer(operation, response.status_code)
        if marks:
            response.data = as_json(without_contents(orjson.loads(response.data), marks))
            response.set_header(WITHHELD_HEADER, "payloads:read")


def without_contents(document: Any, marks: Marks) -> Any:
    """Return a document, or a list of them, with null for each member that holds contents."""
    if isinstance(document, list):
        return [without_contents(item, marks) for item in document]
    if not isinstance(document, dict):
        return document
    return {name: _member(value, marks[name]) if name in marks else value for name, value in document.items()}


def _member(value: Any, marks: Marks | None) -> Any:
    return None if marks is None else without_contents(value, marks)


@functools.cache
def marks_of(model: type[BaseModel]) -> Marks:
    """Return which members of a model hold contents, also of the models inside of it."""
    marks: dict[str, Marks | None] = {}
    for name, field in model.model_fields.items():
        if CONTENTS in field.metadata:
            marks[name] = None
            continue
        inner = {
            key: value for found in _models_in(field.annotation) for key, value in marks_of(found).items()
        }
        if inner:
            marks[name] = inner
    return marks


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _marks_of_answer(operation: Operation, status: int) -> Marks | None:
    model = operation.answer if status == operation.status else operation.other_answers.get(status)
    return None if model is None else marks_of(model)

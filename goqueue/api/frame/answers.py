"""Answers: models for the description of the API, and the same as plain dictionaries for the wire.

A model would validate again what the database just said. So a row is an answer itself where it has the
members of its model, and its members are read off it by `reader_of` where some have another name; orjson
writes both. Tests hold what is answered against the models.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict

Seconds = float


class Contents:
    """The mark of a member that holds what a job holds: see `goqueue/api/frame/withholding.py`."""


#: In the annotation of such a member. It is null for a key without `payloads:read`, so null has to fit.
CONTENTS = Contents()

#: Of such members, for the description of the API.
WITHHELD = "Null: the key may not read it (payloads:read)."


class Document(BaseModel):
    """The base of the documents that the API answers with."""

    model_config = ConfigDict(extra="forbid")


def as_json(document: Any) -> bytes:
    """The bytes of an answer; times are UTC and end in Z."""
    return orjson.dumps(document, option=orjson.OPT_UTC_Z)


def reader_of(model: type[Document], **elsewhere: str) -> Callable[[Any], dict[str, Any]]:
    """Make what reads the members of a model off an object, in their order.

    Args:
        model: whose members.
        **elsewhere: member → the path of the attribute that it is, where it has another name.
    """
    names = tuple(model.model_fields)
    values_of = attrgetter(*(elsewhere.get(name, name) for name in names))
    return lambda source: dict(zip(names, values_of(source), strict=True))

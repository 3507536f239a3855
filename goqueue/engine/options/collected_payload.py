"""Payloads of jobs that collect: a create brings one, and the handler gets the list of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from goqueue.engine.options.job_type import JobType
from goqueue.engine.options.uniqueness import Unique
from goqueue.errors import InvalidJobError
from goqueue.jobs import UniqueRule

__all__ = ["collected"]


def collected(
    job_type: JobType, type_name: str, payload: Any, unique: Unique, settings: Mapping[str, Any]
) -> tuple[str, UniqueRule]:
    """Return the text that is stored of a create of the mode `collect`, and its rule.

    The payload is one that the handler's list may have, or the list of several as the handler's parameter:
    `{"to": …}` or `{"mails": [{"to": …}]}`.

    Raises:
        InvalidJobError: the handler takes no list, a payload does not fit, or there are too many; or the
            settings say when the job starts, which is when it has collected.
    """
    field = job_type.list_field
    if field is None:
        raise InvalidJobError(
            {"unique.mode": f"collect: the handler of {type_name!r} takes no single list of payloads"}
        )
    for name in ("available_at", "delay_seconds"):
        if settings.get(name):
            raise InvalidJobError({name: "expected none: collect_seconds says when the job starts"})
    text = _text_of(job_type, field, payload)
    payloads = orjson.loads(text)[field]
    rule = unique.rule_of_collected(type_name, field, payloads, job_type.fingerprint)
    assert rule.collect is not None
    if len(payloads) > rule.collect.max_payloads:
        raise InvalidJobError({f"payload.{field}": f"expected at most {rule.collect.max_payloads} payloads"})
    return text, rule


def _text_of(job_type: JobType, field: str, payload: Any) -> str:
    """The text of the list, validated; what is wrong with a single payload is told as its own fields."""
    if _is_whole(field, payload):
        if not payload[field]:
            raise InvalidJobError({f"payload.{field}": "expected at least one payload"})
        return job_type.validated(payload)
    try:
        return job_type.validated({field: [payload]})
    except InvalidJobError as error:
        prefix = f"payload.{field}.0"
        raise InvalidJobError(
            {
                f"payload{name.removeprefix(prefix)}" if name.startswith(prefix) else name: wrong
                for name, wrong in error.fields.items()
            }
        ) from None


def _is_whole(field: str, payload: Any) -> bool:
    return isinstance(payload, Mapping) and payload.keys() == {field} and isinstance(payload[field], list)

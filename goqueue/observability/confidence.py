"""Log lines of jobs whose contents are encrypted at rest, or have fields that are redacted."""

from __future__ import annotations

import functools
from typing import Any

import orjson
from structlog.types import EventDict

from goqueue.contents.redaction import all_values, scrubbed
from goqueue.observability.job_context import job_context

__all__ = ["ENCRYPTED", "withhold_contents"]

#: What stands for a text that is kept with its job, encrypted.
ENCRYPTED = "[encrypted]"

#: What GoQueue itself says in each line, whatever a payload has.
_OWN = frozenset({"event", "level", "logger", "timestamp", "job_id", "job_ids", "type", "queue", "attempt"})

#: Payloads whose values are remembered: an attempt writes many lines, or none.
_REMEMBERED = 32


def withhold_contents(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Leave out of a record what nobody may read there of the job that the calling context works on.

    A structlog processor, behind the one that makes texts of tracebacks. Of an encrypted job that is the text
    of its error and whatever quotes a value of its payload; of others, the values of redacted fields.
    """
    job = job_context.get()
    if job is None or not (job.hidden or job.encrypted_payloads):
        return event
    hidden = list(job.hidden)
    if job.encrypted_payloads:
        if isinstance(event.get("error"), str):
            event["error"] = f"{event['error'].partition(':')[0]}: {ENCRYPTED}"
        if "exception" in event:
            event["exception"] = ENCRYPTED
        for payload in job.encrypted_payloads:
            hidden += _values_of(payload)
    hidden.sort(key=len, reverse=True)
    return {
        name: value if name in _OWN - {"event"} else _without(value, hidden) for name, value in event.items()
    }


def _without(value: Any, hidden: list[str]) -> Any:
    if isinstance(value, str):
        return scrubbed(value, hidden)
    if isinstance(value, int | float | None):
        return value if str(value) not in hidden else scrubbed(str(value), hidden)
    text = repr(value)
    return value if scrubbed(text, hidden) == text else scrubbed(text, hidden)


@functools.lru_cache(maxsize=_REMEMBERED)
def _values_of(payload: str) -> tuple[str, ...]:
    try:
        return all_values(orjson.loads(payload))
    except ValueError:
        return ()

"""Contents of new jobs: as they are written into their rows, and as they are shown to who creates them."""

from __future__ import annotations

from typing import Any

import orjson

from goqueue.contents.contents import JobContents, of_options, of_payload
from goqueue.contents.payload_keys import key_id_of
from goqueue.db.statements import ENCRYPTED_OPTIONS, TRACEPARENT
from goqueue.jobs import NewJob

__all__ = ["encrypted_members", "shown_payload"]


def encrypted_members(contents: JobContents, job: NewJob) -> dict[str, Any]:
    """Return the members of an encrypted job's record: its payload, and its options, which hold follow-ups.

    Raises:
        UndecryptableError: there are no keys in this process.
    """
    payload = contents.closed(job.payload, of_payload(job.type))
    closed = {"payload": orjson.Fragment(payload), "payload_key": key_id_of(payload)}
    if job.options is None:
        return closed
    options = contents.closed(job.options, of_options(job.type))
    trace = {} if job.traceparent is None else {TRACEPARENT: job.traceparent}
    return closed | {"options": {ENCRYPTED_OPTIONS: options} | trace}


def shown_payload(contents: JobContents, job: NewJob) -> tuple[Any, str | None]:
    """Return the payload of a job that was just inserted as it is shown, and the id of the key of its row."""
    payload = orjson.loads(job.payload)
    if contents.redacted:
        payload = contents.shown_value(payload, of_payload(job.type), job.type)
    is_encrypted = job.encrypted and contents.keys is not None
    return payload, contents.keys.encrypting_id if is_encrypted and contents.keys is not None else None

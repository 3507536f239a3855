"""Contents of jobs on their way between the rows and those who may see them: `JobContents` of a process.

Rows are opened where they are read, and closed where they are written (`*_rows.py`), so that nobody above
them has to think of it. Each envelope is bound to what it is: a payload to the type of its job, whatever else
a job holds to its column and the id of the job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from goqueue.config.bounds import read_stored_json
from goqueue.contents.payload_keys import (
    ENVELOPE,
    PayloadKeys,
    is_encrypted,
    keys_of,
    read_envelope,
    unknown_key,
)
from goqueue.contents.redaction import redacted
from goqueue.errors import UndecryptableError

if TYPE_CHECKING:
    from goqueue.config.settings import Settings

__all__ = ["JobContents", "of_job", "of_payload", "of_schedule"]

#: Where a text stands that cannot be decrypted.
UNREADABLE = "[encrypted: {reason}]"


def of_payload(type_name: str) -> str:
    """Name the purpose of the payload of a job of a type: the id of a new job is not known yet."""
    return f"goqueue payload {type_name}"


def of_options(type_name: str) -> str:
    """Name the purpose of the follow-ups that a job of a type was created with."""
    return f"goqueue options {type_name}"


def of_job(column: str, job_id: int) -> str:
    """Name the purpose of something else that a job holds."""
    return f"goqueue {column} {job_id}"


def of_schedule(name: str) -> str:
    """Name the purpose of the payload of a schedule."""
    return f"goqueue schedule {name}"


class JobContents:
    """Encrypts and decrypts what jobs hold, and leaves out of it what nobody may see.

    Args:
        keys: None: nothing is encrypted here, and nothing that is can be read.

    Attributes:
        redacted: type → the names of the fields that nobody but its handler sees, in lower case.
    """

    def __init__(self, keys: PayloadKeys | None = None) -> None:
        self.keys = keys
        self.redacted: dict[str, frozenset[str]] = {}

    @classmethod
    def of_settings(cls, settings: Settings) -> JobContents:
        """The contents of a process with these settings."""
        secret = settings.payload_keys
        return cls(None if secret is None else keys_of(secret.get_secret_value()))

    def closed(self, text: str, purpose: str) -> str:
        """Return the envelope of a text.

        Raises:
            UndecryptableError: there are no keys here.
        """
        if self.keys is None:
            raise UndecryptableError("GOQUEUE_PAYLOAD_KEYS is not set in this process")
        return self.keys.encrypt(text, purpose)

    def opened(self, text: str, purpose: str) -> str:
        """Return the text of an envelope; what is none, as it is.

        Raises:
            UndecryptableError: it cannot be decrypted here.
        """
        if not is_encrypted(text):
            return text
        return self._open(read_envelope(text), purpose)

    def opened_value(self, value: Any, purpose: str) -> Any:
        """Return the JSON value of an envelope that was read as JSON; what is none, as it is.

        Raises:
            UndecryptableError: it cannot be decrypted here.
        """
        if type(value) is not dict or ENVELOPE not in value:
            return value
        return orjson.loads(self._open(value, purpose))

    def shown(self, text: str | None, purpose: str) -> str | None:
        """Return a text as it is shown; where it cannot be decrypted, why."""
        if text is None or not is_encrypted(text):
            return text
        try:
            return self._open(read_envelope(text), purpose)
        except UndecryptableError as error:
            return UNREADABLE.format(reason=error)

    def shown_value(self, value: Any, purpose: str, type_name: str | None = None) -> Any:
        """Return a JSON value as it is shown, without redacted fields; None where it cannot be decrypted."""
        if type(value) is dict and ENVELOPE in value:
            try:
                value = self.opened_value(value, purpose)
            except UndecryptableError:
                return None
        names = self.redacted.get(type_name) if self.redacted and type_name is not None else None
        return redacted(value, names) if names else value

    def shown_document(self, text: str, type_name: str) -> Any:
        """Return the payload of a stored text as it is shown; None where the text is still encrypted."""
        if is_encrypted(text):
            return None
        return self.shown_value(read_stored_json(text), "", type_name)

    def shown_begin(self, text: str | None, purpose: str, type_name: str, characters: int) -> str | None:
        """Return the begin of a JSON text as it is shown."""
        if text is None:
            return None
        names = self.redacted.get(type_name) if self.redacted else None
        if is_encrypted(text):
            text = self.shown(text, purpose)
            assert text is not None
        if names and text.startswith(("{", "[")):
            text = orjson.dumps(redacted(orjson.loads(text), names)).decode()
        return text[:characters]

    def open_job(self, values: list[Any], places: Sequence[int]) -> tuple[str | None, tuple[str, ...]]:
        """Open what the row of a job holds, in place; the id of its key, and what could not be opened.

        Args:
            values: the row.
            places: of its id, its type, its payload, its result and its error.
        """
        identity, kind, payload, result, error = places
        if not self.redacted and not any(_is_closed(values[place]) for place in (payload, result, error)):
            return None, ()
        key_id = values[payload].get(ENVELOPE) if type(values[payload]) is dict else None
        job_id, type_name = values[identity], values[kind]
        members = {"payload": (payload, of_payload(type_name)), "result": (result, of_job("result", job_id))}
        failed = []
        for name, (place, purpose) in members.items():
            was = values[place]
            values[place] = self.shown_value(was, purpose, type_name)
            if values[place] is None and _is_envelope(was) and not self._opens(was, purpose):
                failed.append(name)
        if values[payload] is None:
            values[payload] = {}
        return key_id, (*failed, *self._open_error(values, error, of_job("error", job_id)))

    def _open_error(self, values: list[Any], place: int, purpose: str) -> tuple[str, ...]:
        text = values[place]
        if text is None or not is_encrypted(text):
            return ()
        values[place] = self.shown(text, purpose)
        return () if self._opens(read_envelope(text), purpose) else ("error",)

    def _opens(self, envelope: Mapping[str, Any], purpose: str) -> bool:
        try:
            self._open(envelope, purpose)
        except UndecryptableError:
            return False
        return True

    def _open(self, envelope: Mapping[str, Any], purpose: str) -> str:
        if self.keys is None:
            raise UndecryptableError(unknown_key(envelope.get(ENVELOPE)))
        return self.keys.decrypt(envelope, purpose)


def _is_closed(value: Any) -> bool:
    return _is_envelope(value) or (type(value) is str and is_encrypted(value))


def _is_envelope(value: Any) -> bool:
    return type(value) is dict and ENVELOPE in value

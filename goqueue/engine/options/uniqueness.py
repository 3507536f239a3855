"""The uniqueness of a new job: its options, and the key that they come to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from goqueue.config.bounds import is_number
from goqueue.errors import InvalidJobError
from goqueue.jobs import MAX_DELAY_SECONDS, CollectRule, JobStatus, UniqueMode, UniqueRule

__all__ = [
    "COLLECT_MAX",
    "COLLECT_MAX_BYTES",
    "KEY_MAX_CHARACTERS",
    "MAX_FIELDS",
    "Unique",
    "of_client",
    "without_client",
]

#: Keys are shown in lists and paths.
KEY_MAX_CHARACTERS = 200
MAX_FIELDS = 20

#: Each payload that is added rewrites what was collected before it.
COLLECT_MAX = 1_000
COLLECT_MAX_BYTES = 1024 * 1024

#: A number that JSON writes as 1 or 1.0 is the same number, as far as a float tells whole ones apart.
_WHOLE_UP_TO = 2.0**53

_UNFINISHED = (JobStatus.QUEUED, JobStatus.BLOCKED, JobStatus.RUNNING)
_UNSTARTED = (JobStatus.QUEUED, JobStatus.BLOCKED)
_MISSING = object()
_USUAL_COLLECT_MAX = 100
_USUAL_COLLECT_MAX_BYTES = 256 * 1024


#: Between the name of a client and its own key: no key that a client can say has this character.
_CLIENT_END = "\x1f"


def of_client(client: str, key: str) -> str:
    """Return the key under which a client's `key` is kept, so that no two clients meet each other's.

    Args:
        client: the name of its API key; empty for all who have none.
        key: printable.
    """
    return f"{client}{_CLIENT_END}{key}" if client else key


def without_client(key: str) -> str:
    """Return the name that a client gave its key: `of_client` undone."""
    return key.rpartition(_CLIENT_END)[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """A demand that a job be the only one of its kind: a create that meets another answers with that one.

    Attributes:
        key: the whole key, whatever the job's type and queue; or
        fields: paths in the payload (`user_id`, `order.id`): jobs of the type with equal values are alike.
        while_: the key is taken while its holder is in one of these states. By default queued, blocked and
            running; for the other modes than `reject`, which act on a waiting holder, queued and blocked.
        window_seconds: and only for so long after the holder was created; None is for ever.
        mode: what becomes of the holder: see `UniqueMode`.
        debounce_max_seconds: for `debounce`: the start is pushed out to at most so long after the holder's
            creation.
        collect_seconds: for `collect`: the job starts so long after its creation, and takes no payload then.
        collect_max: for `collect`: it starts as soon as it has so many payloads, 2 to 1,000; by default 100.
        collect_max_bytes: for `collect`: their JSON text has at most so many bytes, by default 262,144, at
            most 1,048,576. One that does not fit begins the next job.
    """

    key: str | None = None
    fields: tuple[str, ...] = ()
    while_: tuple[JobStatus | str, ...] = ()
    window_seconds: float | None = None
    mode: UniqueMode | str = UniqueMode.REJECT
    debounce_max_seconds: float | None = None
    collect_seconds: float | None = None
    collect_max: int | None = None
    collect_max_bytes: int | None = None

    @property
    def collects(self) -> bool:
        """Whether a waiting holder takes the payloads of further creates."""
        return self.mode == UniqueMode.COLLECT

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with these options, each as a field and what was expected."""
        if (self.key is None) == (not self.fields):
            yield "unique", "expected either key or fields"
        elif self.key is not None and not _is_key(self.key):
            yield "unique.key", f"expected 1 to {KEY_MAX_CHARACTERS} printable characters"
        if not _are_paths(self.fields):
            yield "unique.fields", f"expected 1 to {MAX_FIELDS} different paths, such as user_id or order.id"
        if any(state not in JobStatus.__members__.values() for state in self.while_):
            yield "unique.while", f"expected states: {', '.join(JobStatus)}"
        if self.window_seconds is not None and not _is_span(self.window_seconds):
            yield "unique.window_seconds", f"expected more than 0, at most {MAX_DELAY_SECONDS:g}"
        if self.mode not in UniqueMode.__members__.values():
            yield "unique.mode", f"expected one of {', '.join(UniqueMode)}"
        if (self.mode == UniqueMode.DEBOUNCE) != (self.debounce_max_seconds is not None):
            yield "unique.debounce_max_seconds", "expected together with the mode debounce, and only then"
        elif self.debounce_max_seconds is not None and not _is_span(self.debounce_max_seconds):
            yield "unique.debounce_max_seconds", f"expected more than 0, at most {MAX_DELAY_SECONDS:g}"
        yield from self._problems_of_collecting()

    def _problems_of_collecting(self) -> Iterator[tuple[str, str]]:
        if self.collects != (self.collect_seconds is not None):
            yield "unique.collect_seconds", "expected together with the mode collect, and only then"
        elif self.collect_seconds is not None and not _is_span(self.collect_seconds):
            yield "unique.collect_seconds", f"expected more than 0, at most {MAX_DELAY_SECONDS:g}"
        bounds = (("collect_max", 2, COLLECT_MAX), ("collect_max_bytes", 1, COLLECT_MAX_BYTES))
        for name, least, most in bounds:
            value = getattr(self, name)
            if value is not None and not self.collects:
                yield f"unique.{name}", "expected only with the mode collect"
            elif value is not None and (type(value) is not int or not least <= value <= most):
                yield f"unique.{name}", f"expected a whole number from {least} to {most:,}"
        if self.collects and self.while_:
            yield "unique.while", "expected only with other modes: what has begun collects nothing"
        if self.collects and self.window_seconds is not None:
            yield "unique.window_seconds", "expected only with other modes: collect_seconds is the window"

    def rule(
        self, type_name: str, payload: Any, fingerprint: Callable[[bytes], str] | None = None
    ) -> UniqueRule:
        """Return the rule for a job of this type and payload (JSON values).

        Args:
            type_name: a part of the key.
            payload: the fields' values are looked up in it.
            fingerprint: a keyed hash, for a payload that nobody may guess from its key.

        Raises:
            InvalidJobError: the payload has not all of the fields.
        """
        states = self.while_ or (_UNFINISHED if self.mode == UniqueMode.REJECT else _UNSTARTED)
        return UniqueRule(
            key=self._key_of(type_name, payload, fingerprint) if self.key is None else self.key,
            states=tuple(dict.fromkeys(JobStatus(state) for state in states)),
            window_seconds=self.window_seconds,
            mode=UniqueMode(self.mode),
            debounce_max_seconds=self.debounce_max_seconds,
        )

    def rule_of_collected(
        self,
        type_name: str,
        field: str,
        payloads: Sequence[Any],
        fingerprint: Callable[[bytes], str] | None = None,
    ) -> UniqueRule:
        """Return the rule of the mode `collect`, for a job with these payloads in this member.

        Raises:
            InvalidJobError: the payloads have different keys, or one has not all of the fields.
        """
        assert self.collect_seconds is not None
        keys = {
            self._key_of(type_name, payload, fingerprint) if self.key is None else self.key
            for payload in payloads
        }
        if len(keys) > 1:
            raise InvalidJobError({"unique.fields": "the payloads of one create have different values"})
        bounds = CollectRule(
            field,
            self.collect_seconds,
            self.collect_max or _USUAL_COLLECT_MAX,
            self.collect_max_bytes or _USUAL_COLLECT_MAX_BYTES,
        )
        return UniqueRule(
            keys.pop(), _UNSTARTED, self.collect_seconds, mode=UniqueMode.COLLECT, collect=bounds
        )

    def _key_of(self, type_name: str, payload: Any, fingerprint: Callable[[bytes], str] | None) -> str:
        values = {path: _value_at(payload, path) for path in self.fields}
        absent = [path for path, value in values.items() if value is _MISSING]
        if absent:
            raise InvalidJobError({"unique.fields": f"the payload has no {', '.join(absent)}"})
        text = orjson.dumps(_canonical(values), option=orjson.OPT_SORT_KEYS)
        digest = hashlib.sha256(text).hexdigest() if fingerprint is None else fingerprint(text)
        return f"{type_name}:{digest}"


def _is_key(key: Any) -> bool:
    return isinstance(key, str) and 0 < len(key) <= KEY_MAX_CHARACTERS and key.isprintable()


def _are_paths(fields: Any) -> bool:
    if not isinstance(fields, tuple) or not all(map(_is_key, fields)):
        return False
    return len(set(fields)) == len(fields) <= MAX_FIELDS and all(all(path.split(".")) for path in fields)


def _is_span(seconds: Any) -> bool:
    return is_number(seconds, 0, MAX_DELAY_SECONDS) and seconds != 0


def _value_at(payload: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(payload, Mapping) or name not in payload:
            return _MISSING
        payload = payload[name]
    return payload


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _canonical(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE_UP_TO:
        return int(value)
    return value

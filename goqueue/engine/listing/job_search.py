"""The search text by which people say which jobs they look for, and its meaning for payloads. Pure Python."""

from __future__ import annotations

import re
from typing import NamedTuple

from goqueue.jobs import JobStatus

__all__ = ["SEARCH_MAX_CHARACTERS", "PayloadMatch", "Search", "parse_payload", "parse_search", "written"]

#: Of a text that is searched for.
SEARCH_MAX_CHARACTERS = 500

_PATH = re.compile(r"([\w-]+(?:\.[\w-]+)*):(.+)", re.DOTALL)

# A word, or name:value; what has spaces in it stands in quotes, and a quote in those behind a backslash.
_WORD = re.compile(r'(?:(?P<name>[\w.-]+):)?(?:"(?P<quoted>(?:[^"\\]|\\.)*)"(?!\S)|(?P<bare>\S+))')

_NAMES = ("queue", "type", "status", "tag", "error")
_PAYLOAD = "payload"


class PayloadMatch(NamedTuple):
    """The text or the value that a payload has to hold.

    Attributes:
        path: where the value is; empty: the text may be anywhere.
        text: the value, as text; or a part of the payload's text.
    """

    path: tuple[str, ...]
    text: str


class Search(NamedTuple):
    """The meaning of a search text.

    Attributes:
        job_id: it is the id of a job, and no more.
        fields: queue, type, status, tag, error and payload, as they are given to a filter.
        problem: what is wrong with it, or None.
    """

    job_id: int | None
    fields: dict[str, str]
    problem: str | None = None


def parse_payload(said: str) -> PayloadMatch:
    """Read `user.country:DE` as the value DE at that path; anything else, or what is in quotes, is text."""
    if len(said) > 2 and said[0] == said[-1] == '"':  # noqa: PLR2004  (two quotes and something)
        return PayloadMatch((), said[1:-1])
    match = _PATH.fullmatch(said)
    return PayloadMatch(tuple(match[1].split(".")), match[2]) if match else PayloadMatch((), said)


def parse_search(text: str) -> Search:
    """Read a search text, such as `queue:email payload.user_id:42 error:"timed out"`, an id, or words."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= len(str(2**63)):
        return Search(int(text), {})
    fields: dict[str, str] = {}
    words: list[str] = []
    for match in _WORD.finditer(text):
        name, value = match["name"], match["bare"]
        if value is None:
            value = re.sub(r"\\(.)", r"\1", match["quoted"])
        if name in _NAMES and value:
            fields[name] = value
        elif name is not None and name.startswith(f"{_PAYLOAD}.") and value:
            if _PAYLOAD in fields:
                return Search(None, fields, "expected one payload at a time")
            fields[_PAYLOAD] = f"{name.removeprefix(f'{_PAYLOAD}.')}:{value}"
        else:
            words.append(value if name in {None, _PAYLOAD} else match[0])
    if words:
        if _PAYLOAD in fields:
            return Search(None, fields, "expected one payload at a time")
        fields[_PAYLOAD] = f'"{" ".join(words)}"'
    if fields.get("status", "queued") not in set(JobStatus):
        return Search(None, fields, f"status: expected one of {', '.join(JobStatus)}")
    return Search(None, fields)


def written(*, payload: str | None = None, error: str | None = None) -> str:
    """Write the search text that `parse_search` reads as this."""
    words = []
    if payload:
        path, text = parse_payload(payload)
        is_word = re.fullmatch(r"[^\s:\"]+", text) and not text.isdigit()
        words.append(
            f"payload.{'.'.join(path)}:{_value(text)}" if path else text if is_word else _quoted(text)
        )
    if error:
        words.append(f"error:{_value(error)}")
    return " ".join(words)


def _value(text: str) -> str:
    """In quotes where it would else be read as something different."""
    return _quoted(text) if re.search(r"\s|^\"", text) else text


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'

"""What a kind of failure is called on a page. Pure."""

from __future__ import annotations

import re

from goqueue.dashboard.parts.tracebacks import headline
from goqueue.insight.failure_group_rows import ShownGroup, ShownKind

__all__ = ["failure_words"]

#: What `engine/fingerprints.py` writes for what differs between the failures of one kind.
_PLACEHOLDER = re.compile(r"<(?:n|hex|id|uuid|string|address|url|path|time)>")

_WORD = re.compile(r"\w")


def failure_words(kind: ShownGroup | ShownKind) -> str:
    """The message of a kind, or, where its placeholders leave no word of it, that of its newest job.

    A `KeyError` says nothing but a name in quotes: `<string>` for all of them, and the name is the news.
    """
    reason, error = (kind.reason, kind.error) if isinstance(kind, ShownGroup) else (None, None)
    if kind.exception is None:
        # A reason is a word of ours.
        is_reason = kind.message == reason or re.fullmatch(r"[a-z]+(?:_[a-z]+)+", kind.message)
        return kind.message.replace("_", " ") if is_reason else kind.message
    if error and not _WORD.search(_PLACEHOLDER.sub("", kind.message)):
        return headline(error).message or kind.message
    return kind.message

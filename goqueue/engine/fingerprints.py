"""Kinds of failures: which failed attempts are one problem. Pure Python.

Two failures are of one kind when they have the same job type, the same class of exception, the same message
but for its numbers, names and times, and were raised in the same function of the user's code. Line numbers do
not matter: they change with every edit.
"""

from __future__ import annotations

import hashlib
import re
import sysconfig
from functools import lru_cache
from types import FrameType, TracebackType

from goqueue.jobs import FailureKind

__all__ = ["handler_frame", "kind_of", "normalise", "own_frame"]

#: Of a longer message the rest does not matter.
MESSAGE_MAX_CHARACTERS = 1_000

#: The kinds of so many messages are remembered.
KINDS_KEPT = 256

#: Words of so many characters that have a digit in them are taken for identifiers.
IDENTIFIER_MIN_CHARACTERS = 16
HEX_MIN_CHARACTERS = 8

#: Modules between Dramatiq's worker and a handler, or a coroutine's.
_FOREIGN_MODULES = ("dramatiq.", "goqueue.worker.", "goqueue.middleware.", "concurrent.futures.")

_LIBRARIES = tuple(
    {sysconfig.get_path(name) + "/" for name in ("stdlib", "platstdlib", "purelib", "platlib")} | {"<frozen "}
)
_PACKAGES = ("/site-packages/", "/dist-packages/")

# One alternative starts at each position at most once, and each is bounded or possessive: linear time. The
# last one takes a whole word, so that no search begins in the middle of one.
_VARIABLE = re.compile(
    r"""
    (?P<string>  (?<!\w) (?: '[^'\n]{0,300}+' | "[^"\n]{0,300}+" | `[^`\n]{0,300}+` ) (?!\w) )
  | (?P<url>     [a-zA-Z][a-zA-Z0-9+.-]{1,20}+ :// [^\s"'<>]++ )
  | (?P<uuid>    (?<!\w) [0-9a-fA-F]{8} - (?:[0-9a-fA-F]{4}-){3} [0-9a-fA-F]{12} (?!\w) )
  | (?P<time>    (?<!\d) (?: \d{4}-\d\d-\d\d (?: [T\ ] \d\d:\d\d (?: :\d\d (?:[.,]\d{1,9}+)? )? )?
                           | \d\d:\d\d:\d\d (?:[.,]\d{1,9}+)? ) (?: Z | [+-]\d\d:?\d\d )? (?!\d) )
  | (?P<address> (?<!\w) (?: 0x[0-9a-fA-F]++
                           | [\w.+-]{1,64} @ [\w-]{1,63} (?:\.[\w-]{1,63}){1,8}
                           | \d{1,3} (?:\.\d{1,3}){3} (?: :\d{1,5} )?
                           | \[? [0-9a-fA-F]{0,4} (?: : [0-9a-fA-F]{0,4} ){3,7} \]? (?: :\d{1,5} )? ) (?!\w) )
  | (?P<path>    (?<![\w/.]) (?: (?:~|\.{1,2})? (?: /[\w.@+~%=,-]{1,255}+ ){2,64}+ /?
                               | [a-zA-Z]: (?: \\[^\\\s:"'<>|]{1,255}+ ){1,64}+ ) )
  | (?P<word>    \w++ )
    """,
    re.VERBOSE,
)
_HEX = re.compile(r"[0-9a-fA-F]+")
_NUMBER = re.compile(r"\d++(?:[.,_]\d++)*+")
_SIGNED = re.compile(r"(?<![\w>])[+-]?<n>(?:[.,_]<n>)*+(?:[eE][+-]?<n>)?")
_SPACES = re.compile(r"\s++")


def kind_of(job_type: str, exception: str, message: str, frame: str | None) -> FailureKind:
    """The kind of a failure. The message is normalised here."""
    return _kind_of(job_type, exception, message[:MESSAGE_MAX_CHARACTERS], frame)


@lru_cache(KINDS_KEPT)
def _kind_of(job_type: str, exception: str, message: str, frame: str | None) -> FailureKind:
    """Failures of one kind often have the very same message, and come by the thousand."""
    normal = normalise(message)
    text = "\0".join((job_type, exception, normal, frame or ""))
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8)
    return FailureKind(digest.hexdigest(), job_type, exception, normal, frame)


def normalise(message: str) -> str:
    """A message with placeholders for what differs between two failures of one kind.

    `<n>` stands for numbers, also those in words; `<hex>`, `<id>` and `<uuid>` for identifiers; `<string>`
    for what is in quotes; `<address>` for addresses of memory, hosts and people; `<url>`, `<path>` and
    `<time>` for these. Linear in the length, of which at most 1,000 characters are looked at.
    """
    bounded = message[:MESSAGE_MAX_CHARACTERS]
    replaced = _VARIABLE.sub(_placeholder, bounded)
    return _SPACES.sub(" ", _SIGNED.sub("<n>", replaced)).strip()


def _placeholder(match: re.Match[str]) -> str:
    if match.lastgroup != "word":
        return f"<{match.lastgroup}>"
    word = match.group()
    if not any(map(str.isdigit, word)) or word.isdigit():
        return _NUMBER.sub("<n>", word)
    if len(word) >= HEX_MIN_CHARACTERS and _HEX.fullmatch(word):
        return "<hex>"
    if len(word) >= IDENTIFIER_MIN_CHARACTERS:
        return "<id>"
    return _NUMBER.sub("<n>", word)


def own_frame(traceback: TracebackType | None) -> str | None:
    """The innermost function of the user's code in a traceback: not a library's, not Dramatiq's, not ours.

    Where the user's code is installed like a library, it is the function that Dramatiq called.
    """
    innermost = None
    while traceback is not None:
        frame = traceback.tb_frame
        if not _is_foreign(frame) and (innermost is None or not _is_library(frame)):
            innermost = frame
        traceback = traceback.tb_next
    return None if innermost is None else _name_of(innermost)


def handler_frame(traceback: TracebackType | None) -> str | None:
    """The function of the user's code that Dramatiq called.

    It stands for failures that may be raised anywhere in it: a time limit strikes wherever the handler is.
    """
    while traceback is not None:
        if not _is_foreign(traceback.tb_frame):
            return _name_of(traceback.tb_frame)
        traceback = traceback.tb_next
    return None


def _is_foreign(frame: FrameType) -> bool:
    return f"{frame.f_globals.get('__name__')}.".startswith(_FOREIGN_MODULES)


def _is_library(frame: FrameType) -> bool:
    if str(frame.f_globals.get("__name__")).startswith("goqueue."):
        return False
    path = frame.f_code.co_filename
    return path.startswith(_LIBRARIES) or any(folder in path for folder in _PACKAGES)


def _name_of(frame: FrameType) -> str:
    return f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}"

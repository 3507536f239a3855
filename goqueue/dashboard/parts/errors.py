"""Errors as a reader wants them: what they say, and the frames of the job's own code. Pure."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import goqueue
from goqueue.insight.failure_group_rows import ShownGroup, ShownKind

__all__ = ["Block", "Headline", "Traceback", "failure_words", "headline", "parsed"]

#: A line of a frame, also inside of a group of exceptions, whose lines begin with bars.
_FRAME = re.compile(
    r'(?P<margin>[ |+]*)  File "(?P<path>[^"]*)", line (?P<line>\d+)(?:, in (?P<function>.*))?'
)

_CLASS = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")

_LIBRARIES = tuple(
    {sysconfig.get_path(name) + "/" for name in ("stdlib", "platstdlib", "purelib", "platlib")} | {"<frozen "}
)
#: Workers may have them elsewhere than this process.
_LIBRARY_FOLDERS = re.compile(r"/(?:site|dist)-packages/|/lib(?:64)?/python3(?:\.\d+)?/|/python3\d\d\.zip/")

#: The package itself; only the actors that it brings along are somebody's handlers.
_PACKAGE = str(Path(goqueue.__file__).parent) + "/"
_ACTORS = f"{_PACKAGE}actors/"


#: What `engine/fingerprints.py` writes for what differs between the failures of one kind.
_PLACEHOLDER = re.compile(r"<(?:n|hex|id|uuid|string|address|url|path|time)>")

_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of lines of a traceback that belong together.

    Attributes:
        kind: own, library, or text: what is no frame.
        frames: how many.
    """

    kind: str
    text: str
    frames: int = 0


@dataclass(frozen=True, slots=True)
class Traceback:
    """A traceback as blocks, in their order.

    Attributes:
        raised_in: the innermost frame of the job's own code: "jobs.py:12, in send"; None where there is none.
    """

    blocks: list[Block]
    raised_in: str | None


@dataclass(frozen=True, slots=True)
class Headline:
    """An error in one line: the exception's class, where it says one, and its message."""

    exception: str | None
    message: str


@dataclass(frozen=True, slots=True)
class _Piece:
    """A frame, or lines that are none."""

    kind: str
    lines: tuple[str, ...]
    place: str | None = None


def headline(error: str) -> Headline:
    """Split an error into class and message, as `middleware/lifecycle.py` puts them together."""
    name, separator, message = error.partition(": ")
    if separator and _CLASS.fullmatch(name):
        return Headline(name, message)
    if _CLASS.fullmatch(error) and error.endswith(("Error", "Exception", "Exceeded", "Interrupt")):
        return Headline(error, "")
    return Headline(None, error)


def failure_words(kind: ShownGroup | ShownKind) -> str:
    """Return the message of a kind, or, where its placeholders leave no word of it, that of its newest job.

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


def parsed(text: str) -> Traceback:
    """Split a traceback into blocks. Every line of the text is in one of them."""
    pieces = list(_pieces(text))
    if not any(piece.kind == "own" for piece in pieces):
        # The user's code is installed like a library: Dramatiq called the first of its frames.
        first = next((index for index, piece in enumerate(pieces) if piece.kind == "library"), None)
        if first is not None:
            pieces[first] = _Piece("own", pieces[first].lines, pieces[first].place)
    places = [piece.place for piece in pieces if piece.kind == "own"]
    return Traceback(
        [_block(kind, list(group)) for kind, group in groupby(pieces, lambda piece: piece.kind)],
        places[-1] if places else None,
    )


def _block(kind: str, pieces: list[_Piece]) -> Block:
    lines = [line for piece in pieces for line in piece.lines]
    return Block(kind, "\n".join(lines), 0 if kind == "text" else len(pieces))


def _pieces(text: str) -> Iterator[_Piece]:
    lines = text.removesuffix("\n").split("\n")
    position = 0
    while position < len(lines):
        found = _FRAME.fullmatch(lines[position])
        if found is None:
            yield _Piece("text", (lines[position],))
            position += 1
            continue
        end = position + 1
        # The source of a frame, and what marks a place in it, stand four columns further in.
        while end < len(lines) and lines[end].startswith(found["margin"] + "    "):
            end += 1
        yield _Piece(_kind(found["path"]), tuple(lines[position:end]), _place(found))
        position = end


def _kind(path: str) -> str:
    if path.startswith(_PACKAGE):
        return "own" if path.startswith(_ACTORS) else "library"
    return "library" if path.startswith(_LIBRARIES) or _LIBRARY_FOLDERS.search(path) else "own"


def _place(found: re.Match[str]) -> str:
    place = f"{found['path'].rpartition('/')[2]}:{found['line']}"
    return f"{place}, in {found['function']}" if found["function"] else place

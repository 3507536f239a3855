"""Text that somebody else wrote, for a terminal: what would steer it is shown instead."""

from __future__ import annotations

import unicodedata

__all__ = ["printable"]

#: Controls, what turns text around or joins it invisibly, line and paragraph separators, halves of pairs, and
#: what has no meaning that all agree on.
_STEERING = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"})


def printable(text: str, *, keep: str = "") -> str:
    """The text with every character that is no letter, mark, number, sign or space written as an escape.

    Args:
        text: whatever it is.
        keep: characters that stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(letter if letter in keep or not _steers(letter) else _escaped(letter) for letter in text)


def _steers(letter: str) -> bool:
    return unicodedata.category(letter) in _STEERING


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")

"""Times, spans and numbers as they are written in sentences."""

from __future__ import annotations

from datetime import datetime

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))

#: Longer errors are cut in a sentence.
QUOTE_CHARACTERS = 120


def span(seconds: float) -> str:
    """Write a span in its two largest units: `0.4 s`, `12 s`, `3 min 20 s`, `2 d 4 h`."""
    if seconds < 10:  # noqa: PLR2004  (one digit is worth a fraction)
        return f"{max(seconds, 0):.2g} s"
    rest = round(seconds)
    parts = []
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def moment(time: datetime) -> str:
    """Write a time, which is in UTC, to the second: `2026-11-24 08:00:49 UTC`."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def count(number: int, noun: str, *, bound: int | None = None) -> str:
    """Write a number and its noun: `1 job`, `2 jobs`; `10,000 jobs or more` where counting stopped there."""
    text = f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
    return f"{text} or more" if bound is not None and number >= bound else text


def quote(text: str) -> str:
    """Return the first line of a text, cut to `QUOTE_CHARACTERS`."""
    line = (text.strip().splitlines() or [""])[0]
    return line if len(line) <= QUOTE_CHARACTERS else line[: QUOTE_CHARACTERS - 1] + "…"

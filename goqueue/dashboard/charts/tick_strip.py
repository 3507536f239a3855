"""A strip of bars for the last ticks of a schedule, by what became of each: ticks in, positions out. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC

from goqueue.schedules.tick_rows import TickRow

__all__ = ["HEIGHT", "TICKS_SHOWN", "Strip", "TickBar", "strip_of", "tone_of", "word_of"]

#: So many ticks are shown, the newest on the right.
TICKS_SHOWN = 24

HEIGHT = 24
_PITCH = 6
_BAR = 4

#: How tall a bar is of a tick that fired, and of one that did not.
_FIRED = 22
_SILENT = 8

#: The job's state, or, without a job, what was decided; and the colour that it has everywhere.
_TONES = {
    "completed": "good",
    "failed": "bad",
    "running": "info",
    "queued": "quiet",
    "blocked": "warn",
    "missed": "warn",
    "cancelled": "rare",
    "expired": "rare",
}


@dataclass(frozen=True, slots=True)
class TickBar:
    """The bar of one tick of a schedule.

    Attributes:
        tone: what its colour means; a class of the sheet.
        title: its time and what became of it.
    """

    x: int
    y: int
    width: int
    height: int
    tone: str
    title: str


@dataclass(frozen=True, slots=True)
class Strip:
    """A strip of bars, the oldest first.

    Attributes:
        words: the same in one sentence, for who cannot see them.
    """

    width: int
    height: int
    bars: tuple[TickBar, ...]
    words: str


def word_of(tick: TickRow) -> str:
    """Say what became of a tick: the state of its job, or why it has none."""
    if tick.job_status is not None:
        return tick.job_status
    return "job deleted" if tick.job_id is not None else tick.outcome.replace("_", " ")


def tone_of(word: str) -> str:
    """Return the colour of what became of a tick, by what it means."""
    return _TONES.get(word, "quiet")


def strip_of(newest_first: Sequence[TickRow]) -> Strip:
    """Return the strip of some ticks. It is as wide as it ever gets, so that nothing moves while it fills."""
    shown = list(reversed(newest_first[:TICKS_SHOWN]))
    left = (TICKS_SHOWN - len(shown)) * _PITCH
    bars = tuple(_bar(tick, left + position * _PITCH) for position, tick in enumerate(shown))
    counted = Counter(word_of(tick) for tick in shown)
    told = ", ".join(f"{count} {word}" for word, count in counted.most_common())
    words = f"The last {len(shown)} ticks: {told}" if shown else "No tick yet"
    return Strip(TICKS_SHOWN * _PITCH, HEIGHT, bars, words)


def _bar(tick: TickRow, x: int) -> TickBar:
    word = word_of(tick)
    height = _SILENT if tick.job_id is None else _FIRED
    by_hand = ", run by hand" if tick.kind == "manual" else ""
    title = f"{tick.nominal_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC: {word}{by_hand}"
    return TickBar(x, HEIGHT - height - 1, _BAR, height, tone_of(word), title)

"""The spans of time that pages look back over, and how finely. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["DEFAULT_RANGE", "RANGES", "TimeRange", "moment_before"]


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A span that ends now.

    Attributes:
        name: as it stands in an address, and on its tab.
        words: as it stands in a sentence.
        seconds: how long it is.
        step_seconds: the length of the counted steps that it is read from.
        steps_in_point: so many of them make one point of a chart.
    """

    name: str
    words: str
    seconds: int
    step_seconds: int
    steps_in_point: int = 1

    @property
    def point_seconds(self) -> int:
        """The length of a point of a chart, in seconds."""
        return self.step_seconds * self.steps_in_point


#: By name, from the shortest to the longest.
RANGES: dict[str, TimeRange] = {
    one.name: one
    for one in (
        TimeRange("15m", "15 minutes", 900, 10),
        TimeRange("1h", "hour", 3600, 10, 3),
        TimeRange("6h", "6 hours", 6 * 3600, 60, 2),
        TimeRange("24h", "24 hours", 24 * 3600, 60, 5),
        TimeRange("7d", "7 days", 7 * 86_400, 3600),
        TimeRange("30d", "30 days", 30 * 86_400, 3600, 4),
    )
}

DEFAULT_RANGE = "15m"


def moment_before(now: datetime, wanted: TimeRange) -> datetime:
    """Return the moment at which a range that ends now begins: the begin of a point of its chart."""
    seconds = int(now.timestamp()) - wanted.seconds
    return datetime.fromtimestamp(seconds - seconds % wanted.point_seconds, tz=now.tzinfo)

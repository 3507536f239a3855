"""The filters of templates for times, durations, numbers and browsers: text, or safe markup. Pure."""

from __future__ import annotations

import calendar
import hashlib
import math
import re
from datetime import UTC, datetime

from markupsafe import Markup

__all__ = ["browser_name", "count", "duration", "moment", "number", "per_second", "percent", "size"]

#: What stands where there is no value.
NOTHING = "\N{EN DASH}"

MINUS = "\N{MINUS SIGN}"

_MINUTE = 60
_HOUR = 3600
_DAY = 86_400
_UNITS = ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min"), (_MINUTE, "min", 1, "s"))

#: From here on, tenths of a second say nothing.
_TENTHS_UP_TO = 10

_MILLISECONDS = 1000
_MONTHS = ("", *calendar.month_abbr[1:])
_KIB = 1024

#: Each of them calls itself what those below it are called, too.
_BROWSERS = (
    ("Edge", r"Edg(?:e|A|iOS)?/(\d+)"),
    ("Opera", r"(?:OPR|Opera)/(\d+)"),
    ("Samsung Internet", r"SamsungBrowser/(\d+)"),
    ("Firefox", r"(?:Firefox|FxiOS)/(\d+)"),
    ("Chrome", r"(?:HeadlessChrome|Chrome|CriOS)/(\d+)"),
    ("Safari", r"Version/(\d+)[\d.]* (?:Mobile/\w+ )?Safari/"),
)

_SYSTEMS = (
    ("iPhone", r"iPhone"),
    ("iPad", r"iPad"),
    ("Android", r"Android"),
    ("ChromeOS", r"CrOS"),
    ("Windows", r"Windows"),
    ("macOS", r"Mac OS X"),
    ("Linux", r"Linux|X11"),
)


def moment(at: datetime | None) -> Markup | str:
    """Write a time as an element: exact on hover, told by a script as "3 s ago" where one runs."""
    if at is None:
        return NOTHING
    at = at.astimezone(UTC)
    exact = at.isoformat()
    title = f"{exact[:10]} {exact[11:19]}.{at.microsecond // 1000:03} UTC"
    # Nothing of it is from outside, and a list has hundreds: to escape them took a quarter of its time.
    return Markup(  # noqa: S704
        f'<time datetime="{exact}" title="{title}">{exact[8:10]} {_MONTHS[at.month]} {exact[11:19]}</time>'
    )


def duration(seconds: float | None) -> str:
    """Write a duration in its two largest units: 0.4 ms, 35 ms, 1.2 s, 4 min 10 s, 2 d 3 h."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 0:
        return f"{MINUS}{duration(-seconds)}"
    return _short(seconds) if round(seconds, 1) < _TENTHS_UP_TO else _long(round(seconds))


def _short(seconds: float) -> str:
    if seconds == 0:
        return "0 s"
    if seconds < 1 / _MILLISECONDS:
        return f"{seconds * _MILLISECONDS:.1f} ms"
    if round(seconds * _MILLISECONDS) < _MILLISECONDS:
        return f"{seconds * _MILLISECONDS:.0f} ms"
    return f"{seconds:.1f}".removesuffix(".0") + " s"


def _long(seconds: int) -> str:
    for unit, name, smaller_unit, smaller in _UNITS:
        if seconds >= unit:
            rest = seconds % unit // smaller_unit
            return f"{seconds // unit} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds} s"


def number(value: float | None) -> str:
    """Write a number with its thousands apart."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}"


def count(value: int, up_to: int) -> str:
    """Write a count that stopped at a limit as such."""
    return f"{number(value)}+" if value >= up_to else number(value)


def per_second(value: float | None) -> str:
    """Write a rate: 0/s, 0.25/s, 3.1/s, 1,250/s."""
    if value is None:
        return NOTHING
    digits = 0 if value == 0 or value >= 100 else 1 if value >= 1 else 2  # noqa: PLR2004
    return f"{value:,.{digits}f}/s"


def percent(part: float | None) -> str:
    """Write a part of one: 12.5 %."""
    if part is None:
        return NOTHING
    return f"{part * 100:.3g} %"


def size(octets: int | None) -> str:
    """Write bytes: 512 B, 1.5 KiB, 3 MiB."""
    if octets is None:
        return NOTHING
    value = float(octets)
    for unit in ("B", "KiB", "MiB"):
        if value < _KIB:
            return f"{value:.3g} {unit}"
        value /= _KIB
    return f"{value:.3g} GiB"


def browser_name(user_agent: str | None) -> str:
    """Name a browser, its version and system, "Firefox 128 on Linux", where they are known."""
    if not user_agent:
        return "unknown"
    for name, pattern in _BROWSERS:
        found = re.search(pattern, user_agent)
        if found:
            system = next((known for known, words in _SYSTEMS if re.search(words, user_agent)), None)
            return f"{name} {found[1]}" + (f" on {system}" if system else "")
    return user_agent


def name_key(name: str) -> str:
    """Return what stands for a name in an id of a page: names hold anything, this only hex digits."""
    return hashlib.blake2b(name.encode(errors="replace"), digest_size=8).hexdigest()

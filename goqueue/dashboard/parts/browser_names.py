"""What a browser is called that says who it is in a hundred characters. Pure."""

from __future__ import annotations

import re

__all__ = ["browser_name"]

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


def browser_name(user_agent: str | None) -> str:
    """Name, version and system, "Firefox 128 on Linux", where they are known; else what was said."""
    if not user_agent:
        return "unknown"
    for name, pattern in _BROWSERS:
        found = re.search(pattern, user_agent)
        if found:
            system = next((known for known, words in _SYSTEMS if re.search(words, user_agent)), None)
            return f"{name} {found[1]}" + (f" on {system}" if system else "")
    return user_agent

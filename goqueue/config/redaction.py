"""Taking secrets out of texts that people read: log lines, errors that are kept, traces.

What a handler raises quotes what it worked with: the address of a database with its password, the header of a
request, a signing key. `redact` knows the shapes of such secrets, and the very values that the settings of
this process hold. What it takes for a secret becomes `MASK`; the rest of the text stays, so that an error is
still told. It is no proof: a secret that looks like a word stays a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

__all__ = ["MASK", "masked_url", "protect", "redact", "redact_values"]

MASK = "**********"

#: Of a longer text the rest is left out: it is not looked at, so it is not shown.
TEXT_MAX_CHARACTERS = 1_000_000

#: A shorter value of a setting would be found in words that are none.
VALUE_MIN_CHARACTERS = 8

#: How deep the values of a log line are looked into.
DEPTH_MAX = 6

# Every alternative begins with something rare and is bounded, so a text is read once. Of a pair of names the
# first is what stays.
_SECRET = re.compile(
    r"""
    (?P<pem>     -----BEGIN\ [A-Z0-9\ ]{0,40}PRIVATE\ KEY-----
                 (?: .{0,20000}? -----END\ [A-Z0-9\ ]{0,40}PRIVATE\ KEY----- | .{0,20000} ) )
  | (?P<scheme>  [a-zA-Z][a-zA-Z0-9+.-]{1,30}:// ) (?P<userinfo> [^\s"'<>`]{1,1000} ) (?= @ )
  | (?P<header>  (?i: authorization ) ["']?\s?[:=]\s?["']? (?: [A-Za-z]{2,20}\s )? )
    (?P<credentials> [^\s"',;]{1,8000} )
  | (?P<bearer>  \b (?i: bearer ) \s{1,3} )
    (?P<token>   (?= [^\s"']{0,40}\d | [^\s"']{24} ) [A-Za-z0-9._~+/=-]{8,8000} )
  | (?P<key>     \b (?: (?:gq|whsec|sk_live|sk_test|rk_live|rk_test|gh[pousr])_ | xox[abeprs]- )
                 [A-Za-z0-9+/=_-]{8,4000} | \b AKIA[0-9A-Z]{16} \b )
  | (?P<jwt>     \b eyJ[A-Za-z0-9_-]{6,4000} \. [A-Za-z0-9_-]{6,8000} (?: \. [A-Za-z0-9_-]{0,4000} )? )
  | (?P<name>    (?i: \b [a-z0-9_-]{0,40}? (?: password | passwd | passphrase | pwd | secret | token
                 | api[_-]?key | access[_-]?key | private[_-]?key )
                 ["']? (?: = | :\s?(?=["']) | "\s?:\s? ) ) ["']? )
    (?P<value>   [^\s"'&;,)}\]]{1,4000} )
    """,
    re.VERBOSE | re.DOTALL,
)

#: What stays of a match, before the mask.
_KEPT = ("scheme", "header", "bearer", "name")


class _Values:
    """The values that the settings of this process hold, as one pattern."""

    known: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None


def protect(secrets: Iterable[str]) -> None:
    """Take these values, and the passwords in those that are URLs, out of every text from now on."""
    values = set(_Values.known)
    for secret in secrets:
        values |= {secret, *_passwords_of(secret)}
    _Values.known = frozenset(value for value in values if len(value) >= VALUE_MIN_CHARACTERS)
    longest_first = sorted(_Values.known, key=len, reverse=True)
    _Values.pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def redact(text: str) -> str:
    """Return the text without the secrets in it."""
    if len(text) > TEXT_MAX_CHARACTERS:
        text = text[:TEXT_MAX_CHARACTERS] + " …"
    if _Values.pattern is not None:
        text = _Values.pattern.sub(MASK, text)
    return _SECRET.sub(_masked, text)


def redact_values(value: Any, depth: int = 0) -> Any:
    """Return a value of a log line without the secrets in its texts: also in those of a list or a mapping."""
    if isinstance(value, str):
        return redact(value)
    if depth < DEPTH_MAX:
        if type(value) is dict:
            return {key: redact_values(item, depth + 1) for key, item in value.items()}
        if type(value) in {list, tuple}:
            return type(value)(redact_values(item, depth + 1) for item in value)
    return value


def masked_url(url: str) -> str:
    """Return a URL without its user, its password and the values of its query.

    Whatever a driver takes for a password is masked, also one that should have been percent-encoded and was
    not: all that stands before the last @ is taken for the user and the password.
    """
    scheme, found, rest = url.partition("://")
    if not found:
        return MASK
    _, has_user, place = rest.rpartition("@")
    place, _, query = place.partition("?")
    place, _, fragment = place.partition("#")
    names = [part.partition("=")[0] for part in query.split("&") if part]
    masked = f"{scheme}://{f'{MASK}@' if has_user else ''}{place}"
    masked += f"#{MASK}" if fragment else ""
    return masked + ("?" + "&".join(f"{name}={MASK}" for name in names) if names else "")


def _masked(match: re.Match[str]) -> str:
    kept: Mapping[str, str | None] = match.groupdict()
    return "".join(kept[name] or "" for name in _KEPT) + MASK


def _passwords_of(secret: str) -> set[str]:
    """What a URL has for passwords, as written and decoded."""
    _, found, rest = secret.partition("://")
    if not found:
        return set()
    userinfo = rest.rpartition("@")[0]
    password = userinfo.partition(":")[2]
    in_query = {
        value
        for part in rest.partition("?")[2].split("&")
        for name, _, value in [part.partition("=")]
        if name.lower().endswith("password")
    }
    return {text for value in {password, *in_query} for text in (value, unquote(value))}

"""The form of a queue's settings: from limits to fields, and from fields to what REST would be sent. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from goqueue.dashboard.parts.presentation import duration, number
from goqueue.errors import InvalidJobError
from goqueue.limits.settings import OnConflict, QueueLimits, RateAlgorithm, RateLimit

__all__ = [
    "FIELDS",
    "Blanks",
    "changes_of",
    "limit_words",
    "number_of",
    "texts_of",
    "whole_number_of",
    "wrong_by_field",
]

_WHOLE = ("concurrency", "key_concurrency")
_FRACTIONS = ("ramp_seconds", "slo_wait_seconds", "slo_objective")
_CHECKS = ("fair", "fifo")
RATES = ("rate", "key_rate")

_RATE_MEMBERS = ("limit", "period_seconds", "algorithm")

FIELDS = (
    *_WHOLE,
    "on_conflict",
    *_CHECKS,
    *(f"{rate}_{member}" for rate in RATES for member in _RATE_MEMBERS),
    *_FRACTIONS,
)

CHECKED = "on"

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_NUMBER = re.compile(
    r"[+-]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})(e[+-]?[0-9]{1,2})?", re.ASCII | re.IGNORECASE
)


class Blanks(dict[str, str]):
    """A dict of texts by name; those that are not there are empty."""

    def __missing__(self, _name: str) -> str:
        """Nothing."""
        return ""


def texts_of(limits: QueueLimits) -> dict[str, str]:
    """Return what the fields of a queue show."""
    texts = {name: _text(getattr(limits, name)) for name in (*_WHOLE, *_FRACTIONS)}
    texts["on_conflict"] = limits.on_conflict.value
    texts |= {name: CHECKED if getattr(limits, name) else "" for name in _CHECKS}
    for rate in RATES:
        values = _rate_values(getattr(limits, rate))
        texts |= {f"{rate}_{member}": _text(values[member]) for member in _RATE_MEMBERS}
    return texts


def limit_words(limits: QueueLimits) -> list[str]:
    """Say what limits a queue, in a few words each."""
    words = []
    if limits.concurrency is not None:
        words.append(f"{number(limits.concurrency)} at once")
    if limits.key_concurrency is not None:
        words.append(f"{number(limits.key_concurrency)} at once a key")
    if limits.rate is not None:
        words.append(_rate_words(limits.rate))
    if limits.key_rate is not None:
        words.append(f"{_rate_words(limits.key_rate)} a key")
    if limits.fair:
        words.append("keys take turns")
    if limits.fifo:
        words.append("strict order a key")
    return words


def changes_of(typed: Mapping[str, str], shown: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that differ from what the form was shown with, as the body of a request has them.

    What others changed meanwhile, and this form did not, stays theirs.

    Raises:
        InvalidJobError: what stands in a field is no number; the fields are those of the form.
    """
    differing = {name for name in FIELDS if typed.get(name, "").strip() != shown.get(name, "").strip()}
    wrong: dict[str, str] = {}
    document: dict[str, Any] = {}
    for name in differing & {*_WHOLE, *_FRACTIONS}:
        read = whole_number_of if name in _WHOLE else number_of
        _keep(document, wrong, name, read, typed.get(name, ""))
    for name in differing & set(_CHECKS):
        document[name] = typed.get(name, "") == CHECKED
    if "on_conflict" in differing:
        document["on_conflict"] = typed.get("on_conflict") or OnConflict.WAIT.value
    for rate in RATES:
        if differing & {f"{rate}_{member}" for member in _RATE_MEMBERS}:
            document[rate] = _rate_of(rate, typed, wrong)
    if wrong:
        raise InvalidJobError(wrong)
    return document


def wrong_by_field(fields: Mapping[str, str]) -> Blanks:
    """Sort what is wrong by the fields of the form: a path of the body is named as its field."""
    wrong = Blanks()
    for path, problem in fields.items():
        name = path.replace(".", "_")
        wrong[f"{name}_limit" if name in RATES else name] = problem
    return wrong


def whole_number_of(text: str) -> int | None:
    """Return the number of a text; None of an empty one.

    Raises:
        ValueError: it is none.
    """
    text = text.strip()
    if not text:
        return None
    if not _INTEGER.fullmatch(text):
        raise ValueError("expected a whole number, or nothing")
    return int(text)


def number_of(text: str) -> float | None:
    """Return the number of a text; None of an empty one.

    Raises:
        ValueError: it is none.
    """
    text = text.strip()
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise ValueError("expected a number, or nothing")
    return float(text)


def _rate_of(rate: str, typed: Mapping[str, str], wrong: dict[str, str]) -> dict[str, Any] | None:
    """A rate, or None where both of its numbers are empty; what is left out is said by the model."""
    values: dict[str, Any] = {}
    _keep(values, wrong, "limit", whole_number_of, typed.get(f"{rate}_limit", ""), f"{rate}_limit")
    period = f"{rate}_period_seconds"
    _keep(values, wrong, "period_seconds", number_of, typed.get(period, ""), period)
    given = {name: value for name, value in values.items() if value is not None}
    if not given and not any(name.startswith(f"{rate}_") for name in wrong):
        return None
    algorithm = typed.get(f"{rate}_algorithm", "")
    return given | ({"algorithm": algorithm} if algorithm else {})


def _keep(
    values: dict[str, Any], wrong: dict[str, str], name: str, read: Any, text: str, field: str | None = None
) -> None:
    try:
        values[name] = read(text)
    except ValueError as error:
        wrong[field or name] = str(error)


def _rate_values(rate: RateLimit | None) -> dict[str, Any]:
    if rate is None:
        return {"limit": None, "period_seconds": None, "algorithm": RateAlgorithm.SLIDING_WINDOW}
    return asdict(rate)


def _rate_words(rate: RateLimit) -> str:
    return f"{number(rate.limit)} in {duration(rate.period_seconds)}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.15g}" if isinstance(value, float) else str(value)

"""What may be said about uniqueness, and the key that it comes to."""

from __future__ import annotations

import math
from typing import Any

import pytest

from goqueue.engine.options.job_options import refuse_wrong
from goqueue.engine.options.uniqueness import Unique
from goqueue.errors import InvalidJobError
from goqueue.jobs import JobStatus, UniqueMode


def key(payload: Any, *fields: str, type_name: str = "t") -> str:
    """The key of a payload by these fields."""
    return Unique(fields=fields).rule(type_name, payload).key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": 1.0}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}),
        ({"a": [1, {"b": 2.0}]}, {"a": [1.0, {"b": 2}]}),
        ({"a": None, "b": 1}, {"b": 2, "a": None}),
    ],
    ids=["numbers", "order of names", "nested", "other fields"],
)
def test_equal_values_make_equal_keys(one: Any, other: Any) -> None:
    """However a value is written, it makes the same key."""
    assert key(one, "a") == key(other, "a")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1, "1"),
        (1, True),
        (None, 0),
        ([1, 2], [2, 1]),
        ({"b": 1}, {"c": 1}),
        ("ab", "a"),
        (2**53 + 2, 2**53 + 4),
    ],
)
def test_different_values_make_different_keys(one: Any, other: Any) -> None:
    """Values that JSON tells apart do not share a key."""
    assert key({"a": one}, "a") != key({"a": other}, "a")


def test_type_and_paths_are_part_of_the_key() -> None:
    """Jobs of two types, or alike by other fields, do not meet; the order of the fields does not matter."""
    payload = {"a": 1, "b": 1}
    assert key(payload, "a", type_name="t") != key(payload, "a", type_name="u")
    assert key(payload, "a") != key(payload, "b")
    assert key(payload, "a", "b") == key(payload, "b", "a")
    assert key({"a": {"b": 1}}, "a.b") == key({"a": {"b": 1, "c": 2}}, "a.b")


@pytest.mark.parametrize("payload", [{}, {"a": 1}, {"a": []}, {"a": {"c": 1}}])
def test_a_field_that_is_not_there_is_refused(payload: Any) -> None:
    """A payload without the field has no key: it is not like all others without it."""
    with pytest.raises(InvalidJobError) as caught:
        key(payload, "a.b")
    assert caught.value.fields == {"unique.fields": "the payload has no a.b"}


@pytest.mark.parametrize(
    ("mode", "states"),
    [
        ("reject", ("queued", "blocked", "running")),
        ("replace_payload", ("queued", "blocked")),
        ("debounce", ("queued", "blocked")),
    ],
)
def test_the_states_follow_from_the_mode(mode: str, states: tuple[str, ...]) -> None:
    """By default a key is taken by unfinished jobs; where a waiting job is changed, by those alone."""
    rule = Unique(key="k", mode=mode).rule("t", {})
    assert rule.states == states
    assert rule.mode is UniqueMode(mode)


def test_states_are_named_once() -> None:
    """A state that is named twice counts once."""
    assert Unique(key="k", while_=("failed", JobStatus.FAILED)).rule("t", {}).states == (JobStatus.FAILED,)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "unique"),
    "both": ({"key": "k", "fields": ("a",)}, "unique"),
    "key is no text": ({"key": 5}, "unique.key"),
    "empty key": ({"key": ""}, "unique.key"),
    "fields is a text": ({"fields": "user_id"}, "unique.fields"),
    "unhashable field": ({"fields": (["a"],)}, "unique.fields"),
    "state": ({"key": "k", "while_": ("waiting",)}, "unique.while"),
    "states is a text": ({"key": "k", "while_": "queued"}, "unique.while"),
    "not a number": ({"key": "k", "window_seconds": math.nan}, "unique.window_seconds"),
    "window is true": ({"key": "k", "window_seconds": True}, "unique.window_seconds"),
    "mode": ({"key": "k", "mode": "drop"}, "unique.mode"),
    "debounce": ({"key": "k", "mode": "debounce"}, "unique.debounce_max_seconds"),
    "infinite": (
        {"key": "k", "mode": "debounce", "debounce_max_seconds": math.inf},
        "unique.debounce_max_seconds",
    ),
}


@pytest.mark.parametrize(("said", "field"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(said: dict[str, Any], field: str) -> None:
    """Python callers are told the field, and nothing is guessed."""
    with pytest.raises(InvalidJobError) as caught:
        refuse_wrong({"unique": Unique(**said)})
    assert list(caught.value.fields) == [field]

"""Strict JSON."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.api.frame.json_reader import MAX_DEPTH, MAX_VALUES, read_json
from goqueue.engine.options.request_models import path_name
from goqueue.errors import InvalidJobError

KEEPABLE = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | KEEPABLE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEEPABLE, inner, max_size=4),
    max_leaves=20,
)


@given(value=VALUES, ascii_only=st.booleans())
def test_what_can_be_kept_is_read_as_it_is(value: Any, *, ascii_only: bool) -> None:
    """Every value within the rules comes out as it went in, escaped or not."""
    assert read_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(text=st.text(alphabet='[]{}"\\:,a1', max_size=80))
def test_only_errors_of_ours_are_raised(text: str) -> None:
    """Any text is read as the standard library would, or refused with the fields that are wrong."""
    with contextlib.suppress(InvalidJobError):
        assert read_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
@pytest.mark.parametrize("levels", [500, 5_000, 100_000])
def test_no_depth_exhausts_the_stack(opening: bytes, levels: int) -> None:
    """However deep a text is, and even where it is cut off, it is refused, not an error of recursion."""
    with pytest.raises(InvalidJobError) as caught:
        read_json(opening * levels)
    assert "deeper" in str(caught.value)


@pytest.mark.parametrize(
    "make", [lambda n: "[" * n + "]" * n, lambda n: '{"a":' * (n - 1) + "{}" + "}" * (n - 1)]
)
def test_the_limit_of_depth_is_exact(make: Any) -> None:
    """Thirty-two levels are read, thirty-three are refused; brackets in strings do not count."""
    read_json(make(MAX_DEPTH).encode())
    with pytest.raises(InvalidJobError, match="deeper"):
        read_json(make(MAX_DEPTH + 1).encode())
    assert read_json(json.dumps(["[" * 100, '\\"[{' * 50]).encode()) == ["[" * 100, '\\"[{' * 50]


@pytest.mark.parametrize("number", ["9223372036854775807", "-9223372036854775808", "1e308", "-0", "1E-400"])
def test_numbers_that_fit_are_read(number: str) -> None:
    """The largest and smallest that fit are accepted."""
    assert read_json(number.encode()) == json.loads(number)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        pytest.param('{"a": [1, NaN]}', {"a[1]"}, id="NaN"),
        pytest.param('{"a": 1e999, "b": -1e999}', {"a", "b"}, id="overflow twice"),
        pytest.param('[9223372036854775808, {"x": 1, "x": 2}]', {"[0]", "[1]"}, id="different problems"),
        pytest.param('{"a": "\\u0000", "b": {"c": "\\ud83d"}}', {"a", "b.c"}, id="characters"),
        pytest.param("1" + "0" * 5000, {"body"}, id="many digits"),
        pytest.param('"\\ud83d"', {"body"}, id="a surrogate alone"),
    ],
)
def test_wrong_values_are_named(text: str, fields: set[str]) -> None:
    """Every wrong value is named by its path."""
    with pytest.raises(InvalidJobError) as caught:
        read_json(text.encode())
    assert caught.value.fields.keys() == fields


def test_an_escaped_backslash_is_no_nul() -> None:
    """Six characters that look like an escaped NUL are only that; a pair of surrogates is one character."""
    assert read_json(rb'["\\u0000", "\ud83d\ude00"]') == ["\\u0000", "\N{GRINNING FACE}"]


def test_a_path_is_written_as_people_do() -> None:
    """Names are joined by dots, indices stand in brackets, and the whole is the body."""
    assert path_name(("jobs", 3, "payload", "to")) == "jobs[3].payload.to"
    assert path_name(()) == "body"
    assert path_name(("a\ud800",)) == "a\ufffd"
    assert len(path_name(("x" * 1000,))) == 200
    assert math.isfinite(read_json(b"1.5"))


ESCAPES = st.lists(
    st.sampled_from(["\\\\", "\\u0000", "\\ud83d", "\\ude00", "\\u00e9", "u0000", "\\n", "a"]), max_size=8
)


@given(pieces=ESCAPES)
def test_every_escape_that_is_no_character_is_found(pieces: list[str]) -> None:
    """A text is refused exactly when what the standard library reads of it holds a NUL or half of a pair."""
    text = json.dumps("".join(pieces)).replace("\\\\", "\\")
    value = json.loads(text)
    is_storable = not any(letter == "\x00" or "\ud800" <= letter <= "\udfff" for letter in value)
    if is_storable:
        assert read_json(text.encode()) == value
    else:
        with pytest.raises(InvalidJobError, match="NUL"):
            read_json(text.encode())


def test_a_large_text_of_wide_characters_is_the_same_text() -> None:
    """A text that is read in a narrower form means what it says."""
    value = [
        "a" * 1_000_000 + "\N{GRINNING FACE}",
        "\N{EURO SIGN}\\" * 200_000,
        {"\N{GRINNING FACE}": "\N{PILE OF POO}"},
    ] * 4
    assert read_json(json.dumps(value, ensure_ascii=False).encode()) == value
    with pytest.raises(InvalidJobError, match="at byte 6000000"):
        read_json(b'"\xf0\x9f\x98\x80' + b"a" * 5_999_995 + b'\xff"')


def test_values_are_counted_outside_of_strings() -> None:
    """What looks like values inside of strings counts for nothing; one value too many is refused."""
    text = json.dumps([",:[{" * 300_000, '\\"' * 10])
    assert read_json(text.encode()) == json.loads(text)
    most = [0] * (MAX_VALUES - 1)
    assert read_json(json.dumps(most).encode()) == most
    with pytest.raises(InvalidJobError, match="values and names"):
        read_json(json.dumps([*most, 0]).encode())

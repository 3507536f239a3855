"""What counts as a message among runway entries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.config.bounds import FIRST_MOMENT, LAST_MOMENT
from goqueue.engine.runway.runway import Message, ReadyRange, parse
from goqueue.jobs import MAX_JOB_ID

MESSAGES = st.builds(Message, st.integers(1, MAX_JOB_ID), st.integers(0, 999_999_999))
RANKS = st.datetimes(FIRST_MOMENT.replace(tzinfo=None), LAST_MOMENT.replace(tzinfo=None)).map(
    lambda rank: f"{rank.isoformat(' ')}+00"
)
PLACES = st.tuples(RANKS, st.integers(0, MAX_JOB_ID))
RANGES = st.builds(ReadyRange, st.integers(1, 10_000), PLACES, PLACES)
RANGE = b"5 2026-01-02 03:04:05.678901+00/0 2026-01-02 03:04:06+00/7"


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\xff\xfe",
        b"\x00",
        b"1",
        b"1.",
        b".1",
        b"1.0.0",
        b"0.0",
        b"00.1",
        b"01.0",
        b"-1.0",
        b"1.-1",
        b"+1.0",
        b" 1.0",
        b"1.0 ",
        b"1.0\n",
        b"1 .0",
        b"1e3.0",
        b"0x1.0",
        b"1_0.0",
        b"9223372036854775808.0",
        b"9999999999999999999.0",
        b"1.9999999999",
        b"99999999999999999999999999.0",
        "\u0661.\u0660".encode(),
        "\uff11.\uff10".encode(),
        "²".encode(),
        b'{"queue_name": "default"}',
        RANGE + b" ",
        RANGE.replace(b"5 2026", b"0 2026"),
        RANGE.replace(b"-01-02", b"-13-02"),
        RANGE.replace(b"03:04:06", b"99:04:06"),
        RANGE.replace(b"/7", b"/9223372036854775808"),
        RANGE.replace(b"/7", b""),
        RANGE.replace(b"2026-01-02 03:04:06+00", b"-infinity"),
        b"x" * 1_000_000,
    ],
    ids=lambda entry: repr(entry[:30]),
)
def test_garbage_is_no_message(entry: bytes) -> None:
    """An entry that is not exactly an id in range and a fence is garbage, and its mates are not."""
    assert parse([b"1.0", entry, b"2.0"]) == ([Message(1, 0), Message(2, 0)], [], [], [entry])


def test_the_largest_message_is_one() -> None:
    """The largest id and fence that rows can have are messages."""
    assert parse([b"9223372036854775807.999999999"]) == ([Message(MAX_JOB_ID, 999_999_999)], [], [], [])


@given(st.lists(MESSAGES))
def test_messages_come_back_in_order_without_repeats(messages: list[Message]) -> None:
    """What was pushed is what is parsed, in the order of first appearance."""
    parsed, _, _, garbage = parse(message.key.encode() for message in messages)
    assert parsed == list(dict.fromkeys(messages))
    assert garbage == []


@given(st.lists(st.binary(max_size=30)))
def test_every_entry_is_one_or_the_other(entries: list[bytes]) -> None:
    """Whatever the bytes, nothing raises, and each entry is a message or garbage."""
    messages, _, _, garbage = parse(entries)
    texts = {message.key.encode() for message in messages}
    assert all(entry in garbage or entry in texts or b".0" in entry for entry in entries)


@given(st.lists(MESSAGES | RANGES))
def test_the_first_of_a_kind_come_first(entries: list[Message | ReadyRange]) -> None:
    """Messages and ranges come back as they were pushed: the first of one kind, and the rest in order."""
    parsed = parse(entry.key.encode() for entry in entries)
    assert [*parsed.messages, *parsed.ranges, *parsed.rest] == list(dict.fromkeys(entries))
    assert not (parsed.messages and parsed.ranges)
    assert parsed.garbage == []
    if parsed.rest:
        assert isinstance(parsed.rest[0], ReadyRange) == bool(parsed.messages)

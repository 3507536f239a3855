"""Which failures are one problem: messages without what differs, and the function that raised."""

from __future__ import annotations

import json
import string
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.engine import fingerprints
from goqueue.engine.fingerprints import MESSAGE_MAX_CHARACTERS, handler_frame, kind_of, normalise, own_frame

UUID = "6f1c2a3e-1111-4222-8333-444455556666"

MESSAGES = [
    pytest.param("user 42 not found", "user <n> not found", id="number"),
    pytest.param("took 1.5e-3 s, -7 or 1,000,000", "took <n> s, <n> or <n>", id="numbers of all kinds"),
    pytest.param("worker12 of v2", "worker<n> of v<n>", id="numbers in words"),
    pytest.param("ratio 3/4", "ratio <n>/<n>", id="fraction"),
    pytest.param("commit deadbeef01 is bad", "commit <hex> is bad", id="hex"),
    pytest.param("defaced", "defaced", id="a word of hex digits"),
    pytest.param(f"job {UUID.upper()} is gone", "job <uuid> is gone", id="UUID"),
    pytest.param("charge ch_3MqLiJ2eZvKYlo2C", "charge <id>", id="identifier"),
    pytest.param("no key 'it''s'", "no key <string><string>", id="quotes in quotes"),
    pytest.param('expected "a b", got `c`', "expected <string>, got <string>", id="all quotes"),
    pytest.param("can't find the user's cat", "can't find the user's cat", id="apostrophes"),
    pytest.param("<Foo object at 0x7f3aC0>", "<Foo object at <address>>", id="address of memory"),
    pytest.param("10.0.0.1:5432 refused", "<address> refused", id="address of a host"),
    pytest.param("no route to fe80::1:2:3", "no route to <address>", id="IPv6"),
    pytest.param("mail to a.b@example.com bounced", "mail to <address> bounced", id="address of a person"),
    pytest.param("std::vector is empty", "std::vector is empty", id="no address"),
    pytest.param("at 2026-01-02T03:04:05.123Z", "at <time>", id="RFC 3339"),
    pytest.param("at 2026-01-02 03:04:05,123 +0100", "at <time> <n>", id="a log's time"),
    pytest.param("since 12:30:01", "since <time>", id="time of day"),
    pytest.param("cannot open /var/lib/a-1/b.txt", "cannot open <path>", id="path"),
    pytest.param("cannot open ../a/b", "cannot open <path>", id="relative path"),
    pytest.param(r"C:\Users\me\x.txt is locked", "<path> is locked", id="path of Windows"),
    pytest.param("either this and/or that", "either this and/or that", id="no path"),
    pytest.param("https://a.b/c?x=1 answered 503", "<url> answered <n>", id="URL"),
    pytest.param("  two\n lines\t", "two lines", id="white space"),
    pytest.param("zahl ٣٤", "zahl <n>", id="digits of other scripts"),
    pytest.param("", "", id="empty"),
]


@pytest.mark.parametrize(("message", "expected"), MESSAGES)
def test_what_differs_becomes_a_placeholder(message: str, expected: str) -> None:
    """Numbers, identifiers, quotes, addresses, times, paths and URLs are replaced, and nothing else."""
    assert normalise(message) == expected


def test_the_end_of_a_long_message_does_not_matter() -> None:
    """Only the first thousand characters are looked at."""
    start = "a " * (MESSAGE_MAX_CHARACTERS // 2)
    assert normalise(start + "b" * 10_000) == normalise(start + "c" * 10_000)


@given(st.text(alphabet=string.printable + "é\N{SNOWMAN}\udc00", max_size=3000))
def test_any_text_has_a_normal_form(text: str) -> None:
    """Nothing raises, and no digit is left."""
    assert not any(map(str.isdecimal, normalise(text)))


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "piece",
    ["'", '"', "a@", "/a", "0:", "0-", "a.", "a+", "C:\\", "a:", "1,", "0x", "://", ".1", "<n>", "aA0"],
)
def test_the_cost_is_linear(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile text a hundred times as long as the bound is done in moments, not in minutes."""
    length = 100 * MESSAGE_MAX_CHARACTERS
    monkeypatch.setattr(fingerprints, "MESSAGE_MAX_CHARACTERS", length)
    assert normalise(piece * (length // len(piece)))


def test_kinds_are_told_apart_by_type_exception_message_and_frame() -> None:
    """Each of the four makes another fingerprint of 16 hex digits; numbers in the message do not."""
    base = ("a", "ValueError", "user 1", "app.run")
    others = [
        ("b", "ValueError", "user 1", "app.run"),
        ("a", "KeyError", "user 1", "app.run"),
        ("a", "ValueError", "group 1", "app.run"),
        ("a", "ValueError", "user 1", "app.stop"),
        ("a", "ValueError", "user 1", None),
    ]
    fingerprints = {kind_of(*parts).fingerprint for parts in [base, *others]}
    assert len(fingerprints) == 6
    assert all(len(text) == 16 and int(text, 16) >= 0 for text in fingerprints)
    assert kind_of("a", "ValueError", "user 2", "app.run") == kind_of(*base)


def module(name: str, path: str, source: str) -> dict[str, Any]:
    """The names of a module that says it lies there."""
    names: dict[str, Any] = {"__name__": name}
    exec(compile(source, path, "exec"), names)
    return names


CALL = "def call(function, *others):\n    return function(*others)\n"


def traceback_through(*modules: dict[str, Any]) -> types.TracebackType | None:
    """The traceback of an error that the last of these modules raises, called by the one before."""
    try:
        modules[0]["call"](*[names["call"] for names in modules[1:]], json.loads, "{")
    except json.JSONDecodeError as error:
        trace = error.__traceback__
        assert trace is not None
        return trace.tb_next
    raise AssertionError("nothing was raised")


DRAMATIQ = module("dramatiq.worker", "/x/site-packages/dramatiq/worker.py", CALL)
BROKER = module("goqueue.worker.execution", "/x/goqueue/worker/execution.py", CALL)
HANDLER = module("app.jobs", "/srv/app/jobs.py", CALL.replace("call", "handle") + "call = handle\n")
HELPER = module("app.helpers", "/srv/app/helpers.py", CALL)
LIBRARY = module("requests.api", "/x/site-packages/requests/api.py", CALL)
INSTALLED = module("shop.jobs", "/x/site-packages/shop/jobs.py", CALL)
BUILT_IN = module("goqueue.actors.send_email", "/x/site-packages/goqueue/actors/send_email.py", CALL)


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        pytest.param([DRAMATIQ, BROKER, HANDLER], "app.jobs.handle", id="raised in the standard library"),
        pytest.param([BROKER, HANDLER, HELPER, LIBRARY], "app.helpers.call", id="raised in a library"),
        pytest.param([BROKER, INSTALLED, LIBRARY], "shop.jobs.call", id="the user's code is installed"),
        pytest.param([BROKER, LIBRARY, HANDLER], "app.jobs.handle", id="called by a library"),
        pytest.param([BROKER, BUILT_IN, LIBRARY], "goqueue.actors.send_email.call", id="a built-in type"),
    ],
)
def test_the_innermost_own_function_is_found(modules: list[dict[str, Any]], expected: str) -> None:
    """Neither libraries, nor Dramatiq, nor the engine count as the user's code."""
    assert own_frame(traceback_through(*modules)) == expected


def test_the_handler_is_found() -> None:
    """The outermost function behind the engine is the handler."""
    assert handler_frame(traceback_through(DRAMATIQ, BROKER, HANDLER, HELPER)) == "app.jobs.handle"


def test_no_traceback_has_no_function() -> None:
    """An exception that was never raised was raised nowhere."""
    assert own_frame(None) is None
    assert handler_frame(None) is None

"""Payload keys and redaction, without a server: what a setting may say, what is bound, what is hidden."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import orjson
import pytest

from goqueue.config.payload_key_list import parse_payload_keys
from goqueue.config.settings import Settings, load_settings
from goqueue.contents.payload_keys import is_encrypted, key_id_of, keys_of, new_key
from goqueue.contents.redaction import hidden_values, merged, redacted, scrubbed, with_markers
from goqueue.errors import ConfigurationError, UndecryptableError
from goqueue.ops.payload_keys_command import made

ONE, TWO = (b64encode(bytes([number]) * 32).decode() for number in (1, 2))

LISTS = {
    "commas": f"a:{ONE},b:{TWO}",
    "spaces": f" a:{ONE}  b:{TWO} ",
    "lines": f"a:{ONE}\nb:{TWO}",
    "json": orjson.dumps({"a": ONE, "b": TWO}).decode(),
}


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS.keys())
def test_a_list_of_keys_is_read(text: str) -> None:
    """Pairs in any of the usual spellings, in their order."""
    assert list(parse_payload_keys(text).items()) == [("a", b"\x01" * 32), ("b", b"\x02" * 32)]


WRONG = {
    "nothing": ("", "at least one key"),
    "no colon": (ONE, "bytes in base64|ids of 1 to 32"),
    "short": (f"a:{b64encode(b'short').decode()}", "expected 32 bytes"),
    "no base64": ("a:%%%", "expected 32 bytes"),
    "a wrong id": (f"a b:{ONE}", "bytes in base64|ids"),
    "twice": (f"a:{ONE},a:{TWO}", "each key id once"),
    "broken json": ("{", "JSON object"),
}


@pytest.mark.parametrize(("text", "expected"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_list_of_keys_is_refused_without_showing_it(text: str, expected: str) -> None:
    """The message says what was expected, and has no part of a key."""
    with pytest.raises(ValueError, match=expected) as raised:
        parse_payload_keys(text)
    assert ONE not in str(raised.value)


def test_settings_show_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither `goqueue check` nor a log line has one; and encryption without one is refused at the start."""
    settings = Settings(payload_keys=LISTS["json"])
    assert ONE not in f"{settings!r} {settings.masked()}"
    assert {ONE, TWO} <= set(settings.secrets())
    monkeypatch.setenv("GOQUEUE_ENCRYPT_PAYLOADS", "true")
    with pytest.raises(ConfigurationError, match="GOQUEUE_ENCRYPT_PAYLOADS: expected GOQUEUE_PAYLOAD_KEYS"):
        load_settings()


def test_a_made_key_is_one() -> None:
    """What the command prints is what the setting takes; an id that is none is refused."""
    assert list(parse_payload_keys(made("2026-11"))) == ["2026-11"]
    assert len(parse_payload_keys(made(None))) == 1
    with pytest.raises(ConfigurationError, match="an id of 1 to 32"):
        made("a:b")


def test_an_envelope_is_json_of_its_key_and_its_purpose() -> None:
    """It says which key encrypts it, is different each time, and is opened as nothing but what it was."""
    keys = keys_of(LISTS["commas"])
    first, second = keys.encrypt("secret", "result 7"), keys.encrypt("secret", "result 7")
    assert first != second
    assert is_encrypted(first)
    assert key_id_of(first) == "a"
    assert keys.decrypt(orjson.loads(first), "result 7") == "secret"
    with pytest.raises(UndecryptableError, match="it was changed, or belongs somewhere else"):
        keys.decrypt(orjson.loads(first), "result 8")
    with pytest.raises(UndecryptableError, match="'a' is not among"):
        keys_of(f"b:{TWO}").decrypt(orjson.loads(first), "result 7")


def test_a_fingerprint_stays_while_a_new_first_key_comes_in() -> None:
    """It is made with the last key; those of the other keys are known, for what was made before."""
    before, during = keys_of(f"a:{ONE}"), keys_of(f"b:{TWO},a:{ONE}")
    after = keys_of(f"b:{TWO}")
    assert before.fingerprint(b"x") == during.fingerprint(b"x") != after.fingerprint(b"x")
    assert after.fingerprint(b"x") in during.fingerprints(b"x")
    assert keys_of(new_key("c")).fingerprint(b"x") != before.fingerprint(b"x")


NAMES = frozenset({"card", "token"})


def test_fields_are_redacted_at_any_depth() -> None:
    """By their names in any case, in lists as well; a null is told."""
    value = {"a": [{"Card": "1", "b": {"TOKEN": [1, 2]}}], "card": None, "cards": 7}
    shown = {"a": [{"Card": "[redacted]", "b": {"TOKEN": "[redacted]"}}], "card": None, "cards": 7}
    assert redacted(value, NAMES) == shown


def test_a_marker_stands_for_what_is_stored_at_its_path() -> None:
    """Other values and other texts of the marker stay; without a stored value it is refused."""
    stored = {"card": "1", "items": [{"token": {"a": 1}}, {"token": 2}], "note": "x"}
    sent = {"card": "[redacted]", "items": [{"token": "[redacted]"}, {"token": 3}], "note": "[redacted]"}
    expected = {"card": "1", "items": [{"token": {"a": 1}}, {"token": 3}], "note": "[redacted]"}
    assert merged(sent, stored, NAMES) == expected
    for wrong, path in (
        ({"items": [{}, {}, {"token": "[redacted]"}]}, "payload.items[2].token"),
        ({"other": {"card": "[redacted]"}}, "payload.other.card"),
    ):
        with pytest.raises(LookupError, match=path.replace("[", r"\[")):
            merged(wrong, stored, NAMES)


SCRUBBED = {
    "a text": ("no 4111 2222 here", "no [redacted] here"),
    "twice": ("4111 2222, 4111 2222", "[redacted], [redacted]"),
    "a short number alone": ("code 123!", "code [redacted]!"),
    "a short number in another": ("id 41234", "id 41234"),
    "a word in a word": ("abcdefgh", "abcdefgh"),
    "nothing": ("all is well", "all is well"),
}


@pytest.mark.parametrize(("text", "expected"), SCRUBBED.values(), ids=SCRUBBED.keys())
def test_texts_are_scrubbed_of_hidden_values(text: str, expected: str) -> None:
    """Each value is taken out wherever it is quoted; a short one only where it stands alone."""
    payload: dict[str, Any] = {"card": "4111 2222", "x": {"token": [123, "bcd", True, "no"]}, "free": "well"}
    hidden = hidden_values(payload, NAMES)
    assert hidden == ("4111 2222", *sorted(("123", "bcd"), key=hidden.index))
    assert scrubbed(text, hidden) == expected


def test_markers_stand_in_values_and_texts() -> None:
    """A copy of a payload for another type has no hidden value, as a number or within a text."""
    value = {"args": [{"n": 123, "text": "code 123"}, True, None, 1234]}
    assert with_markers(value, ("123",)) == {
        "args": [{"n": "[redacted]", "text": "code [redacted]"}, True, None, 1234]
    }

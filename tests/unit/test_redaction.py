"""Taking secrets out of texts that people read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.config import redaction
from goqueue.config.redaction import MASK, masked_url, protect, redact, redact_values

SECRET = "hunter2-0123456789"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7hunter2\nabc\n-----END RSA PRIVATE KEY-----"


@pytest.fixture(autouse=True)
def nothing_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins without values of settings."""
    monkeypatch.setattr(redaction._Values, "known", frozenset())  # noqa: SLF001  (what the process knows already)
    monkeypatch.setattr(redaction._Values, "pattern", None)  # noqa: SLF001  (what the process knows already)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        pytest.param(
            f"connecting to postgresql://app:{SECRET}@db.internal:5432/shop failed",
            f"connecting to postgresql://{MASK}@db.internal:5432/shop failed",
            id="url",
        ),
        pytest.param("redis://:p/a#s?s@h:1/0", f"redis://{MASK}@h:1/0", id="url, not encoded"),
        pytest.param("smtps://u:p@ss@mail", f"smtps://{MASK}@mail", id="url, with an @ in the password"),
        pytest.param(f"Bearer {SECRET}", f"Bearer {MASK}", id="bearer"),
        pytest.param(
            f"{{'Authorization': 'Basic {SECRET}'}}", f"{{'Authorization': 'Basic {MASK}'}}", id="basic"
        ),
        pytest.param(f"authorization: {SECRET}", f"authorization: {MASK}", id="bare authorization"),
        pytest.param(f"the key whsec_{SECRET} is old", f"the key {MASK} is old", id="webhook secret"),
        pytest.param(f"'gq_{SECRET}'", f"'{MASK}'", id="API key"),
        pytest.param(f"got {JWT}.", f"got {MASK}.", id="JWT"),
        pytest.param(f"cannot read {PEM} here", f"cannot read {MASK} here", id="PEM"),
        pytest.param(PEM[:70], MASK, id="PEM, cut"),
        pytest.param(repr(PEM), f"'{MASK}'", id="PEM, as a literal"),
        pytest.param(f"host=db password={SECRET} user=a", f"host=db password={MASK} user=a", id="libpq"),
        pytest.param(f"?api_key={SECRET}&page=2", f"?api_key={MASK}&page=2", id="query"),
        pytest.param(f'{{"client_secret": "{SECRET}"}}', f'{{"client_secret": "{MASK}"}}', id="JSON"),
        pytest.param(f"{{'db_password': '{SECRET}'}}", f"{{'db_password': '{MASK}'}}", id="dict"),
        pytest.param("ghp_0123456789abcdef0123", MASK, id="GitHub"),
        pytest.param("sk_live_0123456789abcdef", MASK, id="Stripe"),
        pytest.param("AKIAIOSFODNN7EXAMPLE", MASK, id="AWS"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, redacted: str) -> None:
    """The secret goes, and what tells of the error stays."""
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "the bearer of bad news",
        "Bearer authentication is required",
        "expected a password: none was given",
        "the token: expected 3 characters, got 2",
        "see https://example.com/jobs?page=2#top and mail ada@example.com",
        "http://localhost:8000/jobs/17 answered 503",
        "a secret is no error",
        "gq_short",
        "connection to server at 127.0.0.1, port 5432 failed: Connection refused",
        "",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    """An error that tells of no secret is told as it is."""
    assert redact(text) == text


def test_values_of_settings_are_masked_wherever_they_stand() -> None:
    """Also where nothing around them looks like a secret, and percent-encoded or not."""
    protect([f"postgresql://app:p%40ss%2Fword@db/x?sslpassword={SECRET}", "a plain secret value"])
    for value in ("p%40ss%2Fword", "p@ss/word", SECRET, "a plain secret value"):
        assert redact(f"before{value}after") == f"before{MASK}after"


def test_a_value_that_is_a_word_stays_a_word() -> None:
    """A password of a few letters would be found all over the log."""
    protect(["postgresql://app:goqueue@db/x"])
    assert redact("goqueue has started") == "goqueue has started"


def test_values_of_log_lines_are_looked_into() -> None:
    """Texts in lists and mappings are redacted; what is no text stays what it is."""
    line = {"a": [f"Bearer {SECRET}", 7], "b": {"c": (f"password={SECRET}", None)}, "d": 1.5}
    assert redact_values(line) == {
        "a": [f"Bearer {MASK}", 7],
        "b": {"c": (f"password={MASK}", None)},
        "d": 1.5,
    }


@given(st.text(max_size=400))
def test_any_text_is_redacted_once(text: str) -> None:
    """No text raises, and one that was redacted stays as it is."""
    once = redact(text)
    assert redact(once) == once


@pytest.mark.parametrize(
    "piece",
    ["a://", "-----BEGIN PRIVATE KEY-----", "eyJaaaaaaaa.", "password=", "Bearer ", "x:y@", "'secret':"],
)
def test_long_texts_are_read_in_linear_steps(piece: str) -> None:
    """A text of the longest kind, made of beginnings of secrets, is read to its end."""
    text = piece * (redaction.TEXT_MAX_CHARACTERS // len(piece) // 4)
    assert redact(text)


@given(
    st.sampled_from(["postgresql", "redis+sentinel", "smtps", "https"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1, max_size=30),
    st.sampled_from(["/db", ":5432/db", "", "/db?sslmode=require&password=", "/#"]),
)
def test_no_password_is_left_in_a_masked_url(scheme: str, password: str, place: str) -> None:
    """Whatever characters a password has, encoded or not, nothing between user and host is shown."""
    url = f"{scheme}://user:{password}\x00@host{place}{password if place.endswith('=') else ''}"
    shown = masked_url(url)
    assert shown.startswith(f"{scheme}://{MASK}@")
    assert "\x00" not in shown
    assert "user" not in shown
    assert shown.startswith(f"{scheme}://{MASK}@host") or ("@" in password and place.endswith("="))


def test_json_that_was_redacted_is_json() -> None:
    """A log line is still read by machines."""
    document: dict[str, Any] = {
        "error": f"password={SECRET}",
        "url": "https://a:b@c/",
        "token": SECRET,
    }
    assert json.loads(redact(json.dumps(document)))["token"] == MASK

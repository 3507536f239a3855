"""Who sits before a browser: signed cookies, and tokens that are of one session."""

from __future__ import annotations

import time

import pytest
from pydantic import SecretStr, ValidationError

from goqueue.config.settings import Settings
from goqueue.dashboard.access.sessions import Session, Sessions
from goqueue.db.database import Database


def sessions_signed_by(secret: str) -> Sessions:
    """Those of a dashboard that is given its secret: nothing connects."""
    settings = Settings(api_keys=("0" * 64,), session_secret=SecretStr(secret))
    return Sessions(settings, Database(settings))


@pytest.fixture
def sessions() -> Sessions:
    """Those of a dashboard."""
    return sessions_signed_by("a" * 32)


def test_a_session_comes_back_as_it_was(sessions: Sessions) -> None:
    """From its cookie, in every process that has the same settings."""
    session = sessions.begin()
    assert sessions_signed_by("a" * 32).read(sessions.write(session)) == session


def test_no_two_sessions_are_alike(sessions: Sessions) -> None:
    """Their names are random."""
    assert len({sessions.begin().name for _ in range(50)}) == 50


@pytest.mark.parametrize(
    "cookie",
    [None, "", ".", "a.1.9", "a.1.9999999999.", "a.1.x.y", "\xff.\xff", "ü.1.9.ü", "\ud800.9.\ud800"],
)
def test_what_is_not_ours_is_no_session(sessions: Sessions, cookie: str | None) -> None:
    """Whatever a browser sends, it is refused and never an error."""
    assert sessions.read(cookie) is None


def test_every_character_is_signed(sessions: Sessions) -> None:
    """A cookie with any one character changed is none."""
    cookie = sessions.write(sessions.begin())
    for at, was in enumerate(cookie):
        changed = cookie[:at] + ("0" if was != "0" else "1") + cookie[at + 1 :]
        assert sessions.read(changed) is None, at


def test_a_session_ends(sessions: Sessions) -> None:
    """At its time, to the second."""
    assert sessions.read(sessions.write(Session("a", expires_at=int(time.time()) - 1))) is None


def test_a_token_is_of_one_session_and_is_no_cookie(sessions: Sessions) -> None:
    """It opens no other session's forms; what signs cookies signs no forms."""
    mine, other = sessions.begin(), sessions.begin()
    assert sessions.accepts(mine, sessions.token(mine))
    assert not sessions.accepts(mine, sessions.token(other))
    assert not sessions.accepts(mine, "")
    assert not sessions.accepts(mine, sessions.write(mine).rpartition(".")[2])
    assert not sessions.accepts(mine, "ü")
    assert not sessions.accepts(mine, "\ud800")


def test_a_token_is_another_text_each_time(sessions: Sessions) -> None:
    """All of them are good, and no two of them have a byte in common more often than by chance."""
    session = sessions.begin()
    tokens = [sessions.token(session) for _ in range(50)]
    assert all(sessions.accepts(session, token) for token in tokens)
    assert len({token[:64] for token in tokens}) == len({token[64:] for token in tokens}) == 50
    token = tokens[0]
    for at, was in enumerate(token):
        assert not sessions.accepts(session, f"{token[:at]}{'0' if was != '0' else '1'}{token[at + 1 :]}")


def test_another_secret_ends_every_session(sessions: Sessions) -> None:
    """What was signed with another secret is not ours."""
    assert sessions_signed_by("b" * 32).read(sessions.write(sessions.begin())) is None


def test_a_short_secret_is_refused() -> None:
    """Somebody could guess it."""
    with pytest.raises(ValidationError, match="at least 32 characters"):
        Settings(session_secret=SecretStr("a" * 31))

"""Who sits before a browser: signed cookies, and tokens that are of one session."""

from __future__ import annotations

import time

import pytest

from goqueue.config import Settings
from goqueue.dashboard.sessions import Session, Sessions


@pytest.fixture
def sessions() -> Sessions:
    """Those of a dashboard."""
    return Sessions(Settings(api_keys=("0" * 64,)))


@pytest.mark.parametrize("knows_key", [True, False])
def test_a_session_comes_back_as_it_was(sessions: Sessions, knows_key: bool) -> None:
    """From its cookie, in every process that has the same settings."""
    session = sessions.begin(knows_key=knows_key)
    assert Sessions(Settings(api_keys=("0" * 64,))).read(sessions.write(session)) == session


def test_no_two_sessions_are_alike(sessions: Sessions) -> None:
    """Their names are random."""
    assert len({sessions.begin(knows_key=True).name for _ in range(50)}) == 50


@pytest.mark.parametrize(
    "cookie", [None, "", ".", "a.1.9", "a.1.9999999999.", "a.1.x.y", "\xff.\xff", "ü.1.9.ü"]
)
def test_what_is_not_ours_is_no_session(sessions: Sessions, cookie: str | None) -> None:
    """Whatever a browser sends, it is refused and never an error."""
    assert sessions.read(cookie) is None


def test_every_character_is_signed(sessions: Sessions) -> None:
    """A cookie with any one character changed is none."""
    cookie = sessions.write(sessions.begin(knows_key=False))
    for at, was in enumerate(cookie):
        changed = cookie[:at] + ("0" if was != "0" else "1") + cookie[at + 1 :]
        assert sessions.read(changed) is None, at


def test_a_session_ends(sessions: Sessions) -> None:
    """At its time, to the second."""
    assert (
        sessions.read(sessions.write(Session("a", knows_key=True, expires_at=int(time.time()) - 1))) is None
    )


def test_a_token_is_of_one_session_and_is_no_cookie(sessions: Sessions) -> None:
    """It opens no other session's forms; what signs cookies signs no forms."""
    mine, other = sessions.begin(knows_key=True), sessions.begin(knows_key=True)
    assert sessions.accepts(mine, sessions.token(mine))
    assert not sessions.accepts(mine, sessions.token(other))
    assert not sessions.accepts(mine, "")
    assert not sessions.accepts(mine, sessions.write(mine).rpartition(".")[2])
    assert not sessions.accepts(mine, "ü")


@pytest.mark.parametrize(
    "changes", [{"api_keys": ("1" * 64,)}, {"api_keys": ()}, {"namespace": "other"}], ids=str
)
def test_other_settings_end_every_session(sessions: Sessions, changes: dict[str, object]) -> None:
    """Another key, another place: another secret."""
    other = Sessions(Settings(api_keys=("0" * 64,)).model_copy(update=changes))
    assert other.read(sessions.write(sessions.begin(knows_key=True))) is None

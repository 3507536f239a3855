"""Who sits before a browser: signed cookies, and tokens that are of one session."""

from __future__ import annotations

import time

import pytest
from pydantic import SecretStr, ValidationError

from goqueue.config.settings import Settings
from goqueue.dashboard.access.signing import Session, SessionSigner
from goqueue.db.database import Database


def signer_of(secret: str) -> SessionSigner:
    """Those of a dashboard that is given its secret: nothing connects."""
    settings = Settings(api_keys=("0" * 64,), session_secret=SecretStr(secret))
    return SessionSigner(settings, Database(settings))


@pytest.fixture
def signer() -> SessionSigner:
    """Those of a dashboard."""
    return signer_of("a" * 32)


def test_a_session_comes_back_as_it_was(signer: SessionSigner) -> None:
    """From its cookie, in every process that has the same settings."""
    session = Session.begin()
    assert signer_of("a" * 32).read(signer.write(session)) == session


def test_no_two_sessions_are_alike() -> None:
    """Their names are random."""
    assert len({Session.begin().name for _ in range(50)}) == 50


@pytest.mark.parametrize(
    "cookie",
    [None, "", ".", "a.1.9", "a.1.9999999999.", "a.1.x.y", "\xff.\xff", "ü.1.9.ü", "\ud800.9.\ud800"],
)
def test_what_is_not_ours_is_no_session(signer: SessionSigner, cookie: str | None) -> None:
    """Whatever a browser sends, it is refused and never an error."""
    assert signer.read(cookie) is None


def test_every_character_is_signed(signer: SessionSigner) -> None:
    """A cookie with any one character changed is none."""
    cookie = signer.write(Session.begin())
    for at, was in enumerate(cookie):
        changed = cookie[:at] + ("0" if was != "0" else "1") + cookie[at + 1 :]
        assert signer.read(changed) is None, at


def test_a_session_ends(signer: SessionSigner) -> None:
    """At its time, to the second."""
    assert signer.read(signer.write(Session("a", expires_at=int(time.time()) - 1))) is None


def test_a_token_is_of_one_session_and_is_no_cookie(signer: SessionSigner) -> None:
    """It opens no other session's forms; what signs cookies signs no forms."""
    mine, other = Session.begin(), Session.begin()
    assert signer.accepts(mine, signer.token(mine))
    assert not signer.accepts(mine, signer.token(other))
    assert not signer.accepts(mine, "")
    assert not signer.accepts(mine, signer.write(mine).rpartition(".")[2])
    assert not signer.accepts(mine, "ü")
    assert not signer.accepts(mine, "\ud800")


def test_a_token_is_another_text_each_time(signer: SessionSigner) -> None:
    """All of them are good, and no two of them have a byte in common more often than by chance."""
    session = Session.begin()
    tokens = [signer.token(session) for _ in range(50)]
    assert all(signer.accepts(session, token) for token in tokens)
    assert len({token[:64] for token in tokens}) == len({token[64:] for token in tokens}) == 50
    token = tokens[0]
    for at, was in enumerate(token):
        assert not signer.accepts(session, f"{token[:at]}{'0' if was != '0' else '1'}{token[at + 1 :]}")


def test_another_secret_ends_every_session(signer: SessionSigner) -> None:
    """What was signed with another secret is not ours."""
    assert signer_of("b" * 32).read(signer.write(Session.begin())) is None


def test_a_short_secret_is_refused() -> None:
    """Somebody could guess it."""
    with pytest.raises(ValidationError, match="at least 32 characters"):
        Settings(session_secret=SecretStr("a" * 31))

"""`goqueue keys` at a terminal."""

from __future__ import annotations

import pytest

from goqueue import cli
from goqueue.access.key_ring import KeyRing
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """The command works on the database of the tests."""
    monkeypatch.setattr(cli, "load_settings", lambda **_: settings)


def test_the_life_of_a_key(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    """Its text alone is on standard output, for whoever pipes it into a store of secrets."""
    assert cli.main(["keys", "create", "shop", "client", "jobs:manage", "--queue", "mail"]) == 0
    printed = capsys.readouterr()
    text = printed.out.strip()
    assert printed.out == f"{text}\n"
    assert "GOQUEUE_API_KEYS_REQUIRED=true" in printed.err
    principal = KeyRing((), database).find(text)
    assert principal is not None
    assert principal.queues == frozenset({"mail"})
    key_id = principal.key_id or ""

    assert cli.main(["keys", "list"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["ID", "NAME", "STATE", "SCOPES", "ONLY", "LAST", "USED", "ENDS"]
    assert row.split()[:3] == [key_id, "shop", "active"]
    assert "queue mail" in row

    assert cli.main(["keys", "rotate", key_id, "--overlap", "0"]) == 0
    rotated = capsys.readouterr().out.strip()
    assert KeyRing((), database).find(text) is None
    assert KeyRing((), database).find(rotated) is not None

    assert cli.main(["keys", "revoke", key_id]) == 0
    assert "is revoked" in capsys.readouterr().out
    assert KeyRing((), database).find(rotated) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "shop", "king"], "there is no scope or role 'king'"),
        (["revoke", "nosuch"], "there is no API key 'nosuch'"),
        (["rotate", "nosuch"], "there is no API key 'nosuch'"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the exit code is 2."""
    assert cli.main(["keys", *arguments]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1

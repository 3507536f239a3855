"""`goqueue webhooks` at a terminal."""

from __future__ import annotations

import pytest

from goqueue import cli
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.instance import GoQueue
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

URL = "https://93.184.216.34/hook"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """The command works on the database of the tests."""
    monkeypatch.setattr(cli, "load_settings", lambda **_: settings)


def test_the_life_of_a_webhook(
    settings: Settings, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its secret alone is on standard output, for whoever pipes it into a store of secrets."""
    said = ["--event", "job.failed", "--queue", "mail", "--header", "X-Tenant: acme", "--ordered"]
    assert cli.main(["webhooks", "create", "shop", URL, *said]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("whsec_")
    assert len(printed.out.splitlines()) == 1
    webhooks = GoQueue(settings, database=database).webhooks
    webhook = webhooks.get("shop")
    assert (webhook.events, webhook.queues, webhook.ordered) == (("job.failed",), ("mail",), True)
    assert webhook.headers == {"X-Tenant": "acme"}
    assert webhook.created_by.endswith(" at a terminal")

    assert cli.main(["webhooks", "list"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["NAME", "STATE", "URL"]
    assert row.split()[:4] == ["shop", "active", URL, "job.failed"]

    assert cli.main(["webhooks", "rotate", "shop", "--overlap", "2"]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == webhooks.get("shop").secret
    assert "the secret before signs as well until" in printed.err

    assert cli.main(["webhooks", "ping", "shop"]) == 0
    assert "is on its way" in capsys.readouterr().out
    assert cli.main(["webhooks", "deliveries", "shop", "--state", "pending"]) == 0
    assert "webhook.ping" in capsys.readouterr().out

    assert cli.main(["webhooks", "disable", "shop", "--reason", "moves house"]) == 0
    assert "moves house" in capsys.readouterr().out
    assert cli.main(["webhooks", "enable", "shop"]) == 0
    assert cli.main(["webhooks", "redeliver", "shop", "--days", "1"]) == 0
    assert "0 deliveries" in capsys.readouterr().out
    assert cli.main(["webhooks", "delete", "shop"]) == 0
    assert webhooks.list() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "shop", "http://10.0.0.1/"], "not global"),
        (["create", "a/b", URL], "name"),
        (["create", "shop", URL, "--event", "job.lost"], "kind of event"),
        (["ping", "nosuch"], "there is no webhook 'nosuch'"),
        (["redeliver", "nosuch", "--id", "1"], "there is no webhook 'nosuch'"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the exit code is 2."""
    assert cli.main(["webhooks", *arguments]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1

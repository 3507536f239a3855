"""The `goqueue` command: what it prints and with which code it exits."""

from __future__ import annotations

import hashlib

import pytest

from goqueue.cli import main
from goqueue.config.settings import load_settings


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`goqueue --help` shows all commands and exits with 0."""
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for command in (
        "migrate",
        "check",
        "api",
        "worker",
        "scheduler",
        "dev",
        "demo",
        "namespaces",
        "explain",
        "alert-rules",
        "key",
    ):
        assert f"\n    {command}" in text


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["dev", "--port", "65536"], ["worker", "--threads", "0"]], ids=" ".join
)
def test_wrong_usage_is_exit_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong arguments are told on standard error, with the usage."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage: goqueue" in capsys.readouterr().err


def test_key_prints_the_hash_that_the_setting_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """`goqueue key` prints a new key, and the hash of it that GOQUEUE_API_KEYS accepts."""
    assert main(["key"]) == 0
    key, key_hash = (line.split()[-1] for line in capsys.readouterr().out.splitlines())
    assert hashlib.sha256(key.encode()).hexdigest() == key_hash
    assert load_settings(api_keys=key_hash).api_keys == (key_hash,)


def test_keys_differ(capsys: pytest.CaptureFixture[str]) -> None:
    """Two keys are never the same."""
    main(["key"])
    main(["key"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] != lines[2]


@pytest.mark.parametrize("command", ["check", "migrate", "api", "worker", "scheduler", "dev"])
def test_every_wrong_setting_is_one_line(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command with wrong settings names all of them, each on a line, and exits with 2."""
    monkeypatch.setenv("GOQUEUE_API_PORT", "many")
    monkeypatch.setenv("GOQUEUE_DATABASE_URL", "mysql://localhost")
    monkeypatch.setenv("GOQUEUE_NO_SUCH", "1")
    assert main([command]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [
        "GOQUEUE_NO_SUCH",
        "GOQUEUE_DATABASE_URL",
        "GOQUEUE_API_PORT",
    ]

"""Namespaces as settings know them: names of those inside of a database, and the file of installations."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goqueue.errors import ConfigurationError

__all__ = [
    "DEFAULT_NAMESPACE",
    "NAME_INSIDE",
    "NAME_INSIDE_EXPECTED",
    "SERVER_SETTINGS",
    "ServersOfNamespaces",
    "read_namespaces",
    "schema_of_namespace",
]

#: What keys and pages call the installation itself, beside the namespaces inside of its database.
DEFAULT_NAMESPACE = "default"

#: What a namespace inside of a database may be called.
NAME_INSIDE = re.compile(r"(?!default$)[a-z0-9][a-z0-9_-]{0,31}")
NAME_INSIDE_EXPECTED = (
    "expected up to 32 small letters, digits, _ and -, the first one no _ or -, and not the word default"
)

#: PostgreSQL cuts longer names off; that of the schema of the audit log has six letters more.
_SCHEMA_MAX_BYTES = 63 - len("_audit")

#: What a namespace of the file may be called: it stands in addresses and before every key in Redis.
NAME = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,62}")

#: What the file may say of a namespace. What it does not say is as the environment has it, but for the other
#: ways to a database, which are those of one database.
SERVER_SETTINGS = frozenset(
    {
        "database_url",
        "database_direct_url",
        "read_database_url",
        "redis_url",
        "database_pool_size",
        "database_connect_timeout_seconds",
        "database_statement_timeout_seconds",
        "database_lock_timeout_seconds",
        "database_idle_transaction_timeout_seconds",
        "redis_timeout_seconds",
    }
)

_NO_OTHER_WAYS: dict[str, Any] = {"database_direct_url": None, "read_database_url": None}

#: Namespace → the names and values of its settings, in the order of the file.
ServersOfNamespaces = Mapping[str, Mapping[str, Any]]


def schema_of_namespace(installation: str, name: str) -> str:
    """Name the schema of a namespace inside of the database of an installation."""
    schema = f"{installation}_ns_{name}"
    if len(schema) <= _SCHEMA_MAX_BYTES:
        return schema
    return f"{schema[: _SCHEMA_MAX_BYTES - 9]}_{hashlib.sha256(schema.encode()).hexdigest()[:8]}"


def read_namespaces(path: str) -> ServersOfNamespaces:
    """Read a file of namespaces: TOML, a table for each, with the settings of its servers.

    Raises:
        ConfigurationError: it cannot be read, or with a line for each thing that is wrong in it. No line
            quotes a value: URLs have passwords.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError([_problem(f"{path}: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise ConfigurationError([_problem(f"{path}: expected text in UTF-8")]) from None
    except tomllib.TOMLDecodeError as error:
        # Its text says where, and at most one character of what stands there.
        raise ConfigurationError([_problem(f"{path}: expected TOML: {error}")]) from None
    problems = [line for name, table in tables.items() for line in _problems_of(name, table)]
    problems = problems or _shared_databases(tables)
    if not tables:
        problems = ["expected at least one table, as [name]"]
    if problems:
        raise ConfigurationError([_problem(f"{path}: {line}") for line in problems])
    return {name: _NO_OTHER_WAYS | table for name, table in tables.items()}


def _problem(text: str) -> str:
    return f"GOQUEUE_NAMESPACES_FILE: {text}"


def _problems_of(name: str, table: Any) -> list[str]:
    if not NAME.fullmatch(name):
        return [f"{name[:63]!r}: expected up to 63 letters, digits, _, . and -, the first one no . or -"]
    if not isinstance(table, Mapping):
        return [f"{name}: expected a table, as [{name}]"]
    problems = [f"{name}: {key} is no setting of its servers" for key in table.keys() - SERVER_SETTINGS]
    if "database_url" not in table:
        problems.append(f"{name}: expected a database_url")
    return sorted(problems)


def _shared_databases(tables: ServersOfNamespaces) -> list[str]:
    """Two namespaces of one database would be two names of the same jobs, dispatched to two runways."""
    owners: dict[str, str] = {}
    shared: dict[str, str] = {}
    for name, table in tables.items():
        for setting in ("database_url", "database_direct_url"):
            owner = owners.setdefault(str(table[setting]), name) if setting in table else name
            if owner != name:
                shared[name] = owner
    return [f"{name}: expected a database of its own, got that of {owner}" for name, owner in shared.items()]

"""`goqueue namespaces`: the namespaces inside of the database, made, listed, changed and deleted."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC

from goqueue.access.namespace_rows import Namespace
from goqueue.access.namespaces import Namespaces
from goqueue.access.quotas import QUOTA_NAMES, QuotaChanges, Quotas
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.options.request_models import validate
from goqueue.errors import ConfigurationError

__all__ = ["run"]

_HEAD = (
    "NAME",
    "MADE",
    "BY",
    *(name.upper().replace("_", " ") for name in QUOTA_NAMES),
    "WAITING",
    "RUNNING",
)


def run(settings: Settings, options: argparse.Namespace) -> str:
    """Do what the command line says, and return what is printed.

    Raises:
        ConfigurationError: the process belongs to a namespace inside of the database itself.
        InvalidJobError: a name or a quota is wrong.
        NamespaceNotFoundError: there is no such namespace.
        NamespaceConflictError: there is one already; or jobs of it wait or run.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    if options.action is None:
        return "\n".join(settings.names_of_namespaces())
    if settings.database_namespace is not None:
        raise ConfigurationError(["namespaces are made from the installation itself: leave --namespace out"])
    with closing(Database(settings, application_name="goqueue-namespaces")) as database:
        return _do(Namespaces(settings, database), options)


def _do(namespaces: Namespaces, options: argparse.Namespace) -> str:
    by = f"{getpass.getuser()} at a terminal"
    if options.action == "list":
        return _table([_HEAD, *(_row(namespaces, one) for one in namespaces.every())])
    if options.action == "delete":
        namespaces.delete(options.name, force=options.force, by=by)
        return f"the namespace {options.name} is deleted, and its keys are revoked"
    said = {name: getattr(options, name) for name in QUOTA_NAMES if getattr(options, name) is not None}
    # `none` takes one away.
    changes = validate(
        QuotaChanges, {name: None if value == "none" else value for name, value in said.items()}
    )
    if options.action == "create":
        made = namespaces.create(options.name, changes.of(Quotas()), by=by)
        return f"the namespace {made.name} is made"
    changed = namespaces.change(options.name, changes)
    return _table([_HEAD, _row(namespaces, changed)])


def _row(namespaces: Namespaces, one: Namespace) -> Sequence[str]:
    use = namespaces.use_of(one.name)
    quotas = (getattr(one.quotas, name) for name in QUOTA_NAMES)
    return (
        one.name,
        f"{one.created_at.astimezone(UTC):%Y-%m-%d %H:%M}",
        one.created_by,
        *(
            "-" if quota is None else f"{quota:g}" if isinstance(quota, float) else str(quota)
            for quota in quotas
        ),
        str(use.waiting),
        str(use.running),
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)

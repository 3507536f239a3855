"""`goqueue payload-keys`: the keys that contents of jobs are encrypted with, made, counted and rotated."""

from __future__ import annotations

import argparse
import getpass
from collections import Counter
from datetime import UTC, datetime

from goqueue.audit import audit_rows as audit
from goqueue.config.settings import Settings
from goqueue.contents.payload_keys import new_key
from goqueue.db.database import Database
from goqueue.engine import reencryption_order_rows as orders
from goqueue.engine import reencryption_rows as reencryption
from goqueue.engine.reencryption_order_rows import Reencryption
from goqueue.errors import ConfigurationError

__all__ = ["made", "run"]

#: The encrypted jobs of one statement that counts.
COUNTED_AT_ONCE = 1_000


def made(key_id: str | None) -> str:
    """Make a key, and return it as GOQUEUE_PAYLOAD_KEYS has it; without an id, it is called by its day.

    Raises:
        ConfigurationError: the id is none.
    """
    try:
        return new_key(key_id or f"{datetime.now(UTC):%Y-%m-%d}")
    except ValueError as error:
        raise ConfigurationError([str(error)]) from None


def run(settings: Settings, options: argparse.Namespace) -> str:
    """Do what the command line says; what there is then.

    Raises:
        ConfigurationError: this process has no keys.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    database = Database(settings, application_name="goqueue-payload-keys")
    try:
        if options.action == "reencrypt":
            return _ordered(database, options.rate)
        if options.action == "stop":
            return _stopped(database)
        return _listed(database)
    finally:
        database.close()


def _ordered(database: Database, rate: float | None) -> str:
    if database.contents.keys is None:
        raise ConfigurationError(["GOQUEUE_PAYLOAD_KEYS: expected the keys, as the scheduler has them"])
    key_id = database.contents.keys.encrypting_id
    with database.transaction() as connection:
        order = orders.begin(connection, key_id, rate=rate, by=f"{getpass.getuser()} at a terminal")
        audit.record(connection, "payload_keys.reencrypt", f"payload key {key_id}", after={"rate": rate})
    return (
        f"order {order.id}: the scheduler encrypts everything with {key_id}; "
        "`goqueue payload-keys list` says how far it is"
    )


def _stopped(database: Database) -> str:
    with database.transaction() as connection:
        stopped = orders.stop(connection)
        if stopped:
            audit.record(connection, "payload_keys.stop", "payload keys")
    return "stopped: what was encrypted anew stays so" if stopped else "nothing was under way"


def _listed(database: Database) -> str:
    jobs: Counter[str] = Counter()
    with database.autocommit() as connection:
        schedules = reencryption.uses_of_schedules(connection)
        order = orders.latest(connection)
        after_id: int | None = 0
        while after_id is not None:
            after_id, counted = reencryption.uses(connection, after_id=after_id, limit=COUNTED_AT_ONCE)
            jobs.update(counted)
    keys = database.contents.keys
    known = () if keys is None else keys.ids
    lines = [f"{'KEY':<32}  {'HERE':<8}  {'JOBS':>10}  {'SCHEDULES':>10}"]
    for key_id in dict.fromkeys([*known, *sorted({*jobs, *schedules})]):
        here = "-" if key_id not in known else "encrypts" if key_id == known[0] else "decrypts"
        lines.append(f"{key_id:<32}  {here:<8}  {jobs[key_id]:>10}  {schedules.get(key_id, 0):>10}")
    return "\n".join([*lines, *([] if order is None else [_told(order)])])


def _told(order: Reencryption) -> str:
    told = f"order {order.id} to {order.key_id}: {order.state}, {order.done} encrypted anew"
    if order.undecryptable:
        told += f", {order.undecryptable} cannot be decrypted"
    if order.finished_at is None:
        told += f", up to job {order.after_id}"
    return told if order.reason is None else f"{told}: {order.reason}"

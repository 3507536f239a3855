"""The command `goqueue partitions`."""

from __future__ import annotations

from goqueue.audit import audit_rows as audit
from goqueue.config.settings import load_settings
from goqueue.db.database import Database
from goqueue.engine.partitions import layout_rows as layouts
from goqueue.engine.partitions.layout_rows import Layout
from goqueue.engine.partitions.switch import switch_on
from goqueue.engine.partitions.switch_off import switch_off
from goqueue.observability.logging import configure_logging

__all__ = ["run", "written"]


def run(what: str) -> str:
    """Switch partitions `on` or `off`, or `show` them; what there is then.

    Raises:
        GoQueueError: something is in the way.
    """
    settings = load_settings().without_pooler()
    configure_logging(settings)
    database = Database(settings, application_name="goqueue-partitions")
    try:
        if what == "on":
            switch_on(database, settings)
        elif what == "off":
            switch_off(database)
        with database.autocommit() as connection:
            if what != "show":
                audit.record(connection, f"partitions.{what}", "jobs")
            return written(layouts.read(connection))
    finally:
        database.close()


def written(layout: Layout | None) -> str:
    """Write the partitions as a table of ids, rows and sizes."""
    if layout is None:
        return "the jobs are in no partitions"
    lines = [f"{'from id':>14} {'below id':>14} {'jobs, about':>12} {'MiB':>8}  tables"]
    for one in layout.partitions:
        lower, upper = one.lower or "", one.upper or ""
        lines.append(f"{lower:>14} {upper:>14} {one.rows:>12} {one.bytes >> 20:>8}  …_{one.suffix}")
    lines.append(f"the last job is {layout.last_id}; {layout.ids_ahead} more come before the last partition")
    return "\n".join(lines)

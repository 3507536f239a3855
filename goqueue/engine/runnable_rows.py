"""SQL that says which jobs some of the workers can run: by types, schemas, labels and threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson

from goqueue.db.fragments import fits
from goqueue.engine.options.known_types import KnownTypes

__all__ = ["ABLE", "able_parameter", "runnable_by"]

#: A common table expression of what workers can run, one row for those that can run the same. Its columns
#: have other names than those of jobs.
ABLE = """able AS MATERIALIZED (
        SELECT * FROM json_to_recordset(%(able)s::json) AS able (
            runway text, names text[], hashes text[], holds text[], threads int,
            async_names text[], async_slots int)
    )"""


def runnable_by(runway: str) -> str:
    """Say of a row of jobs that some worker of a runway can run it, by `ABLE`.

    Args:
        runway: an expression of the name of the runway.
    """
    return f"""EXISTS (
        SELECT FROM able WHERE able.runway = {runway} AND type = ANY (able.names)
          AND (requires IS NULL OR ({fits("requires", "able.holds")} AND slots <= CASE
                   WHEN type = ANY (able.async_names) THEN able.async_slots ELSE able.threads END))
          AND ((unreadable_until > now()) IS NOT TRUE OR NOT unreadable_by && able.hashes))"""


def able_parameter(able: Mapping[str, Iterable[KnownTypes]]) -> dict[str, str]:
    """Make the parameter of `ABLE`: what the workers of each runway can run."""
    records = [
        {
            "runway": runway,
            "names": known.types,
            "hashes": known.schemas,
            "holds": known.labels,
            "threads": known.slots,
            "async_names": known.async_types,
            "async_slots": known.async_slots,
        }
        for runway, those in able.items()
        for known in those
    ]
    return {"able": orjson.dumps(records).decode()}

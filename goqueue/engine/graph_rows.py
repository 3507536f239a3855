"""New jobs that wait: for jobs that exist, and for each other (a chain, a batch with references)."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from goqueue.db.statements import array, fetch_all
from goqueue.engine import new_job_rows as new_jobs
from goqueue.engine.transitions.release import release_and_settle
from goqueue.errors import InvalidJobError
from goqueue.jobs import FINAL_STATUSES, JobStatus, NewJob

__all__ = ["Inserted", "NewNode", "expect_parents", "insert"]

# Until this transaction ends no parent can end; so each edge is either marked here, because its parent had
# ended, or by whoever ends the parent later, and sees the edge.
_LOCK_PARENTS = """
    SELECT id, status FROM jobs WHERE id = ANY(%(ids)s::bigint[]) ORDER BY id FOR UPDATE
"""

_INSERT_EDGES = """
    INSERT INTO dependencies (job_id, parent_id, on_parent_failure, parent_status)
    SELECT job_id, parent_id, policy, status
    FROM json_to_recordset(%(edges)s::json)
        AS edge (job_id bigint, parent_id bigint, policy text, status text)
    RETURNING job_id
"""

# An ended parent is flagged as well: its result is kept as long as a child may want it, and a replay is
# recorded with care.
_FLAG_PARENTS = """
    UPDATE jobs SET has_dependants = true WHERE id = ANY(%(ids)s::bigint[]) AND NOT has_dependants
    RETURNING id
"""

_STATUSES = "SELECT id, status FROM jobs WHERE id = ANY(%(ids)s::bigint[])"


@dataclass(frozen=True, slots=True)
class NewNode:
    """A new job of a graph.

    Attributes:
        job: its `depends_on` are jobs that exist.
        after: the positions of jobs of the same graph that it waits for.
        path: where the caller said it, before the names of wrong fields: `jobs[3].`.
    """

    job: NewJob
    after: tuple[int, ...] = ()
    path: str = ""


class Inserted(NamedTuple):
    """A job of a graph, as it is when its transaction commits."""

    id: int
    status: JobStatus


def insert(connection: Connection, nodes: Sequence[NewNode]) -> list[Inserted]:
    """Insert the jobs of a graph without cycles, in a transaction; what became of each, in their order.

    A job whose parents have all ended is decided at once, by its policy where one did not complete.

    Raises:
        InvalidJobError: there is no job with one of the ids in `depends_on`.
        graphlib.CycleError: jobs wait for each other.
    """
    statuses = _lock_parents(connection, nodes)
    ids = _insert_jobs(connection, nodes)
    edges = list(_edges(nodes, ids, statuses))
    if edges:
        fetch_all(connection, _INSERT_EDGES, {"edges": orjson.dumps(edges).decode()})
        parents = sorted({edge["parent_id"] for edge in edges})
        fetch_all(connection, _FLAG_PARENTS, {"ids": array(parents)})
    waiting = _decide(connection, nodes, ids)
    return [Inserted(job_id, waiting.get(job_id, JobStatus.QUEUED)) for job_id in ids]


def expect_parents(nodes: Sequence[NewNode], there: Container[int]) -> None:
    """Refuse jobs that would wait for one that does not exist.

    Raises:
        InvalidJobError: there is none with one of the ids in `depends_on`.
    """
    unknown = {
        f"{node.path}depends_on[{position}]": f"there is no job {parent}"
        for node in nodes
        for position, parent in enumerate(node.job.depends_on)
        if parent not in there
    }
    if unknown:
        raise InvalidJobError(unknown)


def _lock_parents(connection: Connection, nodes: Sequence[NewNode]) -> dict[int, JobStatus]:
    wanted = sorted({parent for node in nodes for parent in node.job.depends_on})
    rows = fetch_all(connection, _LOCK_PARENTS, {"ids": array(wanted)}) if wanted else []
    statuses = {row[0]: JobStatus(row[1]) for row in rows}
    expect_parents(nodes, statuses)
    return statuses


def _insert_jobs(connection: Connection, nodes: Sequence[NewNode]) -> list[int]:
    """Parents before children, so that ids ascend on the way down, as locks do."""
    order: Sequence[int] = range(len(nodes))
    if any(node.after for node in nodes):
        graph = {position: node.after for position, node in enumerate(nodes)}
        order = list(TopologicalSorter(graph).static_order())
    inserted = new_jobs.insert_many(
        connection,
        [nodes[position].job for position in order],
        blocked=[_waits(nodes[position]) for position in order],
    )
    by_position = dict(zip(order, inserted, strict=True))
    return [by_position[position] for position in range(len(nodes))]


def _edges(nodes: Sequence[NewNode], ids: Sequence[int], statuses: dict[int, JobStatus]) -> Any:
    for node, job_id in zip(nodes, ids, strict=True):
        for parent_id in [*node.job.depends_on, *(ids[position] for position in node.after)]:
            status = statuses.get(parent_id)
            yield {
                "job_id": job_id,
                "parent_id": parent_id,
                "policy": node.job.on_parent_failure.value,
                "status": status.value if status in FINAL_STATUSES else None,
            }


def _decide(connection: Connection, nodes: Sequence[NewNode], ids: Sequence[int]) -> dict[int, JobStatus]:
    """Release what waits for nothing, and what follows from that; the statuses of all that waited."""
    waiting = [job_id for node, job_id in zip(nodes, ids, strict=True) if _waits(node)]
    if not waiting:
        return {}
    release_and_settle(connection, waiting)
    rows = fetch_all(connection, _STATUSES, {"ids": array(waiting)})
    return {row[0]: JobStatus(row[1]) for row in rows}


def _waits(node: NewNode) -> bool:
    return bool(node.after or node.job.depends_on)

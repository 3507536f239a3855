"""Creating jobs with everything that may come with them: unique keys, jobs that they wait for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from graphlib import CycleError
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.engine import collect_rows as collecting
from goqueue.engine import edit_rows as edits
from goqueue.engine import graph_rows as new_graphs
from goqueue.engine import job_rows as job_store
from goqueue.engine import new_job_rows as new_jobs
from goqueue.engine import unique_rows as unique_keys
from goqueue.engine.collect_rows import CollectedList
from goqueue.engine.creation_plan import CreationPlan
from goqueue.engine.edit_rows import JobEdit
from goqueue.engine.graph_rows import NewNode
from goqueue.engine.unique_rows import KeyHolder
from goqueue.errors import InvalidJobError, UniqueKeyHeldError
from goqueue.jobs import Job, JobStatus, NewJob, UniqueMode
from goqueue.observability import tracing

__all__ = [
    "Created",
    "CreatedNode",
    "are_simple",
    "create",
    "create_many",
    "create_plain",
    "is_plain",
    "is_simple",
]

#: Who replaced a payload, in the versions of its job.
REPLACED_BY = "a create with the same unique key"


class Created(NamedTuple):
    """The result of the create of one job.

    Attributes:
        deduplicated: nothing was created: the job is the holder of the unique key.
        collected: and it has taken the payload, beside its own.
    """

    job: Job
    deduplicated: bool = False
    collected: bool = False

    @property
    def node(self) -> CreatedNode:
        """The result in the shape in which a create of many jobs gives it for each."""
        return CreatedNode(self.job.id, self.job.status, self.deduplicated, self.collected)


class CreatedNode(NamedTuple):
    """The result of the create of one of many; its status is meant only for new ones."""

    id: int
    status: JobStatus
    deduplicated: bool = False
    collected: bool = False


def is_plain(job: NewJob) -> bool:
    """Say whether the job says nothing but what every job says, waits for none, and belongs to no trace."""
    return new_jobs.is_plain(job) and not job.depends_on and not tracing.belongs_to_trace([job])


def create_plain(connection: Connection, jobs: Sequence[NewJob]) -> list[Job]:
    """Create plain jobs in one statement that commits itself; their rows, in their order."""
    return new_jobs.insert_plain(connection, jobs)


def is_simple(job: NewJob) -> bool:
    """Say whether one INSERT makes the job, without a transaction around it."""
    return job.unique is None and not job.depends_on


def are_simple(nodes: Sequence[NewNode]) -> bool:
    """Say whether one INSERT makes the jobs of all nodes."""
    return all(is_simple(node.job) and not node.after for node in nodes)


def create(connection: Connection, job: NewJob) -> Created:
    """Create one job, or find the holder of its unique key, in the connection's transaction.

    The job gets the trace that the calling code is in, or, where this process makes spans, the span of this.

    Raises:
        InvalidJobError: it depends on a job that does not exist.
        UniqueKeyHeldError: the holder is of another type, and its payload was to be replaced; or the payload
            was to be collected by a job of another type or mode.
    """
    creation = tracing.begin_create([job])
    if creation is None:
        return _create(connection, job)
    with creation:
        created = _create(connection, creation.jobs[0])
        creation.made([created.job.id], deduplicated=int(created.deduplicated))
        _link_parents(connection, creation)
    return created


def _create(connection: Connection, job: NewJob) -> Created:
    if job.unique is None:
        return Created(_insert(connection, job))
    if job.unique.collect is not None:
        (made,) = _create_many(connection, [NewNode(job)])
        return Created(job_store.get(connection, made.id), made.deduplicated, made.collected)
    unique_keys.lock(connection, [job.unique.key])
    holder = _meet_holder(connection, job)
    if holder is not None:
        return Created(job_store.get(connection, holder.id), deduplicated=True)
    row = _insert(connection, job)
    unique_keys.bind(connection, {row.id: job.unique})
    return Created(row)


def create_many(connection: Connection, nodes: Sequence[NewNode]) -> list[CreatedNode]:
    """Create the jobs of a graph, in the connection's transaction; what became of each, in their order.

    The keys are taken in the order of their text, all before the first job is inserted, so that two batches
    queue up instead of deadlocking. A job whose key an earlier one of the batch takes is suppressed by that
    one. Who waits for a suppressed job waits for the one that is there. Traces are as with `create`.

    Raises:
        InvalidJobError: jobs wait for each other, or for a job that does not exist.
        UniqueKeyHeldError: as `create`.
    """
    creation = tracing.begin_create([node.job for node in nodes])
    if creation is None:
        return _create_many(connection, nodes)
    with creation:
        traced = [replace(node, job=job) for node, job in zip(nodes, creation.jobs, strict=True)]
        created = _create_many(connection, traced)
        creation.made([row.id for row in created], deduplicated=sum(row.deduplicated for row in created))
        _link_parents(connection, creation)
    return created


def _create_many(connection: Connection, nodes: Sequence[NewNode]) -> list[CreatedNode]:
    if are_simple(nodes):
        ids = new_jobs.insert_many(connection, [node.job for node in nodes])
        return [CreatedNode(job_id, JobStatus.QUEUED) for job_id in ids]
    plan = _plan(connection, nodes)
    inserted = _insert_graph(connection, plan)
    rules = {row.id: node.job.unique for row, node in zip(inserted, plan.new, strict=True)}
    unique_keys.bind(connection, {job_id: rule for job_id, rule in rules.items() if rule})
    for position in sorted(plan.suppressed_here):
        _meet_holder(connection, nodes[position].job)
    return [_result(plan, position, inserted) for position in range(len(nodes))]


def _result(plan: CreationPlan, position: int, inserted: Sequence[new_graphs.Inserted]) -> CreatedNode:
    is_collected = position in plan.collected
    place = plan.places.get(position)
    if place is None:
        holder = plan.holders[position]
        return CreatedNode(holder.id, holder.status, deduplicated=True, collected=is_collected)
    is_suppressed = is_collected or position in plan.suppressed_here
    return CreatedNode(*inserted[place], deduplicated=is_suppressed, collected=is_collected)


def _link_parents(connection: Connection, creation: tracing.Creation) -> None:
    """Link the span of a create to the traces of the jobs that were there before, and are waited for."""
    parents = {parent for job in creation.jobs for parent in job.depends_on}
    if creation.has_spans and parents:
        creation.link(job_store.traceparents(connection, parents))


def _plan(connection: Connection, nodes: Sequence[NewNode]) -> CreationPlan:
    keys = {node.job.unique.key for node in nodes if node.job.unique}
    unique_keys.lock(connection, keys)
    held = unique_keys.holders_of(connection, keys)
    plan = CreationPlan()
    waiting = _open_lists(connection, plan, nodes)
    for position, node in enumerate(nodes):
        unique = node.job.unique
        if unique and unique.collect:
            if not plan.collect(position, node):
                plan.add_collecting(position, node)
                held.pop(unique.key, None)
            continue
        holder = None
        if unique and unique.key in held:
            holder = _meet(connection, node.job, held[unique.key])
            if holder is None:
                del held[unique.key]
        plan.add(position, node, holder)
    collecting.write(connection, waiting)
    for key in plan.lists:
        plan.finish_list(key)
    return plan


def _open_lists(
    connection: Connection, plan: CreationPlan, nodes: Sequence[NewNode]
) -> dict[int, CollectedList]:
    """Let the plan begin with the lists of jobs that exist: id → list."""
    jobs = [node.job for node in nodes if node.job.unique and node.job.unique.collect]
    if jobs:
        plan.lists = collecting.open_lists(connection, jobs)
    return {found.holder[0]: found for found in plan.lists.values() if found.holder is not None}


def _insert_graph(connection: Connection, plan: CreationPlan) -> list[new_graphs.Inserted]:
    """Insert the new ones; what they wait for may be another job of the batch, or one that exists."""
    nodes = []
    for node in plan.new:
        existing = [plan.holders[position].id for position in node.after if position in plan.holders]
        after = dict.fromkeys(plan.places[position] for position in node.after if position in plan.places)
        waits_for = tuple(dict.fromkeys([*node.job.depends_on, *existing]))
        nodes.append(replace(node, job=replace(node.job, depends_on=waits_for), after=tuple(after)))
    if not nodes:
        return []
    try:
        return new_graphs.insert(connection, nodes)
    except CycleError:
        raise InvalidJobError({"jobs": "they wait for each other in a circle"}) from None


def _insert(connection: Connection, job: NewJob) -> Job:
    if not job.depends_on:
        return new_jobs.insert(connection, job)
    (inserted,) = new_graphs.insert(connection, [NewNode(job)])
    return job_store.get(connection, inserted.id)


def _meet(connection: Connection, job: NewJob, holder: KeyHolder | None) -> KeyHolder | None:
    """Do to the holder of the job's key, which is locked, what the rule says; None: nobody has it any more.

    A holder that a worker claims meanwhile may have left the states of its key: it is looked at again.
    """
    assert job.unique is not None
    while holder is not None:
        if holder.status not in edits.WAITING or _change(connection, holder, job):
            return holder
        holder = unique_keys.holder_of(connection, job.unique.key)
    return None


def _meet_holder(connection: Connection, job: NewJob) -> KeyHolder | None:
    """`_meet` with whoever has the key now."""
    assert job.unique is not None
    return _meet(connection, job, unique_keys.holder_of(connection, job.unique.key))


def _change(connection: Connection, holder: KeyHolder, job: NewJob) -> bool:
    """Change a waiting holder; False: it waits no more."""
    rule = job.unique
    assert rule is not None
    if rule.mode is UniqueMode.REPLACE_PAYLOAD:
        if holder.type != job.type:
            raise UniqueKeyHeldError(
                holder.id, f"the unique key is held by job {holder.id}, which is of the type {holder.type}"
            )
        change = JobEdit(payload=job.payload, author=REPLACED_BY, encrypt=job.encrypted)
        return edits.edit(connection, holder.id, change) is not None
    if rule.mode is UniqueMode.DEBOUNCE and rule.debounce_max_seconds is not None:
        return edits.postpone(
            connection,
            holder.id,
            available_at=job.available_at,
            delay_seconds=job.delay_seconds,
            max_seconds=rule.debounce_max_seconds,
        )
    return True

"""The graph of jobs that the refs of a batch draw, and the faults in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter

from goqueue.api.frame.json_reader import MAX_PROBLEMS
from goqueue.api.schemas import BatchJob
from goqueue.engine.graph_rows import NewNode
from goqueue.errors import InvalidJobError
from goqueue.jobs import NewJob

#: The most dependencies of one batch.
MAX_EDGES = 100_000


def graph_of_batch(requests: Sequence[BatchJob], jobs: Sequence[NewJob]) -> list[NewNode]:
    """Return the jobs of a batch with the positions of those that each waits for.

    Args:
        requests: what the client said, in the order of the jobs.
        jobs: the same, validated.

    Raises:
        InvalidJobError: a ref is there twice, or not at all, or jobs wait for each other.
    """
    if not any(request.ref or request.depends_on for request in requests):
        return [NewNode(job) for job in jobs]
    if sum(len(request.depends_on or ()) for request in requests) > MAX_EDGES:
        raise InvalidJobError({"jobs": f"expected at most {MAX_EDGES} dependencies in all"})
    positions: dict[str, int] = {}
    for position, request in enumerate(requests):
        if request.ref is not None:
            positions.setdefault(request.ref, position)
    wrong = dict(_problems(requests, positions))
    if wrong:
        raise InvalidJobError(wrong)
    nodes = [
        NewNode(job, _after(request, positions), path=f"jobs[{position}].")
        for position, (request, job) in enumerate(zip(requests, jobs, strict=True))
    ]
    _refuse_cycles(requests, nodes)
    return nodes


def _problems(requests: Sequence[BatchJob], positions: dict[str, int]) -> Iterator[tuple[str, str]]:
    found = 0
    for position, request in enumerate(requests):
        for name, problem in _problems_of(position, request, positions):
            yield f"jobs[{position}].{name}", problem
            found += 1
        if found >= MAX_PROBLEMS:
            return


def _problems_of(position: int, request: BatchJob, positions: dict[str, int]) -> Iterator[tuple[str, str]]:
    if request.ref is not None and positions[request.ref] != position:
        yield "ref", f"jobs[{positions[request.ref]}] has the same"
    seen: set[str] = set()
    for place, parent in enumerate(request.depends_on or ()):
        if isinstance(parent, str):
            if parent not in positions:
                yield f"depends_on[{place}]", f"no job of this batch has the ref {parent!r}"
            elif parent in seen:
                yield f"depends_on[{place}]", "expected each job once"
            seen.add(parent)


def _after(request: BatchJob, positions: dict[str, int]) -> tuple[int, ...]:
    return tuple(positions[parent] for parent in request.depends_on or () if isinstance(parent, str))


def _refuse_cycles(requests: Sequence[BatchJob], nodes: Sequence[NewNode]) -> None:
    try:
        TopologicalSorter({position: node.after for position, node in enumerate(nodes)}).prepare()
    except CycleError as error:
        # Each of the list is waited for by the next, and the last is the first again.
        cycle = error.args[1][::-1]
        told = " → ".join(repr(requests[position].ref) for position in cycle)
        raise InvalidJobError(
            {f"jobs[{cycle[0]}].depends_on": f"expected no cycle, and these wait for each other: {told}"}
        ) from None

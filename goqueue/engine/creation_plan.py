"""The plan of a create: what is new, what meets the holder of its key, what goes to another's payload."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from goqueue.engine.collect_rows import CollectedList
from goqueue.engine.graph_rows import NewNode
from goqueue.engine.unique_rows import KeyHolder
from goqueue.errors import InvalidJobError
from goqueue.jobs import JobStatus

__all__ = ["CreationPlan"]


@dataclass(slots=True)
class CreationPlan:
    """The plan of a batch: says which of its jobs are new.

    Attributes:
        new: the new ones; `places` says where in it each position of the batch is found.
        takers: key → place of the new job that takes it.
        suppressed_here: positions of jobs whose key an earlier one takes.
        holders: position → the job that exists and has the key.
        lists: key → what collects the payloads of further jobs of the batch that have it.
        collected: positions of jobs whose payloads were taken by a list.
    """

    new: list[NewNode] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)
    takers: dict[str, int] = field(default_factory=dict)
    suppressed_here: set[int] = field(default_factory=set)
    holders: dict[int, KeyHolder] = field(default_factory=dict)
    lists: dict[str, CollectedList] = field(default_factory=dict)
    collected: set[int] = field(default_factory=set)

    def collect(self, position: int, node: NewNode) -> bool:
        """Put the payloads of a job into the list of its key; False: no job collects them, and it is new."""
        assert node.job.unique is not None
        collected = self.lists.get(node.job.unique.key)
        if collected is None or not collected.take(node.job):
            return False
        self.collected.add(position)
        if collected.holder is None:
            self.places[position] = collected.place
        else:
            self.holders[position] = KeyHolder(*collected.holder)
        return True

    def add_collecting(self, position: int, node: NewNode) -> None:
        """Begin a new job with a list, in the place of one that takes no more."""
        unique = node.job.unique
        assert unique is not None
        if unique.key in self.takers and unique.key not in self.lists:
            wrong = "another job of the batch has the key, and collects nothing"
            raise InvalidJobError({"unique.mode": wrong})
        self.places[position] = self.takers[unique.key] = len(self.new)
        self.finish_list(unique.key)
        self.lists[unique.key] = CollectedList.of_new(node.job, len(self.new))
        self.new.append(node)

    def finish_list(self, key: str) -> None:
        """Give the new job of a list what was collected for it; it waits for more while it is not full."""
        collected = self.lists.get(key)
        if collected is None or collected.holder is not None:
            return
        node = self.new[collected.place]
        delay = 0.0 if collected.is_full else collected.bounds.seconds
        job = replace(node.job, payload=collected.payload_of(node.job), delay_seconds=delay)
        self.new[collected.place] = replace(node, job=job)

    def add(self, position: int, node: NewNode, holder: KeyHolder | None) -> None:
        """Note a job that collects nothing: new, or suppressed by who has its key."""
        unique = node.job.unique
        if holder is not None:
            self.holders[position] = holder
        elif unique and _taken_here(self, node):
            self.places[position] = self.takers[unique.key]
            self.suppressed_here.add(position)
        else:
            self.places[position] = len(self.new)
            if unique:
                self.takers[unique.key] = len(self.new)
            self.new.append(node)


def _taken_here(plan: CreationPlan, node: NewNode) -> bool:
    """Whether an earlier job of the batch takes the key, and has it as soon as it exists."""
    unique = node.job.unique
    if unique is None or unique.key not in plan.takers:
        return False
    taker = plan.new[plan.takers[unique.key]]
    born = JobStatus.BLOCKED if taker.after or taker.job.depends_on else JobStatus.QUEUED
    assert taker.job.unique is not None
    return born in taker.job.unique.states

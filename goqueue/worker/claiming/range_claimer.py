"""The claim of ranges: as many ready jobs of a backlog, in order, as there are places for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from goqueue import failpoints
from goqueue.engine.runway.runway import Message, ReadyRange
from goqueue.engine.transitions.claim_ranges import Range, claim_ranges, messages_in
from goqueue.engine.transitions.set_aside import is_of_a_row
from goqueue.errors import DatabaseRefusedError, UnavailableError
from goqueue.jobs import ClaimedJob
from goqueue.worker.claiming.places import Places

if TYPE_CHECKING:
    from goqueue.worker.broker import JobBroker


class RangeClaim(NamedTuple):
    """The result of claiming ranges.

    Attributes:
        jobs: what was claimed, in order.
        ended: the ranges of which nothing is left.
        rest: what is left of the last one, if anything is.
        refused: instead of jobs, the messages of those that are to be claimed one by one, because PostgreSQL
            refuses a row among them. The places for them are taken.
    """

    jobs: list[ClaimedJob]
    ended: list[ReadyRange]
    rest: list[ReadyRange]
    refused: list[Message]


#: There is no place for any job.
NOTHING = RangeClaim([], [], [], [])


class RangeClaimer:
    """Claims ranges that a consumer fetched from one queue.

    Attributes:
        jobs_per_entry: how many jobs an entry of the last fetch stood for.
    """

    def __init__(self, broker: JobBroker, queue_name: str, places: Places) -> None:
        self._broker = broker
        self._queue = queue_name
        self._places = places
        self.jobs_per_entry = 1

    def claim(self, ranges: Sequence[ReadyRange], *, places: int) -> RangeClaim:
        """Claim the first jobs of these ranges; ranges that are not needed for that go back at once.

        Args:
            ranges: in order.
            places: how many jobs may be claimed; they are taken, and those of no job are given back.

        Raises:
            UnavailableError: a server does not answer; which jobs were claimed is unknown, if any were.
        """
        self.jobs_per_entry = max(1, sum(one.jobs for one in ranges) // len(ranges))
        chosen = first_of(ranges, places)
        try:
            self._broker.runway.put_back(self._queue, ranges[len(chosen) :])
        except UnavailableError:
            self._places.give_back(places)
            raise
        if not chosen:
            return NOTHING
        try:
            claimed = self._claim_rows(chosen, places)
            failpoints.hit("after_claim")
        except DatabaseRefusedError as error:
            if not is_of_a_row(error):
                self._doubt(places)
                raise
            listed = self._as_messages(chosen, places)
            self._places.give_back(places - len(listed.refused))
            return listed
        except BaseException:
            self._doubt(places)
            raise
        self._places.give_back(places - len(claimed))
        return RangeClaim(claimed, list(chosen), rest_of(chosen, len(claimed), places), [])

    def listed(self, ranges: Sequence[ReadyRange], limit: int) -> RangeClaim:
        """List the messages of the first jobs of these ranges, instead of claiming them; no place is taken.

        Raises:
            UnavailableError: a server does not answer.
        """
        self.jobs_per_entry = max(1, sum(one.jobs for one in ranges) // len(ranges))
        chosen = first_of(ranges, limit)
        self._broker.runway.put_back(self._queue, ranges[len(chosen) :])
        return self._as_messages(chosen, limit)

    def _claim_rows(self, ranges: Sequence[ReadyRange], limit: int) -> list[ClaimedJob]:
        broker = self._broker
        with broker.database.autocommit() as connection:
            return claim_ranges(
                connection,
                self._queue,
                joined(ranges),
                limit=limit,
                worker_id=broker.claimed_jobs.worker_id,
                lease_seconds=broker.settings.lease_seconds,
                known=broker.known_types,
            )

    def _as_messages(self, ranges: Sequence[ReadyRange], limit: int) -> RangeClaim:
        with self._broker.database.autocommit() as connection:
            found = messages_in(connection, self._queue, joined(ranges), limit=limit)
        messages = [Message(job_id, fence) for job_id, fence in found]
        return RangeClaim([], list(ranges), rest_of(ranges, len(messages), limit), messages)

    def _doubt(self, places: int) -> None:
        self._broker.claimed_jobs.doubt()
        self._broker.claimed_ahead.doubt_ranges(self._queue)
        self._places.give_back(places)


def first_of(ranges: Sequence[ReadyRange], places: int) -> Sequence[ReadyRange]:
    """Return the ranges that the first so many jobs are in."""
    sums = accumulate((one.jobs for one in ranges), initial=0)
    return ranges[: sum(before < places for before in list(sums)[:-1])]


def rest_of(ranges: Sequence[ReadyRange], claimed: int, places: int) -> list[ReadyRange]:
    """Return what is left of the last range, where the places ended before it did."""
    left = sum(one.jobs for one in ranges) - claimed
    if claimed < places or left <= 0:
        return []
    return [ranges[-1]._replace(jobs=min(left, ranges[-1].jobs))]


def joined(ranges: Sequence[ReadyRange]) -> list[Range]:
    """Return the ranges as pairs of places, those that follow on each other as one."""
    pairs: list[Range] = []
    for one in ranges:
        if pairs and pairs[-1][1] == one.behind:
            pairs[-1] = (pairs[-1][0], one.last)
        else:
            pairs.append((one.behind, one.last))
    return pairs

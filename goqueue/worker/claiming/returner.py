"""Giving back what was claimed here and has not begun: in one statement, unspent, and pushed for others."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import structlog

from goqueue import failpoints
from goqueue.db.database import Database
from goqueue.engine.runway.released_dependants import push_released
from goqueue.engine.runway.runway import Message, Runway
from goqueue.engine.transitions.give_back import GivenBack, give_back
from goqueue.engine.transitions.record import still_running
from goqueue.engine.workers import lease_rows as lease_store
from goqueue.errors import DatabaseUnavailableError, RedisUnavailableError
from goqueue.middleware.job_message import JobMessage
from goqueue.observability import metrics
from goqueue.worker.claiming.claims import ClaimedJobs, Key, WorkerSlots

log = structlog.get_logger(__name__)

#: The reason of what goes back because its process stops.
STOPPING = "stopping"

#: The reason of what goes back because it takes more places than there are. It is not pushed to the head,
#: where this process would find it again at once: the dispatcher pushes it within a moment.
NO_ROOM = "no_room"

#: Pauses between tries while PostgreSQL is away.
RETRY_SECONDS = 0.2

#: What somebody has locked is given back after so long.
LOCKED_SECONDS = 0.02

#: A claim whose answer was lost may yet be made: it is given back again and again, after so long each.
DOUBT_SECONDS = (0.05, 0.1, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)


class _Doubt(NamedTuple):
    """Claims of messages of a runway whose answer was lost, and when they are given back for which time.

    None: which jobs were claimed is unknown.
    """

    runway: str
    claims: frozenset[Key] | None
    due_at: float
    tries: int = 0


class Returner:
    """Gives claims of jobs back that have not begun. Thread-safe."""

    def __init__(
        self,
        database: Database,
        runway: Runway,
        claimed_jobs: ClaimedJobs,
        slots: WorkerSlots,
    ) -> None:
        self._database = database
        self._runway = runway
        self._claimed_jobs = claimed_jobs
        self._slots = slots
        self._pending: deque[tuple[JobMessage, str]] = deque()
        self._doubts: list[_Doubt] = []
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._outage_until = 0.0

    def put(self, messages: Iterable[JobMessage], reason: str) -> None:
        """Take over jobs that shall not begin here; never blocks.

        They stay among what this process holds, and are never begun here again: whatever becomes of the
        statement that gives them back, it may have been carried out.
        """
        self._pending.extend((message, reason) for message in messages)

    def doubt(self, runway: str, messages: Sequence[Message]) -> None:
        """Note that the answer to a claim of these messages was lost; nobody here holds what it claimed."""
        claims = frozenset((message.job_id, message.fence + 1) for message in messages)
        with self._lock:
            self._doubts.append(_Doubt(runway, claims, time.monotonic()))

    def doubt_ranges(self, runway: str) -> None:
        """Note that the answer to a claim of ranges was lost: nobody knows here which jobs it claimed."""
        with self._lock:
            self._doubts.append(_Doubt(runway, None, time.monotonic()))

    @property
    def has_work(self) -> bool:
        """Tell whether something is to be given back, now or soon."""
        return bool(self._pending or self._doubts)

    def flush(self, *, wanted: bool = False) -> bool:
        """Give back what there is; False while PostgreSQL is away: it stays pending.

        `wanted`: some worker waits for these jobs.
        """
        now = time.monotonic()
        if now < self._outage_until:
            return False
        try:
            with self._flushing:
                self._flush_pending(wanted=wanted)
                self._flush_doubts(now)
        except (DatabaseUnavailableError, failpoints.FailpointError) as error:
            log.warning("giving_back_postponed", jobs=len(self._pending), error=str(error))
            self._outage_until = time.monotonic() + RETRY_SECONDS
            return False
        return True

    def _flush_pending(self, *, wanted: bool) -> None:
        taken: list[tuple[JobMessage, str]] = []
        while self._pending:
            taken.append(self._pending.popleft())
        if not taken:
            return
        try:
            given_back = self._give_back({_key(message) for message, _ in taken})
            taken = self._without_locked(taken, given_back)
        except (DatabaseUnavailableError, failpoints.FailpointError):
            # Again, however long it takes: doing it twice changes nothing.
            self._pending.extendleft(reversed(taken))
            raise
        except Exception:
            # The rows are still running and this process forgets them: its lease releases them.
            log.exception("giving_back_failed", jobs=len(taken))
            given_back = {}
        reasons = Counter(reason for _, reason in taken)
        log.info("jobs_given_back", jobs=len(given_back), of=len(taken), reasons=dict(reasons))
        for reason, count in reasons.items():
            metrics.JOBS_GIVEN_BACK.labels(reason).inc(count)
        self._settle(taken, given_back, wanted=wanted)

    def _without_locked(
        self, taken: list[tuple[JobMessage, str]], given_back: Mapping[Key, GivenBack]
    ) -> list[tuple[JobMessage, str]]:
        """What was taken without those whose row somebody has locked: they are pending again."""
        left = {_key(message) for message, _ in taken} - given_back.keys()
        if not left:
            return taken
        with self._database.autocommit() as connection:
            locked = still_running(connection, left)
        if locked:
            self._pending.extend(item for item in taken if _key(item[0]) in locked)
            self._outage_until = time.monotonic() + LOCKED_SECONDS
        return [item for item in taken if _key(item[0]) not in locked]

    def _give_back(self, claims: Iterable[Key]) -> dict[Key, GivenBack]:
        with self._database.autocommit() as connection:
            returns = give_back(
                connection,
                claims,
                worker_id=self._claimed_jobs.worker_id,
            )
        failpoints.hit("after_give_back")
        push_released(self._runway, returns.released)
        return {(job.id, job.fence): job for job in returns.jobs}

    def _settle(
        self, taken: Sequence[tuple[JobMessage, str]], given_back: Mapping[Key, GivenBack], *, wanted: bool
    ) -> None:
        """Forget the jobs here, and let others have them, in the order in which they would have begun.

        What came from a lane goes back to it, unless this process stops: it may be the last one that fetches
        there. The dispatcher knows who else can run what the claims of others refuse.
        """
        messages = [message for message, _ in taken]
        without_room = {_key(message) for message, reason in taken if reason == NO_ROOM}
        by_way: dict[tuple[str, str], list[JobMessage]] = defaultdict(list)
        for message, reason in taken:
            self._claimed_jobs.remove(message.current)
            by_way[message.runway, "" if reason == STOPPING else message.current.lane].append(message)
        try:
            for (runway, lane), those in by_way.items():
                keys = [
                    key
                    for message in those
                    if (key := _key(message)) in given_back and key not in without_room
                ]
                self._push(runway, [given_back[key] for key in keys], wanted=wanted, lane=lane)
                own = [message.message_id for message in those if message.current.has_message]
                self._runway.acknowledge(runway, own)
        except RedisUnavailableError as error:
            # The dispatcher pushes what nobody pushed, and the claim refuses what the old messages name.
            log.warning("push_postponed", jobs=len(given_back), error=str(error))
        finally:
            self._slots.leave([message.current for message in messages])

    def _push(self, runway: str, jobs: Iterable[GivenBack], *, wanted: bool, lane: str = "") -> None:
        messages = [Message(job.id, job.fence) for job in jobs if job.starts]
        if not messages:
            return
        pushed = self._runway.push_returned(runway, messages, wanted=wanted, lane=lane)
        if pushed.closed:
            self._runway.wake_dispatcher()

    def _flush_doubts(self, now: float) -> None:
        with self._lock:
            due = [doubt for doubt in self._doubts if doubt.due_at <= now]
        for doubt in due:
            # Given up first: a claim of these messages that was made since, and answered, is held and runs;
            # one that is answered while this is asked must not begin. What PostgreSQL does not know as
            # running was never claimed, and may be yet. Without an answer they stay given up.
            claims = self._unknown_claims() if doubt.claims is None else doubt.claims
            given_up = self._claimed_jobs.give_up(claims)
            given_back = self._give_back(given_up) if given_up else {}
            self._claimed_jobs.expect(given_up - given_back.keys())
            with self._lock:
                self._doubts.remove(doubt)
                left = None if doubt.claims is None else doubt.claims - given_back.keys()
                if (left is None or left) and doubt.tries < len(DOUBT_SECONDS):
                    due_at = time.monotonic() + DOUBT_SECONDS[doubt.tries]
                    self._doubts.append(_Doubt(doubt.runway, left, due_at, doubt.tries + 1))
            if given_back:
                log.warning("lost_claims_released", jobs=len(given_back))
                metrics.JOBS_GIVEN_BACK.labels("claim_lost").inc(len(given_back))
                try:
                    self._push(doubt.runway, given_back.values(), wanted=False)
                except RedisUnavailableError as error:
                    log.warning("push_postponed", jobs=len(given_back), error=str(error))

    def _unknown_claims(self) -> frozenset[Key]:
        """What the record gives to this process and nobody here knows of.

        Answers that are on their way are among it: they come too late then, and what they claimed is pushed
        again. What is recorded meanwhile is too: it is not running any more, and stays as it is.
        """
        with self._database.autocommit() as connection:
            held = lease_store.held(connection, self._claimed_jobs.worker_id)
        return frozenset(held - self._claimed_jobs.snapshot().keys())


def _key(message: JobMessage) -> Key:
    return message.current.id, message.current.fence

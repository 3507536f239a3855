"""Pushing jobs that may start at once: released by the end of another one, or given back by a worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import structlog

from goqueue.engine.runway.runway import Message, Runway
from goqueue.engine.transitions.release import Released
from goqueue.errors import RedisUnavailableError

log = structlog.get_logger(__name__)


def push_to_front(runway: Runway, jobs: Iterable[tuple[str, int, int]]) -> None:
    """Push jobs, (queue, id, fence), that had started once, after the commit, before all others."""
    by_queue = defaultdict[str, list[Message]](list)
    for queue, job_id, fence in jobs:
        by_queue[queue].append(Message(job_id, fence))
    try:
        for queue, messages in by_queue.items():
            runway.push_to_front(queue, messages)
    except RedisUnavailableError as error:
        log.warning("push_postponed", jobs=sum(map(len, by_queue.values())), error=str(error))


def push_released(runway: Runway, released: Iterable[Released]) -> None:
    """Push those that may start now, after the commit; what cannot be pushed is left to the dispatcher."""
    by_queue = defaultdict[str, list[Message]](list)
    for job in released:
        if job.starts:
            by_queue[job.queue].append(Message(job.id, job.fence))
    try:
        for queue, messages in by_queue.items():
            if runway.submit(queue, messages).closed:
                runway.wake_dispatcher()
    except RedisUnavailableError as error:
        log.warning("push_postponed", jobs=sum(map(len, by_queue.values())), error=str(error))

"""`python -m bench.scale.memory`: what every process and Redis occupy while a million jobs go through.

Jobs are created over HTTP in batches, with a backlog from the beginning to the end. What grows with the
number of jobs that were done would show as a slope from one line to the next.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

import psutil

from bench.enqueue import serving
from bench.http_load import Client, request
from bench.processes import memory, tree, wait_until
from bench.stack import Stack
from bench.systems import GoQueue

BATCH = 10_000
LINES = 10
REDIS_TARGET_MIB = 64.0

_DONE = "SELECT count(*) FROM jobs WHERE status = 'completed' AND finished_at IS NOT NULL"


def main(arguments: Sequence[str] | None = None) -> int:
    """Let the jobs through and print a line ten times."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale.memory", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000, help="jobs in all")
    parser.add_argument("--backlog", type=int, default=100_000, help="jobs that wait all the time")
    options = parser.parse_args(arguments)
    with Stack() as stack, GoQueue(stack).running() as roles:
        web, port = stack.web("goqueue.wsgi:app")
        with serving(web, port), Client(port) as client:
            pids = {"API": web.pid, **{name: role.pid for name, role in roles.items()}}
            print("| jobs done | " + " | ".join(f"{name}, MiB" for name in (*pids, "Redis")) + " |")
            print("| --- |" + " --- |" * (len(pids) + 1))
            redis = 0.0
            for done in _waves(stack, client, options.jobs, options.backlog):
                redis = max(redis, stack.redis.info("memory")["used_memory"] / 2**20)
                cells = [f"{_largest(pid):.1f}" for pid in pids.values()]
                print(f"| {done:,} | {' | '.join(cells)} | {redis:.1f} |", flush=True)
    verdict = "pass" if redis <= REDIS_TARGET_MIB else "MISS"
    print(f"Redis had {redis:.1f} MiB at most (target {REDIS_TARGET_MIB:g}): {verdict}")
    return 0


def _waves(stack: Stack, client: Client, jobs: int, backlog: int) -> Iterator[int]:
    """Create jobs so that a backlog waits; yield what is done, ten times."""
    created = 0
    body = json.dumps({"jobs": [{"queue": "bench", "type": "noop", "payload": {}}] * BATCH}).encode()
    for line in range(LINES + 1):
        due = jobs * line // LINES
        while created < min(jobs, due + backlog):
            client.post(request("/jobs/batch", body))
            created += BATCH
            _wait_for(stack, created - backlog)
        _wait_for(stack, due)
        yield due


def _wait_for(stack: Stack, done: int) -> None:
    wait_until(lambda: stack.query(_DONE) >= done, seconds=600, what=f"{done:,} jobs done", poll=0.2)


def _largest(pid: int) -> float:
    """The memory of its own of the largest process of a role."""
    found = []
    for process in tree(pid):
        with suppress(psutil.NoSuchProcess):
            found.append(memory(process).uss)
    return max(found)


if __name__ == "__main__":
    sys.exit(main())

"""The lease protocol: workers outside of GoQueue take jobs over HTTP, and say what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import falcon
import orjson

from goqueue.access.principal import Principal
from goqueue.api.frame.answers import as_json
from goqueue.api.frame.bodies import read_document, read_optional_document
from goqueue.api.frame.held_requests import held_request
from goqueue.api.frame.resource import Resource
from goqueue.api.frame.security import principal_of
from goqueue.api.lease_models import (
    CompleteJob,
    CompleteJobs,
    FailJob,
    Heartbeat,
    LeaseJobs,
    LogLines,
    ReportProgress,
)
from goqueue.config.labels import entries_of, with_version
from goqueue.engine.options.job_type import JobType
from goqueue.engine.options.request_models import validate
from goqueue.engine.workers.remote_worker_rows import RemoteIdentity
from goqueue.engine.workers.worker_rows import WorkerCommand
from goqueue.errors import ForbiddenError, LeaseNotFoundError, QueueNotFoundError
from goqueue.jobs import QUARANTINE_QUEUE, ClaimedJob
from goqueue.remote.job_leasing import LeaseOrder, Leases
from goqueue.remote.lease_tokens import HeldJob
from goqueue.remote.remote_jobs import RemoteJobs
from goqueue.remote.remote_workers import known_types_of
from goqueue.remote.reported_failure import ReportedFailure


class LeaseResource(Resource):
    """The jobs of a queue, for workers outside of GoQueue."""

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Give the worker jobs that it can run."""
        goqueue, remote = self._goqueue, self._goqueue.remote_jobs
        wanted = validate(LeaseJobs, read_document(request, goqueue.settings.job_max_bytes))
        order = self._order(request, name, wanted)
        if wanted.goodbye:
            remote.goodbye(order)
            response.status = falcon.HTTP_204
            return
        held = held_request(request)
        leases = remote.lease(order, was_woken=held.is_again)
        waits = not leases.jobs and leases.standing.command is not WorkerCommand.STOP
        if waits and held.wait(wanted.wait_seconds, partial(remote.watch, order, leases)):
            return
        response.data = as_json(self._document(leases, order))

    def _order(self, request: falcon.Request, queue: str, wanted: LeaseJobs) -> LeaseOrder:
        principal = principal_of(request)
        sees = principal.queues is None or queue in principal.queues
        if not sees or queue == QUARANTINE_QUEUE or not self._goqueue.queues.knows(queue):
            raise QueueNotFoundError(queue)
        types = {name for name in wanted.types if principal.types is None or name in principal.types}
        if not types:
            raise ForbiddenError("this key is for jobs of none of these types")
        labels = with_version(entries_of(wanted.labels), wanted.version)
        known = known_types_of(tuple(sorted(types)), labels, wanted.slots)
        identity = RemoteIdentity(client_key(principal), wanted.worker, wanted.language, request.remote_addr)
        return LeaseOrder(identity, queue, known, wanted.limit)

    def _document(self, leases: Leases, order: LeaseOrder) -> Mapping[str, Any]:
        settings, write = self._goqueue.settings, self._goqueue.remote_jobs.tokens.write
        types = self._goqueue.types
        worker_id, command, _ = leases.standing
        return {
            "worker_id": worker_id,
            "lease_seconds": settings.lease_seconds,
            "heartbeat_seconds": settings.heartbeat_seconds,
            "quiet": command is WorkerCommand.QUIET,
            "stop": command is WorkerCommand.STOP,
            "jobs": [
                leased_job(
                    job, write(HeldJob.of(job, worker_id), order.identity.client), types.found(job.type)
                )
                for job in leases.jobs
            ],
        }


class LeaseHeartbeatResource(Resource):
    """The heartbeat of a job that is held."""

    def on_post(self, request: falcon.Request, response: falcon.Response, token: str) -> None:
        """Renew the leases of the worker and of the jobs that it names."""
        remote = self._goqueue.remote_jobs
        held = held_job(self._goqueue.remote_jobs, request, token)
        body = validate(Heartbeat, read_optional_document(request, self._goqueue.settings.job_max_bytes))
        others = readable(remote, request, body.tokens)
        renewed = remote.renewals.renew([held, *others.values()])
        response.data = as_json(
            {
                "lease_seconds": self._goqueue.settings.lease_seconds,
                "cancel": held.key in renewed.cancelled,
                "quiet": renewed.command is WorkerCommand.QUIET,
                "stop": renewed.command is WorkerCommand.STOP,
                "cancelled_tokens": [one for one, job in others.items() if job.key in renewed.cancelled],
                "lost_tokens": [
                    one for one in body.tokens if one not in others or others[one].key in renewed.lost
                ],
            }
        )


class CompleteLeaseResource(Resource):
    """The completion of a job that is held."""

    def on_post(self, request: falcon.Request, response: falcon.Response, token: str) -> None:
        """Keep the result; the job has completed."""
        held = held_job(self._goqueue.remote_jobs, request, token)
        most = self._goqueue.settings.result_max_bytes + self._goqueue.settings.job_max_bytes
        body = validate(CompleteJob, read_optional_document(request, most))
        ended = self._goqueue.remote_jobs.ends.complete(held, result_text(body.result), body.run_seconds)
        response.data = as_json(ended._asdict())


class CompleteLeasesResource(Resource):
    """The completion of several jobs that are held."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Keep the results, in one commit."""
        remote = self._goqueue.remote_jobs
        body = validate(CompleteJobs, read_document(request, self._goqueue.settings.batch_max_bytes))
        said = {one.token: one for one in body.leases}
        known = readable(remote, request, said)
        ended = remote.ends.complete_many(
            {
                held: (result_text(said[token].result), said[token].run_seconds)
                for token, held in known.items()
            }
        )
        response.data = as_json(
            {
                "completed": [ended[held]._asdict() for held in known.values() if held in ended],
                "lost_tokens": [token for token in said if known.get(token) not in ended],
            }
        )


class FailLeaseResource(Resource):
    """The failure of an attempt at a job that is held."""

    def on_post(self, request: falcon.Request, response: falcon.Response, token: str) -> None:
        """End the attempt; the answer says whether the job runs again."""
        held = held_job(self._goqueue.remote_jobs, request, token)
        body = validate(FailJob, read_optional_document(request, self._goqueue.settings.job_max_bytes))
        reported = ReportedFailure(body.error, body.error_type, body.traceback, body.ending, body.retry_after)
        ended = self._goqueue.remote_jobs.ends.fail(held, reported, body.run_seconds)
        response.data = as_json(ended._asdict())


class LeaseProgressResource(Resource):
    """The progress of a job that is held."""

    def on_post(self, request: falcon.Request, response: falcon.Response, token: str) -> None:
        """Note how far it has come."""
        held = held_job(self._goqueue.remote_jobs, request, token)
        body = validate(ReportProgress, read_document(request, self._goqueue.settings.job_max_bytes))
        self._goqueue.remote_jobs.reports.progress(held, body.progress, body.message)
        response.status = falcon.HTTP_204


class LeaseLogResource(Resource):
    """The log of an attempt at a job that is held."""

    def on_post(self, request: falcon.Request, response: falcon.Response, token: str) -> None:
        """Add lines, as far as there is room."""
        held = held_job(self._goqueue.remote_jobs, request, token)
        body = validate(LogLines, read_document(request, self._goqueue.settings.job_max_bytes))
        response.data = as_json(self._goqueue.remote_jobs.reports.log(held, body.lines)._asdict())


def held_job(remote: RemoteJobs, request: falcon.Request, token: str) -> HeldJob:
    """Return the job that a token stands for.

    Raises:
        LeaseNotFoundError: the service signed no such token for this client, or the key is for other jobs.
    """
    principal = principal_of(request)
    held = remote.tokens.read(token, client_key(principal))
    if not principal.sees(held.queue, held.type):
        raise LeaseNotFoundError
    return held


def readable(remote: RemoteJobs, request: falcon.Request, tokens: Iterable[str]) -> dict[str, HeldJob]:
    """Return the jobs that tokens stand for, without those that stand for none."""
    found = {}
    for token in tokens:
        with suppress(LeaseNotFoundError):
            found[token] = held_job(remote, request, token)
    return found


def result_text(result: Any) -> bytes | None:
    """Return a result as JSON text; null is none."""
    return None if result is None else orjson.dumps(result)


def client_key(principal: Principal) -> str:
    """Return what tells the workers of one client from those of others: the name of its key, or its hash."""
    return principal.name or principal.key_hash


def leased_job(job: ClaimedJob, token: str, job_type: JobType | None) -> dict[str, Any]:
    """Return the job as a `LeasedJobDocument`; its type, where that is known, says what it does not."""
    of_type = None if job_type is None else job_type.time_limit_seconds
    return {
        "token": token,
        "id": job.id,
        "queue": job.queue,
        "type": job.type,
        "attempt": job.attempts,
        "max_retries": job.max_retries,
        "fence": job.fence,
        "payload": orjson.Fragment(job.payload),
        "time_limit_seconds": job.time_limit_seconds or of_type,
        "deadline_seconds": job.deadline_seconds,
        "traceparent": job.traceparent,
    }

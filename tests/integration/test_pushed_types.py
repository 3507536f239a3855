"""Jobs that are sent to a URL: a serverless function is a worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from goqueue.actors.push_call import push_job
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.dev.fakes.http_server import FakeAnswer
from goqueue.instance import GoQueue, default
from goqueue.jobs import JobStatus
from tests.support.engine import Engine, running_engine
from tests.support.servers.job_receiver import JobReceiver
from tests.support.waiting import wait_until

TYPE = "transcode"


def nothing() -> None:
    """The worker's process declares no type of its own for the queue."""
    default().broker.push_call = push_job


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine that may call this machine, and knows of a declaration after a moment."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("goqueue.worker.push_types", "goqueue.remote.declared_types"):
            patch.setattr(f"{module}.KEPT_SECONDS", 0.05)
        allowed = {"webhook_allow_networks": ("127.0.0.0/8",), "result_max_bytes": 1_024}
        with running_engine(postgres, valkey, "pushed_types", nothing, **allowed) as engine:
            yield engine


@pytest.fixture
def receiver() -> Iterator[JobReceiver]:
    """Where jobs are sent."""
    with JobReceiver() as receiver:
        yield receiver


@pytest.fixture
def program(engine: Engine) -> GoQueue:
    """Whoever declares and creates; a declaration of it reaches the worker by its row alone."""
    assert engine is not None
    return default()


def push(engine: Engine, program: GoQueue, receiver: JobReceiver, url: str = "", **declared: Any) -> Any:
    """Declare the type, create a job of it, and return its id and the secret."""
    retries = {"max_retries": 2, "min_backoff_seconds": 0.01, "max_backoff_seconds": 0.02}
    made = program.declare_type(
        TYPE, schema={"type": "object"}, url=url or f"{receiver.url}/run", **retries | declared
    )
    wait_until(lambda: knows(engine, made.type.updated_at), what="the worker to know the declaration")
    return program.create(TYPE, {"file": "a.mov"}), made.type.secret


def knows(engine: Engine, updated_at: Any) -> bool:
    """Whether the worker declared the type as it is by now, and says so in its row."""
    known = engine.broker.push_types.declared.get(TYPE)
    told = engine.rows("SELECT types FROM workers WHERE stopped_at IS NULL AND 'transcode' = ANY (types)")
    return known is not None and known.updated_at == updated_at and bool(told)


def test_a_job_is_sent_signed_and_its_answer_is_its_result(
    engine: Engine, program: GoQueue, receiver: JobReceiver
) -> None:
    """The payload with what the job is, signed as Standard Webhooks says; JSON comes back as the result."""
    receiver.gives(FakeAnswer(200, b'{"frames": 25}'))
    job_id, secret = push(engine, program, receiver)
    assert engine.wait_for(job_id).result == {"frames": 25}
    (call,) = receiver.calls
    (job,) = receiver.jobs
    assert job["payload"] == {"file": "a.mov"}
    assert (job["id"], job["type"], job["attempt"]) == (job_id, TYPE, 1)
    Webhook(secret).verify(call.body.decode(), call.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(call.body.decode() + " ", call.headers)
    assert call.headers["idempotency-key"] == call.headers["webhook-id"] == f"job_{job_id}_{job['fence']}"
    assert (call.headers["goqueue-job-id"], call.headers["goqueue-attempt"]) == (str(job_id), "1")


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (FakeAnswer(204), None),
        (FakeAnswer(202, b"taken\x00"), "taken\ufffd"),
        (FakeAnswer(200, b"[1, null]"), [1, None]),
    ],
    ids=["nothing", "a text", "a list"],
)
def test_every_success_completes_the_job(
    engine: Engine, program: GoQueue, receiver: JobReceiver, answer: FakeAnswer, result: Any
) -> None:
    """Whatever its body is; what is no JSON is kept as a text."""
    receiver.gives(answer)
    job_id, _ = push(engine, program, receiver)
    assert engine.wait_for(job_id).result == result


@pytest.mark.parametrize(
    ("status", "headers", "calls", "ends"),
    [
        pytest.param(500, {}, 3, JobStatus.FAILED, id="an error of the server"),
        pytest.param(429, {}, 3, JobStatus.FAILED, id="too many, without a time"),
        pytest.param(400, {}, 1, JobStatus.FAILED, id="an error of ours"),
        pytest.param(404, {"Retry-After": "1"}, 1, JobStatus.FAILED, id="nothing there"),
        pytest.param(302, {"Location": "http://127.0.0.1/"}, 1, JobStatus.FAILED, id="a redirect"),
    ],
)
def test_what_is_no_success_is_retried_or_final(
    engine: Engine,
    program: GoQueue,
    receiver: JobReceiver,
    status: int,
    headers: dict[str, str],
    calls: int,
    ends: JobStatus,
) -> None:
    """By the policy of the type where the server is at fault; at once where the job is."""
    receiver.gives(FakeAnswer(status, b"no", headers))
    job_id, _ = push(engine, program, receiver)
    job = engine.wait_for(job_id, ends)
    assert (len(receiver.calls), f"the receiver answered {status}" in (job.error or "")) == (calls, True)
    assert len({call.headers["idempotency-key"] for call in receiver.calls}) == calls


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_that_is_asked_for_is_kept(
    engine: Engine, program: GoQueue, receiver: JobReceiver, status: int
) -> None:
    """Retry-After says when it is sent again, whatever the policy says."""
    receiver.gives(FakeAnswer(status, b"", {"Retry-After": "3000"}), FakeAnswer())
    job_id, _ = push(engine, program, receiver)
    wait_until(lambda: engine.job(job_id).fence == 1 and engine.attempts(job_id), what="the first attempt")
    job = engine.wait_for(job_id, JobStatus.QUEUED)
    assert 2_900 < (job.available_at - job.updated_at).total_seconds() <= 3_000
    program.edit(job_id, available_at=job.created_at)
    engine.wait_for(job_id)


def test_a_result_that_is_too_large_is_final(engine: Engine, program: GoQueue, receiver: JobReceiver) -> None:
    """The work was done: it is not asked for again."""
    receiver.gives(FakeAnswer(200, json.dumps("x" * 2_000).encode()))
    job_id, _ = push(engine, program, receiver)
    assert "more than 1,024 bytes" in (engine.wait_for(job_id, JobStatus.FAILED).error or "")
    assert len(receiver.calls) == 1


def test_nobody_there_is_retried(engine: Engine, program: GoQueue, receiver: JobReceiver) -> None:
    """A connection that is refused is an attempt that failed, without the address in its error."""
    job_id, _ = push(engine, program, receiver, "http://127.0.0.1:1/secret")
    job = engine.wait_for(job_id, JobStatus.FAILED)
    assert (job.attempts, "secret" in (job.error or "")) == (3, False)


def test_an_address_that_is_not_allowed_is_not_called(
    engine: Engine, program: GoQueue, receiver: JobReceiver
) -> None:
    """As of a webhook: private networks are not connected to, by name or by number."""
    for host in ("10.1.2.3", "169.254.169.254", "0x7f000001", "[::1]"):
        job_id, _ = push(engine, program, receiver, f"http://{host}/")
        job = engine.wait_for(job_id, JobStatus.FAILED)
        assert (job.attempts, "not global" in (job.error or "")) == (1, True)


def test_a_call_is_cancelled_and_limited_as_any_handler(
    engine: Engine, program: GoQueue, receiver: JobReceiver
) -> None:
    """A receiver that does not answer holds no thread; a cancel and the time limit end the call."""
    receiver.gives(FakeAnswer(delay_seconds=20))
    job_id, _ = push(engine, program, receiver)
    wait_until(lambda: receiver.calls, what="the call")
    assert engine.broker.slots.busy == 0
    program.cancel(job_id)
    engine.wait_for(job_id, JobStatus.CANCELLED)
    limited, _ = push(engine, program, receiver, time_limit_seconds=0.2, max_retries=0)
    assert "TimeLimitExceeded" in (engine.wait_for(limited, JobStatus.FAILED).error or "")


def test_both_secrets_are_good_while_one_is_rotated(
    engine: Engine, program: GoQueue, receiver: JobReceiver
) -> None:
    """For the overlap calls are signed with both; a rotation without one ends that."""
    job_id, before = push(engine, program, receiver)
    engine.wait_for(job_id)
    made = program.rotate_type_secret(TYPE)
    assert made.secret not in {None, before}
    wait_until(lambda: knows(engine, made.type.updated_at), what="the worker to know the secret")
    engine.wait_for(program.create(TYPE, {}))
    call = receiver.calls[-1]
    for secret in (before, made.secret):
        Webhook(secret).verify(call.body.decode(), call.headers)
    again = program.rotate_type_secret(TYPE, overlap_seconds=0)
    wait_until(lambda: knows(engine, again.type.updated_at), what="the worker to know the other")
    engine.wait_for(program.create(TYPE, {}))
    call = receiver.calls[-1]
    assert len(call.headers["webhook-signature"].split()) == 1


def test_a_worker_serves_a_new_queue_and_forgets_a_type_that_is_removed(
    engine: Engine, program: GoQueue, receiver: JobReceiver
) -> None:
    """Without a restart: its row has the queue of the type, and no longer the type when that is gone."""
    job_id, _ = push(engine, program, receiver, queue="films")
    engine.wait_for(job_id)
    serves = "SELECT 1 FROM workers WHERE stopped_at IS NULL AND 'films' = ANY (queues)"
    wait_until(lambda: engine.rows(serves), what="the worker to say that it serves the queue")
    program.remove_type(TYPE)
    told = "SELECT 1 FROM workers WHERE stopped_at IS NULL AND 'transcode' = ANY (types)"
    wait_until(lambda: not engine.rows(told), what="the worker to forget the type")
    assert program.types.declared(TYPE) is None

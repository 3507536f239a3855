"""The mapping from errors to answers."""

from __future__ import annotations

import httpx
import pytest
from falcon import App, HTTPServiceUnavailable, Request, Response, testing

from goqueue.api.frame.problems import MAX_FIELDS, add_error_handlers
from goqueue.errors import (
    DatabaseUnavailableError,
    GoQueueError,
    IdempotencyConflictError,
    IllegalTransitionError,
    InvalidJobError,
    JobNotFoundError,
    QueueNotFoundError,
    RedisUnavailableError,
    UnavailableError,
)
from goqueue.observability.monitoring_server import MonitoringServer, Probes


class Raises:
    """A resource that raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def on_get(self, _request: Request, _response: Response) -> None:
        """Raise."""
        raise self.error


def answer_to(error: Exception) -> testing.Result:
    """How the error is answered."""
    app: App[Request, Response] = App()
    add_error_handlers(app)
    app.add_route("/", Raises(error))
    return testing.TestClient(app).simulate_get("/")


@pytest.mark.parametrize(
    ("error", "status", "problem"),
    [
        (InvalidJobError({"a": "wrong"}), 400, "bad-request"),
        (JobNotFoundError(5), 404, "not-found"),
        (QueueNotFoundError("q"), 404, "not-found"),
        (IllegalTransitionError(5, "failed", "running"), 409, "conflict"),
        (IdempotencyConflictError(), 422, None),
        (UnavailableError(), 503, "service-unavailable"),
        (DatabaseUnavailableError("host=secret"), 503, "service-unavailable"),
        (RedisUnavailableError(), 503, "service-unavailable"),
        (GoQueueError("secret"), 500, "internal-server-error"),
        (ValueError("secret"), 500, "internal-server-error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_error_has_one_answer(error: Exception, status: int, problem: str | None) -> None:
    """Status, type and members of the document follow from the error; secrets do not."""
    result = answer_to(error)
    assert result.status_code == status
    assert result.headers["content-type"] == "application/problem+json"
    document = result.json
    assert document.keys() >= {"type", "title", "status", "detail", "error"}
    assert (document["status"], document["error"]) == (status, document["detail"])
    if problem:
        assert document["type"] == f"urn:goqueue:problem:{problem}"
    assert ("retry-after" in result.headers) == (status == 503)
    assert "secret" not in result.text


def test_fields_are_told_and_bounded() -> None:
    """The detail tells the first fields in words; at most a hundred are listed."""
    result = answer_to(InvalidJobError({f"f{number}": "wrong" for number in range(200)}))
    assert result.json["detail"] == "f0: wrong; f1: wrong; f2: wrong; and 197 more"
    assert len(result.json["fields"]) == MAX_FIELDS


def test_every_503_says_when_to_ask_again() -> None:
    """Also one that a resource raised as an HTTP error, and one of the probes' own ports."""
    assert answer_to(HTTPServiceUnavailable()).headers["retry-after"] == "1"
    assert answer_to(HTTPServiceUnavailable(retry_after=7)).headers["retry-after"] == "7"
    server = MonitoringServer("127.0.0.1", 0, Probes(list, lambda: ["not well"]))
    server.start()
    answer = httpx.get(f"http://127.0.0.1:{server.port}/health/ready", trust_env=False)
    server.stop()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")

"""What creates a job again says exactly what the job is, to a shell and to Python."""

from __future__ import annotations

import ast
import json
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from goqueue.dashboard.parts.recreate import Handler, as_curl, as_python, request_of
from goqueue.engine.dependency_rows import Link
from goqueue.jobs import Job, JobStatus, OnParentFailure

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
URL = "http://localhost:8000/jobs/create"
HANDLER = Handler("app.jobs", "send")

JOB = Job(
    id=17, queue="email", type="send", status=JobStatus.COMPLETED, payload={}, priority=0, attempts=1,
    max_retries=3, fence=1, deaths=0, quarantined=False, available_at=NOW, time_limit_seconds=None,
    worker_id=None, result=None, error=None, reason=None, created_at=NOW, updated_at=NOW, started_at=NOW,
    finished_at=NOW,
)  # fmt: skip

#: What PostgreSQL keeps: no NUL, no half of a surrogate pair; integers of 64 bits.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
PAYLOADS = st.dictionaries(TEXTS, VALUES, max_size=5)

HOSTILE = {
    "'; rm -rf / #": "$(id) `id` ${HOME} !! \\ \" ' \n \r \t \x1b[31m \x7f",
    "'''": ['"""', "\\", "\\'", "\u202e\u2066 turned around", "\u2028", "\N{PILE OF POO}", "</script>"],
}


def request_for(**columns: Any) -> dict[str, Any]:
    """The request of a job with these columns."""
    return request_of(replace(JOB, **columns), [], now=NOW, unique_by_type=False)


def body_of(command: str) -> Any:
    """What a shell would send."""
    words = shlex.split(command)
    text = words[words.index("-d") + 1] if "-d" in words else words[words.index("%s") + 1]
    return json.loads(text)


def payload_of(program: str) -> Any:
    """What Python would hand over as the payload."""
    (call,) = [
        node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Call) and len(node.args) == 2
    ]
    return ast.literal_eval(call.args[1])


@given(payload=PAYLOADS)
@example(payload=HOSTILE)
@settings(max_examples=200, deadline=None)
def test_both_say_what_the_payload_is(payload: dict[str, Any]) -> None:
    """Whatever the payload holds, a shell and Python read exactly it."""
    request = request_for(payload=payload)
    assert json.dumps(body_of(as_curl(request, URL, needs_key=False))) == json.dumps(request)
    assert json.dumps(payload_of(as_python(request, HANDLER, URL, needs_key=False))) == json.dumps(payload)


def test_nothing_in_them_is_invisible_or_turns_the_text_around() -> None:
    """What a reader sees is what a shell and Python get."""
    request = request_for(payload=HOSTILE)
    for written in (as_curl(request, URL, needs_key=True), as_python(request, HANDLER, URL, needs_key=True)):
        assert written.replace("\n", "").isprintable()


def test_names_are_quoted_as_well() -> None:
    """A queue, a type and an address from outside are data for the shell and for Python."""
    name = 'a\'; rm -rf /; \'"""\n'
    request = request_for(queue=name, type=name, concurrency_key=name)
    words = shlex.split(as_curl(request, f"http://{name}/", needs_key=False))
    assert words[:2] == ["curl", f"http://{name}/"]
    assert json.loads(words[-1])["queue"] == name
    program = ast.parse(as_python(request, HANDLER, URL, needs_key=False))
    said = {
        key.arg: ast.literal_eval(key.value)
        for node in ast.walk(program)
        if isinstance(node, ast.Call)
        for key in node.keywords
    }
    assert said == {"queue": name, "max_retries": 3, "concurrency_key": name}


def test_a_body_that_is_no_argument_goes_through_a_pipe() -> None:
    """Linux hands no argument of more than 128 KiB to a program."""
    request = request_for(payload={"text": "x" * 200_000})
    command = as_curl(request, URL, needs_key=False)
    assert command.startswith("printf %s ")
    assert shlex.split(command)[-1] == "@-"
    assert body_of(command) == request


def test_the_key_is_the_shells_business() -> None:
    """Where keys are needed, the commands name a variable and no key."""
    request = request_for()
    assert '"Authorization: Bearer $GOQUEUE_API_KEY"' in as_curl(request, URL, needs_key=True)
    assert "os.environ['GOQUEUE_API_KEY']" in as_python(request, None, URL, needs_key=True)
    assert "Authorization" not in as_curl(request, URL, needs_key=False)


@pytest.mark.parametrize(
    "handler", [None, Handler("app.jobs", "make.<locals>.send"), Handler("app-x", "send")]
)
def test_python_without_an_actor_asks_the_api(handler: Handler | None) -> None:
    """What cannot be imported is not imported; the same request goes through REST."""
    request = request_for(payload=HOSTILE)
    program = as_python(request, handler, URL, needs_key=True)
    (call,) = [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Call) and node.keywords]
    (body,) = [key.value for key in call.keywords if key.arg == "json"]
    assert ast.literal_eval(body) == request


def test_what_is_the_default_is_left_out() -> None:
    """A plain job is a short request."""
    assert request_for() == {"queue": "email", "type": "send", "payload": {}, "max_retries": 3}


def test_times_mean_the_same_again() -> None:
    """Ends are so long after the creation; a start is kept while it is to come and nothing has run."""
    later = NOW + timedelta(hours=1)
    request = request_for(expires_at=later, deadline_at=NOW + timedelta(hours=2), available_at=later, fence=0)
    assert (request["ttl_seconds"], request["deadline_seconds"]) == (3600, 7200)
    assert request["available_at"] == "2026-11-24T13:00:00Z"
    program = as_python(request, HANDLER, URL, needs_key=False)
    assert "available_at=datetime.fromisoformat('2026-11-24T13:00:00Z')" in program
    # A backoff is nothing that its creator said.
    assert "available_at" not in request_for(available_at=later, fence=1)
    assert "available_at" not in request_for(available_at=NOW - timedelta(hours=1), fence=0)
    # It was over when it was created.
    assert "ttl_seconds" not in request_for(expires_at=NOW - timedelta(hours=1))


def test_a_unique_key_of_the_type_is_made_again_by_the_type() -> None:
    """Only a key that the client gave is said."""
    job = replace(JOB, unique_key="k")
    assert request_of(job, [], now=NOW, unique_by_type=False)["unique"] == {"key": "k"}
    assert "unique" not in request_of(job, [], now=NOW, unique_by_type=True)
    request = request_for(unique_key="k'")
    assert 'unique=goqueue.Unique(key="k\'")' in as_python(request, HANDLER, URL, needs_key=False)


def test_it_waits_for_the_parents_that_are_there() -> None:
    """A parent that was deleted is left out; the policy is the job's."""
    parents = [
        Link(1, JobStatus.COMPLETED, "q", "t", OnParentFailure.RUN, JobStatus.COMPLETED),
        Link(2, None, None, None, OnParentFailure.RUN, JobStatus.COMPLETED),
    ]
    request = request_of(JOB, parents, now=NOW, unique_by_type=False)
    assert (request["depends_on"], request["on_parent_failure"]) == ([1], "run")

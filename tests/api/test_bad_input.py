"""Bad input: a 4xx problem that names the field; never a 500, never a row."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from falcon import testing
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from goqueue.jobs import QUARANTINE_QUEUE
from tests.api.conftest import NOOP
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

PROBLEM = "application/problem+json"
EMAIL = {"to": "a@example.com", "subject": "Hello", "body": "World"}
JSON = {"Content-Type": "application/json"}


def with_payload(payload: str) -> str:
    """The text of a create request with this payload."""
    return f'{{"queue": "noop", "payload": {payload}}}'


def job(**members: Any) -> str:
    """The text of a create request with these members."""
    return json.dumps(NOOP | members)


def test_depth_32_is_accepted(client: testing.TestClient) -> None:
    """The deepest request that is allowed is accepted, and one bracket in a string counts for nothing."""
    text = nested(32).replace('"payload": {', '"payload": {"text": "[\\"[", ')
    assert client.simulate_post("/jobs/create", body=text, headers=JSON).status_code == 201


def nested(depth: int) -> str:
    """A payload so deep that the whole request is `depth` deep."""
    return with_payload('{"anything": ' + "[" * (depth - 2) + "]" * (depth - 2) + "}")


CREATE_BODIES = [
    pytest.param("", "body", id="empty"),
    pytest.param("{", "body", id="cut off"),
    pytest.param("{'queue': 1}", "body", id="single quotes"),
    pytest.param(job() + "x", "body", id="text after the end"),
    pytest.param(b'{"queue": "\xff"}', "body", id="not UTF-8"),
    pytest.param("\ufeff" + job(), "body", id="byte order mark"),
    pytest.param("[]", "body", id="an array"),
    pytest.param("null", "body", id="null"),
    pytest.param('"text"', "body", id="a string"),
    pytest.param("[" * 100_000, "body", id="a hundred thousand brackets"),
    pytest.param('{"a":' * 100_000, "body", id="a hundred thousand objects"),
    pytest.param(nested(33), "payload.anything[0][0]", id="deeper than 32"),
    pytest.param('{"queue": "noop", "queue": "noop", "payload": {}}', "body", id="a field twice"),
    pytest.param(with_payload('{"text": "a", "text": "b"}'), "payload", id="a payload field twice"),
    pytest.param(with_payload('{"anything": [{"a": 1, "a": 1}]}'), "payload.anything[0]", id="twice, deep"),
    pytest.param(with_payload('{"text": "a\\u0000b"}'), "payload.text", id="NUL"),
    pytest.param(with_payload('{"anything": {"\\u0000": 1}}'), "payload.anything", id="NUL in a name"),
    pytest.param(with_payload('{"text": "\\ud800"}'), "payload.text", id="lone high surrogate"),
    pytest.param(
        with_payload('{"text": "\\udc00\\ud800"}'), "payload.text", id="surrogates in the wrong order"
    ),
    pytest.param(with_payload('{"\\ud800": 1}'), "payload", id="surrogate in a name"),
    pytest.param(with_payload('{"text": "a\nb"}'), "body", id="raw control character"),
    pytest.param(with_payload('{"anything": NaN}'), "payload.anything", id="NaN"),
    pytest.param(with_payload('{"anything": -Infinity}'), "payload.anything", id="Infinity"),
    pytest.param(with_payload('{"anything": 1e999}'), "payload.anything", id="a float too large"),
    pytest.param(
        with_payload('{"number": 9223372036854775808}'), "payload.number", id="an integer too large"
    ),
    pytest.param(
        with_payload('{"number": -9223372036854775809}'), "payload.number", id="an integer too small"
    ),
    pytest.param(
        with_payload('{"number": ' + "9" * 10_000 + "}"), "payload.number", id="ten thousand digits"
    ),
    pytest.param('{"payload": {}}', "queue", id="no queue"),
    pytest.param('{"queue": "noop"}', "payload", id="no payload"),
    pytest.param(job(queue=""), "queue", id="empty queue"),
    pytest.param(job(queue=5), "queue", id="queue is a number"),
    pytest.param(job(queue=None), "queue", id="queue is null"),
    pytest.param(job(queue="nosuch"), "queue", id="unknown queue"),
    pytest.param(job(queue="q" * 201), "queue", id="long queue"),
    pytest.param(job(queue=QUARANTINE_QUEUE), "queue", id="the engine's own queue"),
    pytest.param(job(type="nosuch"), "type", id="unknown type"),
    pytest.param(job(type=["noop"]), "type", id="type is an array"),
    pytest.param(job(payload=[]), "payload", id="payload is an array"),
    pytest.param(job(payload="{}"), "payload", id="payload is a string"),
    pytest.param(job(payload=None), "payload", id="payload is null"),
    pytest.param(job(payload={"number": "1"} | {"other": 1}), "payload.other", id="unknown payload field"),
    pytest.param(job(queue="email", payload=EMAIL | {"to": "x"}), "payload.to", id="wrong address"),
    pytest.param(job(queue="email", payload=EMAIL | {"subject": ""}), "payload.subject", id="empty subject"),
    pytest.param(job(max_retries=-1), "max_retries", id="retries below 0"),
    pytest.param(job(max_retries=21), "max_retries", id="retries above 20"),
    pytest.param(job(max_retries="3"), "max_retries", id="retries as text"),
    pytest.param(job(max_retries=3.0), "max_retries", id="retries as a float"),
    pytest.param(job(max_retries=True), "max_retries", id="retries as a boolean"),
    pytest.param(job(priority=101), "priority", id="priority above 100"),
    pytest.param(job(priority=-101), "priority", id="priority below -100"),
    pytest.param(job(priority=None), "priority", id="priority is null"),
    pytest.param(job(time_limit_seconds=0), "time_limit_seconds", id="no time"),
    pytest.param(job(time_limit_seconds=86_401), "time_limit_seconds", id="more than a day"),
    pytest.param(job(time_limit_seconds=True), "time_limit_seconds", id="time as a boolean"),
    pytest.param(job(available_at="2031-02-03T04:05:06"), "available_at", id="a date without zone"),
    pytest.param(job(available_at="2031-02-03"), "available_at", id="a date without time"),
    pytest.param(job(available_at="2031-02-30T00:00:00Z"), "available_at", id="no such day"),
    pytest.param(job(available_at="2031-02-03T24:00:01Z"), "available_at", id="no such hour"),
    pytest.param(job(available_at="0001-01-01T00:00:00+01:00"), "available_at", id="before year one"),
    pytest.param(job(available_at="9999-12-31T23:59:59-01:00"), "available_at", id="after year 9999"),
    pytest.param(job(available_at=1_900_000_000), "available_at", id="a date as a number"),
    pytest.param(job(status="completed"), "status", id="unknown field"),
    pytest.param(job(id=1), "id", id="an id"),
]


def assert_problem(result: testing.Result, status: int, field: str | None = None) -> None:
    """The answer is a problem document of this status that names the field."""
    assert result.status_code == status, result.text
    assert result.headers["content-type"] == PROBLEM
    assert result.json["status"] == status
    assert result.json["error"] == result.json["detail"]
    if field is not None:
        assert field in result.json["fields"], result.text


@pytest.mark.parametrize(("body", "field"), CREATE_BODIES)
def test_a_wrong_job_is_refused(
    client: testing.TestClient, rows: Callable[[], int], body: str | bytes, field: str
) -> None:
    """A create that is wrong somewhere answers 400, names the place, and makes no row."""
    assert_problem(client.simulate_post("/jobs/create", body=body, headers=JSON), 400, field)
    assert rows() == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        case
        for case in CREATE_BODIES
        if isinstance(case.values[0], str) and case.values[0].startswith('{"queue')
    ],
)
def test_one_wrong_job_refuses_the_batch(
    client: testing.TestClient, rows: Callable[[], int], body: str, field: str
) -> None:
    """A batch with one wrong job answers 400, names the job by its index, and makes no row."""
    text = f'{{"jobs": [{job()}, {body}, {job()}]}}'
    named = "jobs[1]" if field == "body" else f"jobs[1].{field}"
    result = client.simulate_post("/jobs/batch", body=text, headers=JSON)
    assert result.status_code == 400, result.text
    # A path that is too deep is told only in part.
    names = [name for name in result.json["fields"] if name.startswith("jobs[1]") or name == "body"]
    assert any(name.startswith(named) or named.startswith(name) or name == "body" for name in names), (
        result.text
    )
    assert rows() == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param("{}", "jobs", id="no jobs"),
        pytest.param('{"jobs": []}', "jobs", id="an empty array"),
        pytest.param('{"jobs": {}}', "jobs", id="an object"),
        pytest.param('{"jobs": [1]}', "jobs[0]", id="a number"),
        pytest.param(f'{{"jobs": [{job()}], "more": 1}}', "more", id="unknown field"),
        pytest.param('{"jobs": [' + ",".join([job()] * 10_001) + "]}", "jobs", id="10,001 jobs"),
        pytest.param(
            f'{{"jobs": [{job(payload={"text": "x" * 1024 * 1024})}]}}', "jobs[0].payload", id="1 MiB"
        ),
    ],
)
def test_a_wrong_batch_is_refused(
    client: testing.TestClient, rows: Callable[[], int], body: str, field: str
) -> None:
    """A batch of a wrong shape answers 400, names the place, and makes no row."""
    assert_problem(client.simulate_post("/jobs/batch", body=body, headers=JSON), 400, field)
    assert rows() == 0


def test_all_wrong_jobs_of_a_batch_are_named(client: testing.TestClient) -> None:
    """Wrong envelopes and wrong payloads of different jobs are reported together, at most a hundred."""
    wrong = [NOOP | {"payload": {"number": []}}, NOOP, NOOP | {"priority": 500}, NOOP | {"queue": "nosuch"}]
    result = client.simulate_post("/jobs/batch", json={"jobs": wrong})
    assert result.json["fields"].keys() == {"jobs[0].payload.number", "jobs[2].priority", "jobs[3].queue"}
    many = client.simulate_post("/jobs/batch", json={"jobs": [NOOP | {"priority": 500}] * 300})
    assert len(many.json["fields"]) == 100


@pytest.mark.parametrize(
    ("path", "limit"), [("/jobs/create", 1024 * 1024), ("/jobs/batch", 32 * 1024 * 1024)]
)
def test_a_body_over_the_limit_is_413(
    client: testing.TestClient, rows: Callable[[], int], path: str, limit: int
) -> None:
    """One byte more than the limit answers 413; the limit itself is read."""
    result = client.simulate_post(path, body=b" " * (limit + 1), headers=JSON)
    assert_problem(result, 413)
    assert client.simulate_post(path, body=b" " * limit, headers=JSON).status_code == 400
    assert rows() == 0


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_that_is_not_json_is_415(client: testing.TestClient, content_type: str | None) -> None:
    """What does not say that it is JSON is not read."""
    headers = {"Content-Type": content_type} if content_type else {}
    assert_problem(client.simulate_post("/jobs/create", body=job(), headers=headers), 415)


def test_a_compressed_body_is_415(client: testing.TestClient) -> None:
    """A body with a Content-Encoding is not read."""
    headers = JSON | {"Content-Encoding": "gzip"}
    assert_problem(client.simulate_post("/jobs/create", body=job(), headers=headers), 415)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        pytest.param("", "queue", id="no filter"),
        pytest.param("limit=5", "queue", id="only a limit"),
        pytest.param("queue=noop&nosuch=1", "nosuch", id="unknown parameter"),
        pytest.param("queue=noop&limit=0", "limit", id="limit 0"),
        pytest.param("queue=noop&limit=1001", "limit", id="limit 1001"),
        pytest.param("queue=noop&limit=x", "limit", id="limit as text"),
        pytest.param("queue=noop&status=done", "status", id="unknown status"),
        pytest.param("queue=", "queue", id="empty queue"),
        pytest.param("queue=a&queue=b", "queue", id="queue twice"),
        pytest.param("queue=a%00", "queue", id="NUL"),
        pytest.param("queue=noop&cursor=x", "cursor", id="forged cursor"),
        pytest.param("queue=noop&cursor=" + "A" * 20, "cursor", id="forged cursor of the right length"),
        pytest.param("queue=noop&cursor=%C3%A4", "cursor", id="cursor beyond ASCII"),
        pytest.param("created_after=2031-02-03T04:05:06", "created_after", id="date without zone"),
        pytest.param("created_before=yesterday", "created_before", id="no date"),
    ],
)
def test_a_wrong_query_is_refused(client: testing.TestClient, query: str, field: str) -> None:
    """A list that is asked for wrongly answers 400 and names the parameter."""
    assert_problem(client.simulate_get("/jobs", query_string=query), 400, field)


@pytest.mark.parametrize(
    ("method", "suffix", "body", "field"),
    [
        pytest.param("PUT", "/status", "{}", "status", id="no status"),
        pytest.param("PUT", "/status", '{"status": "done"}', "status", id="unknown status"),
        pytest.param("PUT", "/status", '{"status": 1}', "status", id="status is a number"),
        pytest.param("PUT", "/status", '{"status": "running", "x": 1}', "x", id="unknown field of status"),
        pytest.param("POST", "/save", '{"result": 1}', "result", id="result is a number"),
        pytest.param("POST", "/save", '{"error": null}', "error", id="error is null"),
        pytest.param("POST", "/save", '{"result": {"a": "\\u0000"}}', "result.a", id="NUL in the result"),
        pytest.param("POST", "/save", '{"error": "\\u0000"}', "error", id="NUL in the error"),
        pytest.param("POST", "/save", '{"reslut": {}}', "reslut", id="unknown field of save"),
    ],
)
def test_a_wrong_write_leaves_the_job(
    client: testing.TestClient, make_job: JobFactory, method: str, suffix: str, body: str, field: str
) -> None:
    """A write that is wrong answers 400, names the field, and the job stays as it was."""
    path = f"/jobs/{make_job().id}"
    before = client.simulate_get(path).json
    assert_problem(client.simulate_request(method, path + suffix, body=body, headers=JSON), 400, field)
    assert client.simulate_get(path).json == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param("{}", "body", id="no filter"),
        pytest.param('{"queue": "noop", "status": "completed"}', "status", id="a status that cannot"),
        pytest.param('{"queue": "noop", "limit": 5}', "limit", id="unknown field"),
        pytest.param('{"created_after": "2031-02-03"}', "created_after", id="a date without zone"),
    ],
)
@pytest.mark.parametrize("path", ["/jobs/retry", "/jobs/cancel"])
def test_a_wrong_selection_is_refused(client: testing.TestClient, path: str, body: str, field: str) -> None:
    """Bulk work without a filter, or with a wrong one, answers 400."""
    assert_problem(client.simulate_post(path, body=body, headers=JSON), 400, field)


@pytest.mark.parametrize(("path", "status"), [("/jobs/retry", "failed"), ("/jobs/cancel", "running")])
def test_a_status_alone_selects_nothing(client: testing.TestClient, path: str, status: str) -> None:
    """Bulk work over a whole state needs another filter: it is too easily a mistake."""
    assert_problem(client.simulate_post(path, json={"status": status}), 400, "body")


def test_an_unknown_route_is_404(client: testing.TestClient) -> None:
    """A path that leads nowhere answers a 404 problem."""
    assert_problem(client.simulate_get("/nosuch"), 404)


def test_a_wrong_method_is_405(client: testing.TestClient) -> None:
    """A method that a route does not have answers a 405 problem that says which it has."""
    result = client.simulate_delete("/jobs/1")
    assert_problem(result, 405)
    assert "GET" in result.headers["allow"]


@pytest.mark.parametrize("name", ["nosuch", "%00", "%F0%90%80", "a%0Ab"])
def test_an_unknown_queue_cannot_be_paused(client: testing.TestClient, name: str) -> None:
    """Pausing and resuming a queue that is not there answers 404."""
    assert_problem(client.simulate_post(f"/queues/{name}/pause"), 404)
    assert_problem(client.simulate_post(f"/queues/{name}/resume"), 404)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
JOBS = st.fixed_dictionaries(
    {},
    optional={
        "queue": st.sampled_from(["noop", "email", "payment", "webhooks", "default", "nosuch"]) | VALUES,
        "payload": st.dictionaries(
            st.sampled_from(["to", "subject", "body", "url", "amount", "number", "anything"]),
            VALUES,
            max_size=4,
        )
        | VALUES,
        "type": st.sampled_from(["noop", "send_email", "process_payment", "send_webhook"]) | VALUES,
        "max_retries": st.integers(-1, 22) | VALUES,
        "priority": st.integers(-101, 101) | VALUES,
        "available_at": st.datetimes().map(lambda moment: f"{moment.isoformat()}Z") | VALUES,
        "time_limit_seconds": st.floats(0, 90_000) | VALUES,
    },
)
FUZZ = hypothesis_settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(document=JOBS | VALUES)
def test_no_document_breaks_a_create(client: testing.TestClient, document: Any) -> None:
    """Whatever JSON is sent to a create, the answer is 201 or a 4xx problem."""
    result = client.simulate_post("/jobs/create", body=json.dumps(document), headers=JSON)
    assert result.status_code == 201 or 400 <= result.status_code < 500, result.text


@FUZZ
@given(document=st.fixed_dictionaries({"jobs": st.lists(JOBS | VALUES, max_size=4)}) | VALUES)
def test_no_document_breaks_a_batch(client: testing.TestClient, document: Any) -> None:
    """Whatever JSON is sent to a batch, the answer is 201 or a 4xx problem."""
    result = client.simulate_post("/jobs/batch", body=json.dumps(document), headers=JSON)
    assert result.status_code == 201 or 400 <= result.status_code < 500, result.text


@FUZZ
@given(body=st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0e19-', max_size=60).map(str.encode))
def test_no_bytes_break_a_create(client: testing.TestClient, body: bytes) -> None:
    """Whatever bytes are sent to a create, the answer is a 4xx problem."""
    assert 400 <= client.simulate_post("/jobs/create", body=body, headers=JSON).status_code < 500

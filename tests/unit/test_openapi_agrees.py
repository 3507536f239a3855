"""What the description of the API says of a request is what the API takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from goqueue.api.bulk_operations import CreateBulkOperation
from goqueue.api.edits import EditJob
from goqueue.api.frame.openapi import DESCRIPTION, request_schemas
from goqueue.api.operations import OPERATIONS
from goqueue.api.schedule_models import JOB_MEMBERS, PutSchedule
from goqueue.api.schemas import CreateBatch, CreateJob, PlainJob
from goqueue.engine.options.job_settings import refuse_contradictions
from goqueue.engine.options.request_models import validate
from goqueue.errors import InvalidJobError
from goqueue.schedules.cron_expression import CronExpression, zone_of

MODELS = {operation.body.__name__: operation.body for operation in OPERATIONS.values() if operation.body}
SCHEMAS = request_schemas()

#: A request that is taken, for each model in which something is required.
BASES: dict[str, dict[str, Any]] = {
    "CreateJob": {"queue": "a", "payload": {}},
    "CreateBatch": {"jobs": [{"queue": "a", "payload": {}}]},
    "SetStatus": {"status": "queued"},
    "RetrySelection": {"queue": "a"},
    "CancelSelection": {"queue": "a"},
    "EditJob": {"priority": 1},
    "LeaseJobs": {"worker": "a", "types": ["a"]},
    "CompleteJobs": {"leases": [{"token": "a"}]},
    "ReportProgress": {"progress": 0.5},
    "LogLines": {"lines": ["a"]},
    "NewKey": {"name": "a", "scopes": ["jobs:read"]},
    "NewNamespace": {"name": "a"},
    "NewWebhook": {"name": "a", "url": "https://a.example/"},
    "RedeliverRange": {"since": "2026-12-01T00:00:00Z"},
    "CreateBulkOperation": {"action": "retry", "filter": {"queue": "a"}},
    "CreateSchedule": {"name": "a", "cron": "* * * * *", "queue": "a", "payload": {}},
    "PutSchedule": {"cron": "* * * * *", "queue": "a", "payload": {}},
}

MOMENT = "2026-12-01T00:00:00Z"
TEXTS = [
    "",
    "a",
    "a" * 100,
    "a" * 101,
    "a" * 200,
    "a" * 201,
    "a" * 501,
    "a\x01",
    "a\x7f",
    "a\nb",
    "é\N{PILE OF POO}",
]
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    20,
    21,
    100,
    101,
    1_000_001,
    2**63 - 1,
    0.5,
    -0.5,
    1e9,
    *TEXTS,
    MOMENT,
    "2026-12-01T00:00:00",
    "2026-13-01T00:00:00Z",
    "2026-12-01",
    "* * * * *",
    "@daily",
    "* * * *",
    "61 * * * *",
    "Europe/Berlin",
    "Europe/Nowhere",
    "queued",
    "failed",
    "retry",
    "skip",
    "all",
    "mon",
    [],
    ["a"],
    ["a", "a"],
    ["a", "b"],
    [str(number) for number in range(21)],
    [1],
    [1, 1],
    ["queued"],
    ["queued", "queued"],
    {},
    {"a": 1},
    {"key": "a"},
    {"fields": ["a"]},
    {"fields": ["a", "a"]},
    {"key": "a", "fields": ["a"]},
    {"queue": "a"},
    {"queue": None},
    {"ids": [1]},
    {"ids": [1, 1]},
    {"per_second": 1},
    [{"queue": "a", "payload": {}}],
    [{}],
    [{"start": "10:00", "end": "11:00"}],
    [{"start": "10:00", "end": "11:00", "from": MOMENT}],
    [{"from": MOMENT, "until": "2026-12-02T00:00:00Z"}],
    [{"from": MOMENT, "until": "2026-12-02T00:00:00Z", "days": ["mon"]}],
    [{"start": "10:00", "days": ["mon", "tue"]}],
]
#: What the text of the document says of formats.
FORMATS = jsonschema.FormatChecker(formats=())


@FORMATS.checks("date-time")  # type: ignore[untyped-decorator]
def _is_moment(value: object) -> bool:
    if not isinstance(value, str):
        return True
    if not re.fullmatch(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", value, re.ASCII):
        return False
    try:
        datetime.fromisoformat(value.upper())
    except ValueError:
        return False
    return True


@FORMATS.checks("cron")  # type: ignore[untyped-decorator]
def _is_cron(value: object) -> bool:
    return not isinstance(value, str) or _is(CronExpression, value)


@FORMATS.checks("iana-time-zone")  # type: ignore[untyped-decorator]
def _is_zone(value: object) -> bool:
    return not isinstance(value, str) or _is(zone_of, value)


def _is(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


def is_described(name: str, document: Any) -> bool:
    """Whether the description takes a document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": SCHEMAS}}
    return bool(jsonschema.Draft202012Validator(schema, format_checker=FORMATS).is_valid(document))


def is_taken(model: type[BaseModel], document: Any) -> bool:
    """Whether the API takes it."""
    try:
        return _fits(validate(model, document), document)
    except InvalidJobError as error:
        # Which of two moments, or of two spans, is the later one is no matter of a schema.
        assume(not re.search("expected more than (available_at|delay_seconds)", str(error)))
        return False


def _fits(request: BaseModel, document: Any) -> bool:
    """Whether what was read of it keeps the rules that the Python API has as well."""
    if isinstance(request, CreateBatch):
        return all(_is_job(job) for job in request.jobs)
    if isinstance(request, PlainJob):
        return _is_job(request) and all(map(_is_job, getattr(request, "then", None) or ()))
    if isinstance(request, PutSchedule):
        return _is_job(
            validate(CreateJob, {name: document[name] for name in JOB_MEMBERS if name in document})
        )
    if isinstance(request, EditJob):
        return any(said is not None for name, said in request if name != "author")
    if isinstance(request, CreateBulkOperation):
        return not request.new().filter.is_open
    return True


def _is_job(request: PlainJob) -> bool:
    """No option contradicts another one, nor names a job twice."""
    said: dict[str, Any] = dict(request.settings())
    depends_on = said.pop("depends_on", getattr(request, "depends_on", None)) or ()
    refuse_contradictions(said)
    return len(set(depends_on)) == len(depends_on)


def documents(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Requests that are taken, with some members changed."""
    properties = sorted(SCHEMAS[name]["properties"])
    member = st.dictionaries(st.sampled_from([*properties, "unknown"]), st.sampled_from(VALUES), max_size=3)
    return member.map(lambda changed: BASES.get(name, {}) | changed)


@pytest.mark.parametrize("name", MODELS)
def test_the_base_is_taken(name: str) -> None:
    """The request that the others are made from is taken, and described."""
    assert is_taken(MODELS[name], BASES.get(name, {})) is is_described(name, BASES.get(name, {}))


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=150)
@given(data=st.data())
def test_the_description_takes_what_the_api_takes(name: str, data: st.DataObject) -> None:
    """A request is described exactly when it is taken."""
    document = data.draw(documents(name))
    assert is_taken(MODELS[name], document) is is_described(name, document), document


def test_an_integer_has_no_fraction() -> None:
    """What a schema cannot say stands in the description: 1.0 is no integer here; 64 bits are the most."""
    with pytest.raises(InvalidJobError, match="integer"):
        validate(EditJob, {"priority": 1.0})
    assert is_described("EditJob", {"priority": 1.0})
    assert "1.0 is refused" in DESCRIPTION
    assert "64 bits" in DESCRIPTION

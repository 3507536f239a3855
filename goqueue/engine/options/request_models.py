"""The base of all that is said to the service, and the values that many of its models have in common.

REST, Python, schedules and forms read by these what they are told: each bound is written here, or in the
model whose own it is, and nowhere else.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from goqueue.config.bounds import near_moment
from goqueue.engine.options.job_type import MAX_LISTED_PROBLEMS
from goqueue.engine.options.uniqueness import KEY_MAX_CHARACTERS
from goqueue.errors import InvalidJobError
from goqueue.jobs import MAX_DELAY_SECONDS, MAX_JOB_ID, PRIORITY_RANGE

__all__ = [
    "KEY_MAX_CHARACTERS",
    "NAME_MAX_CHARACTERS",
    "PRINTABLE",
    "TAG_MAX_CHARACTERS",
    "UNSTORABLE",
    "JobId",
    "Key",
    "Moment",
    "Name",
    "NearMoment",
    "Priority",
    "QueryMoment",
    "Request",
    "Span",
    "Tag",
    "path_name",
    "validate",
]

#: Names of queues and types: in paths, in Redis keys, in labels of metrics.
NAME_MAX_CHARACTERS = 200
TAG_MAX_CHARACTERS = 100
#: No control character.
PRINTABLE = r"^[^\x00-\x1f\x7f]+$"

MAX_NAMES = 64
PATH_MAX_LENGTH = 200
#: Characters that PostgreSQL or UTF-8 have no place for.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)

Model = TypeVar("Model", bound=BaseModel)


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise PydanticCustomError("moment", "expected a date and time with a zone, as RFC 3339 writes it")


def _moment_of_query(value: Any) -> datetime:
    # In a query a plus sign that was not encoded arrives as a space.
    return _moment(re.sub(r" (?=\d\d:\d\d$)", "+", value) if isinstance(value, str) else value)


Name = Annotated[str, Field(min_length=1, max_length=NAME_MAX_CHARACTERS, pattern=PRINTABLE)]
Key = Annotated[str, Field(min_length=1, max_length=KEY_MAX_CHARACTERS, pattern=PRINTABLE)]
Tag = Annotated[str, Field(min_length=1, max_length=TAG_MAX_CHARACTERS, pattern=PRINTABLE)]
JobId = Annotated[int, Field(ge=1, le=MAX_JOB_ID)]
Priority = Annotated[int, Field(ge=PRIORITY_RANGE[0], le=PRIORITY_RANGE[1])]
Span = Annotated[float, Field(gt=0, le=MAX_DELAY_SECONDS, allow_inf_nan=False)]
Moment = Annotated[datetime, BeforeValidator(_moment)]
NearMoment = Annotated[Moment, AfterValidator(near_moment)]
QueryMoment = Annotated[datetime, BeforeValidator(_moment_of_query)]


class Request(BaseModel):
    """A request: unknown fields are wrong, and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _expect_few_names(cls, document: Any) -> Any:
        # Each unknown name becomes an error with a place of its own: a hundred times the cost of the name.
        if isinstance(document, dict) and len(document) > MAX_NAMES:
            raise PydanticCustomError("names", "expected at most {most} names", {"most": MAX_NAMES})
        return document


def validate(model: type[Model], document: Any, *, whole: str = "body") -> Model:
    """The document as the model.

    Args:
        model: what it has to be.
        document: JSON values, or the parameters of a query.
        whole: the field to name where the document as a whole is wrong.

    Raises:
        InvalidJobError: each field is the path of a wrong value.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        if error.error_count() > MAX_LISTED_PROBLEMS:
            raise InvalidJobError({whole: f"{error.error_count():,} values are wrong"}) from None
        items = error.errors(include_url=False, include_input=False, include_context=False)
        fields = {path_name(item["loc"]) if item["loc"] else whole: item["msg"] for item in items}
        raise InvalidJobError(fields) from None


def path_name(path: tuple[str | int, ...]) -> str:
    """A path as people write it: `jobs[3].payload.to`; `body` for the whole."""
    name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
    # A name that the client chose may hold a lone surrogate, and our answer is UTF-8.
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", name[:PATH_MAX_LENGTH]) or "body"

"""What is asked and answered about jobs that do not run."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from goqueue.api.documents import Document
from goqueue.insight.explain import ReasonCode
from goqueue.insight.explain.blocked_key_rows import WAITING_UP_TO, BlockedKey
from goqueue.jobs import JobStatus

__all__ = [
    "BlockedKeyDocument",
    "BlockedKeysQuery",
    "ExplanationDocument",
    "ReasonDocument",
    "blocked_key_document",
]


class ReasonDocument(Document):
    """One reason why a job does not run."""

    code: ReasonCode
    message: Annotated[str, Field(description="A sentence.")]
    evidence: Annotated[
        dict[str, Any], Field(description="What it was concluded from; its members depend on the code.")
    ]


class ExplanationDocument(Document):
    """Why a job does not run, or what it does instead, at the moment of the question."""

    job_id: int
    status: JobStatus
    summary: Annotated[str, Field(description="One sentence.")]
    reasons: Annotated[
        list[ReasonDocument], Field(description="The first one decides. Empty for a finished job.")
    ]
    ahead: Annotated[
        int | None,
        Field(description="How many jobs come before it, counted up to a bound: see the evidence."),
    ]
    expected_start_at: Annotated[
        datetime | None, Field(description="If everything goes on as it does now. Null: not known.")
    ]
    rate_per_second: Annotated[
        float | None, Field(description="Starts of its queue a second, measured over the last minute.")
    ]


class BlockedKeysQuery(BaseModel):
    """The query of GET /queues/{name}/blocked-keys."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Annotated[str | None, Field(description="From the Link header of the page before.")] = None


class BlockedKeyDocument(Document):
    """A key whose oldest unfinished job has to move before its later ones can start."""

    key: str
    job_id: Annotated[int, Field(description="The oldest unfinished job of the key.")]
    status: JobStatus
    why: Literal["running", "backoff", "snooze", "run_at", "dependencies", "quarantined"]
    since: datetime
    until: Annotated[datetime | None, Field(description="When its time comes, where it waits for that.")]
    waiting: Annotated[int, Field(description=f"Jobs ready behind it, counted up to {WAITING_UP_TO:,}.")]


def blocked_key_document(blocked: BlockedKey) -> dict[str, Any]:
    """A BlockedKeyDocument."""
    return asdict(blocked)

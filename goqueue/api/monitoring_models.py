"""What is answered about the health of the service."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from goqueue.api.documents import Document

Warnings = Annotated[
    list[str], Field(description="What an operator should look at, though the service works.", default=[])
]


class HealthReportDocument(Document):
    """The process answers; and what is known to be wrong around it."""

    status: Literal["ok"]
    warnings: Warnings


class LivenessDocument(Document):
    """The process answers."""

    status: Literal["ok"]


class ReadinessDocument(Document):
    """The process can take requests: PostgreSQL answers, and its schema is not behind this release."""

    status: Literal["ok"]
    redis: Annotated[
        Literal["ok", "unavailable"],
        Field(description="Jobs are accepted without Redis as well, and start when it is back."),
    ]
    warnings: Warnings

"""The quotas of a namespace: what its jobs may take of what all namespaces share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

from pydantic import Field

from goqueue.config.namespaces import NAME_INSIDE, NAME_INSIDE_EXPECTED
from goqueue.engine.options.request_models import Request
from goqueue.errors import InvalidJobError

__all__ = ["QUOTA_NAMES", "NewNamespace", "QuotaChanges", "Quotas", "expect_namespace_name"]

_COUNT_MAX = 100_000_000
_RATE_MAX = 1_000_000
_SHARE_MAX = 100


@dataclass(frozen=True, slots=True)
class Quotas:
    """The quotas of a namespace; None: there is none.

    Attributes:
        max_waiting_jobs: jobs that have not begun, those that wait for their time or for others included.
        creates_per_second: jobs that it creates per second, and at once after a pause.
        max_payload_bytes: of one job, as JSON in UTF-8.
        max_running_jobs: jobs that run at once, over all queues.
        share: the weight in what is divided between namespaces: worker processes.
    """

    max_waiting_jobs: int | None = None
    creates_per_second: float | None = None
    max_payload_bytes: int | None = None
    max_running_jobs: int | None = None
    share: int = 1

    @property
    def at_creates(self) -> bool:
        """Whether there is one that a create has to be held against."""
        return any(
            quota is not None
            for quota in (self.max_waiting_jobs, self.creates_per_second, self.max_payload_bytes)
        )


#: In their order, for tables.
QUOTA_NAMES = tuple(field.name for field in fields(Quotas))


class QuotaChanges(Request):
    """The quotas that are to change; null takes one away, and what is not named stays."""

    max_waiting_jobs: Annotated[
        int | None,
        Field(ge=0, le=_COUNT_MAX, description="Jobs that have not begun, also those that wait for a time."),
    ] = None
    creates_per_second: Annotated[
        float | None,
        Field(gt=0, le=_RATE_MAX, allow_inf_nan=False, description="Creates per second, by all processes."),
    ] = None
    max_payload_bytes: Annotated[
        int | None, Field(ge=2, le=_COUNT_MAX, description="Of one job, as JSON in UTF-8.")
    ] = None
    max_running_jobs: Annotated[
        int | None, Field(ge=1, le=_COUNT_MAX, description="Jobs that run at once, over all queues.")
    ] = None
    share: Annotated[
        int, Field(ge=1, le=_SHARE_MAX, description="The weight in what is divided: worker processes.")
    ] = 1

    def of(self, before: Quotas) -> Quotas:
        """Return what the quotas are with these changes."""
        said = self.model_dump(exclude_unset=True, include=set(QUOTA_NAMES))
        now: dict[str, Any] = {name: getattr(before, name) for name in QUOTA_NAMES}
        return Quotas(**now | said)


class NewNamespace(QuotaChanges):
    """A namespace that is to be made."""

    name: Annotated[
        str, Field(description=f"Of the namespace: {NAME_INSIDE_EXPECTED.removeprefix('expected ')}.")
    ]


def expect_namespace_name(name: object) -> str:
    """Return the name, if a namespace inside of a database can have it.

    Raises:
        InvalidJobError: none can.
    """
    if not isinstance(name, str) or not NAME_INSIDE.fullmatch(name):
        raise InvalidJobError({"name": NAME_INSIDE_EXPECTED})
    return name

"""Job types of the tests: declared once a process, like any user's."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from goqueue import actor

__all__ = ["NoopPayload", "noop"]


class NoopPayload(BaseModel):
    """A payload of nothing, or a little."""

    model_config = ConfigDict(extra="forbid")

    number: int = 0
    text: str = ""
    anything: object = None


@actor(queue="noop", name="noop", max_retries=5)
def noop(payload: NoopPayload) -> None:
    """Do nothing at all, successfully."""

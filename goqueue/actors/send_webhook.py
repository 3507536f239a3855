"""The job type `send_webhook`: call a receiver over HTTP, signed by the Standard Webhooks scheme."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from goqueue import actor
from goqueue.config.settings import get_settings
from goqueue.engine.options.receiver_url import ReceiverUrl
from goqueue.webhooks.targets import TargetHeaders
from goqueue.worker.execution import current_job


class WebhookPayload(BaseModel):
    """What to send where.

    Attributes:
        headers: sent besides our own; hop-by-hop headers, Host, Content-Length and webhook-* are refused.
        body: sent as JSON.
        timeout: seconds for the whole call, from resolving the name to the end of the answer.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    url: ReceiverUrl
    method: Literal["POST", "PUT", "PATCH"]
    headers: Annotated[TargetHeaders, BeforeValidator(lambda value: {} if value is None else value)] = Field(
        default_factory=dict
    )
    body: dict[str, Any]
    timeout: float = Field(ge=1, le=30)


@actor(queue="webhooks", name="send_webhook")
def send_webhook(payload: WebhookPayload) -> dict[str, Any]:
    """Deliver the body to the receiver, at least once, under the same `webhook-id` in every retry."""
    from goqueue.actors.webhook_call import post  # noqa: PLC0415  (as above)

    return post(payload, job_id=current_job().id, settings=get_settings())

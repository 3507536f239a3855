"""The job type `deliver_webhook`: call the receiver of a webhook with one of its deliveries."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from goqueue import actor
from goqueue.config.settings import get_settings
from goqueue.instance import default
from goqueue.jobs import MAX_JOB_ID
from goqueue.webhooks.filters import DELIVERY_QUEUE, DELIVERY_TYPE
from goqueue.webhooks.retry_rules import RETRIES
from goqueue.worker.execution import current_job


class DeliveryPayload(BaseModel):
    """The delivery that is to be made. A job that was not made by the scheduler delivers nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    delivery_id: int = Field(ge=1, le=MAX_JOB_ID)


@actor(queue=DELIVERY_QUEUE, name=DELIVERY_TYPE, max_retries=RETRIES)
def deliver_webhook(payload: DeliveryPayload) -> dict[str, Any]:
    """Deliver, at least once, under the same `webhook-id` in every retry and at every delivery again."""
    from goqueue.actors.delivery_call import deliver  # noqa: PLC0415  (two megabytes that few processes need)

    job = current_job()
    return deliver(
        payload.delivery_id,
        job_id=job.id,
        attempt=job.attempt,
        max_retries=job.max_retries,
        settings=get_settings(),
        database=default().database,
    )

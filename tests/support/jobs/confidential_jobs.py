"""Job types whose payloads are encrypted at rest, and that repeat these wherever a job can say something."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import goqueue

QUEUE = "confidential"
SECRET = "4111-secret-1111"
KEYS = f"k2:{b64encode(b'2' * 32).decode()},k1:{b64encode(b'1' * 32).decode()}"


def declare() -> None:
    """Declare them on the GoQueue of this process."""

    @goqueue.actor(max_retries=0, queue=QUEUE, encrypt=True)
    def give(card: str) -> dict[str, str]:
        job = goqueue.current_job()
        job.log(f"charging {card}")
        job.progress(0.5, f"half of {card}")
        job.stream(f"piece of {card}")
        return {"charged": card}

    @goqueue.actor(max_retries=0, queue=QUEUE, encrypt=True)
    def collapse(card: str) -> None:
        raise ValueError(f"declined {card}")

    @goqueue.actor(max_retries=0, queue=QUEUE, encrypt=True)
    def add_up() -> list[Any]:
        return list(goqueue.current_job().parent_results().values())

    @goqueue.actor(max_retries=0, queue=QUEUE, encrypt=True)
    def collect(cards: list[str]) -> int:
        return len(cards)

    @goqueue.actor(max_retries=0, queue=QUEUE)
    def told(message: Any, result: Any):  # type: ignore[no-untyped-def]  # noqa: ANN202  (its arguments are those of a plain Dramatiq call)
        """A callback, of a type that says nothing of encryption."""

    @goqueue.actor(max_retries=0, queue=QUEUE)
    def repeat(text: str) -> None:
        goqueue.current_job().log(text)

    @goqueue.actor(max_retries=0, queue=QUEUE)
    def plain(card: str) -> str:
        return card

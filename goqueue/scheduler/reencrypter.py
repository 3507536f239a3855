"""The reencrypter: encrypts with the first key what other keys encrypt, when somebody has ordered it."""

from __future__ import annotations

import structlog

from goqueue.engine import reencryption_order_rows as orders
from goqueue.engine import reencryption_rows as reencryption
from goqueue.engine.reencryption_order_rows import Reencryption
from goqueue.engine.reencryption_rows import ReencryptionStep
from goqueue.scheduler.service import Counts, Service

log = structlog.get_logger(__name__)

#: The jobs of one transaction: all that is kept of them is read, which may be some MiB each.
BATCH = 20


class Reencrypter(Service):
    """Works on one order, a few jobs a round; each round is a transaction that also notes how far it came."""

    name = "reencrypter"

    def run_once(self) -> Counts:
        """Encrypt some jobs anew; how many were looked at, and how many of these are done."""
        with self._database.transaction() as connection:
            order = orders.running(connection)
            if order is None:
                return {"looked_at": 0, "done": 0}
            if (reason := self._not_now(order)) is not None:
                orders.advance(connection, order, ReencryptionStep(None), reason=reason)
                return {"looked_at": 0, "done": 0}
            self._rate = order.rate
            step = reencryption.reencrypt_jobs(connection, after_id=order.after_id, limit=BATCH)
            if step.after_id is not None:
                orders.advance(connection, order, step)
                return {"looked_at": BATCH, "done": step.done}
            step = reencryption.reencrypt_schedules(connection)
            orders.advance(connection, order, step)
            orders.finish(connection, order)
        log.info("payloads_reencrypted", key=order.key_id, jobs=order.done + step.done)
        return {"looked_at": 0, "done": step.done}

    def pause(self, counts: Counts) -> None:
        """Go on at once, or as slowly as the order says; without one, wait."""
        if not counts["looked_at"]:
            self._pause(self._settings.payload_keys_interval_seconds)
        elif self._rate is not None:
            self._pause(counts["done"] / self._rate)

    _rate: float | None = None

    def _not_now(self, order: Reencryption) -> str | None:
        """Why nothing is encrypted anew here: a process with other keys would undo what others do."""
        keys = self._database.contents.keys
        if keys is None or keys.encrypting_id != order.key_id:
            return f"{order.key_id!r} is not the first of GOQUEUE_PAYLOAD_KEYS of the scheduler that leads"
        return None

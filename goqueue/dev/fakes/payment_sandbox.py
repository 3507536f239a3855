"""A payment gateway that honours Idempotency-Key and misbehaves on request."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from goqueue.dev.fakes.http_server import FakeAnswer, FakeRequest, HttpServer


@dataclass(slots=True)
class Charge:
    """One charge, and the request that made it."""

    id: str
    request_body: bytes


@dataclass(frozen=True, slots=True)
class _Misbehaviour:
    """What happens to the first `times` requests (None: all) of payments whose id starts with `prefix`."""

    prefix: str
    answer: FakeAnswer
    times: int | None = None
    charges: bool = False

    def applies(self, payment_id: str, request_number: int) -> bool:
        in_time = self.times is None or request_number <= self.times
        return in_time and payment_id.startswith(self.prefix)


class PaymentSandbox(HttpServer):
    """`POST /charges` charges a payment once per Idempotency-Key, as real gateways do.

    The same key with the same body is answered with the first charge and counted as a repeat; with another
    body it is a 409. A request without a key charges every time it comes. Misbehaviour is told by the
    payment's id or a prefix of it; at first the prefixes `decline`, `fail-once`, `throttle` and `lose-answer`
    do what they say.

    Attributes:
        charges: payment id → how often it was charged. More than 1 is money taken twice.
        requests: payment id → how often it was asked for.
        repeats: requests that were answered with a charge made before.
    """

    def __init__(self, port: int = 0, **options: Any) -> None:
        super().__init__(port, **options)
        self.charges: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.repeats = 0
        self._by_key: dict[str, Charge] = {}
        self._rules: list[_Misbehaviour] = []
        self.decline("decline")
        self.fail("fail-once", times=1)
        self.throttle("throttle", retry_after_seconds=1)
        self.lose_answer("lose-answer")

    @property
    def charges_url(self) -> str:
        """Tell what `settings.payment_url` must be."""
        return f"{self.url}/charges"

    def decline(self, prefix: str) -> None:
        """Answer 402 and do not charge."""
        self._add(_Misbehaviour(prefix, _json(HTTPStatus.PAYMENT_REQUIRED, {"status": "declined"})))

    def fail(self, prefix: str, *, times: int, status: int = HTTPStatus.SERVICE_UNAVAILABLE) -> None:
        """Answer 503, or another status, to the first requests of each payment, and do not charge."""
        self._add(_Misbehaviour(prefix, _json(status, {"status": "error"}), times))

    def throttle(self, prefix: str, *, retry_after_seconds: int, times: int = 1) -> None:
        """Answer 429 with Retry-After to the first requests of each payment, and do not charge."""
        answer = FakeAnswer(HTTPStatus.TOO_MANY_REQUESTS, headers={"Retry-After": str(retry_after_seconds)})
        self._add(_Misbehaviour(prefix, answer, times))

    def slow(self, prefix: str, *, seconds: float, times: int | None = None) -> None:
        """Charge, and answer only after this long."""
        self._add(_Misbehaviour(prefix, FakeAnswer(delay_seconds=seconds), times, charges=True))

    def lose_answer(self, prefix: str, *, times: int = 1) -> None:
        """Charge, and close the connection without an answer."""
        self._add(_Misbehaviour(prefix, FakeAnswer(lost=True), times, charges=True))

    def answer(self, request: FakeRequest) -> FakeAnswer:
        """Charge or refuse; never both, and never twice for one key."""
        if request.method != "POST" or request.path != "/charges":
            return _json(HTTPStatus.NOT_FOUND, {"status": "error"})
        try:
            payment_id = str(json.loads(request.body)["payment_id"])
        except (ValueError, TypeError, KeyError):
            return _json(HTTPStatus.BAD_REQUEST, {"status": "error"})
        with self.lock:
            return self._answer_payment(payment_id, request)

    def _add(self, rule: _Misbehaviour) -> None:
        with self.lock:
            self._rules.insert(0, rule)  # the latest rule wins

    def _answer_payment(self, payment_id: str, request: FakeRequest) -> FakeAnswer:
        self.requests[payment_id] += 1
        number = self.requests[payment_id]
        rule = next((rule for rule in self._rules if rule.applies(payment_id, number)), None)
        if rule and not rule.charges:
            return rule.answer
        charged = self._charge(payment_id, request)
        if rule is None or charged.status != HTTPStatus.OK:
            return charged
        return FakeAnswer(body=charged.body, delay_seconds=rule.answer.delay_seconds, lost=rule.answer.lost)

    def _charge(self, payment_id: str, request: FakeRequest) -> FakeAnswer:
        key = request.headers.get("idempotency-key")
        known = self._by_key.get(key) if key else None
        if known and known.request_body != request.body:
            return _json(HTTPStatus.CONFLICT, {"status": "error"})
        if known:
            self.repeats += 1
            return _json(HTTPStatus.OK, {"id": known.id, "status": "succeeded"})
        self.charges[payment_id] += 1
        charge = Charge(f"ch_{self.charges.total()}", request.body)
        if key:
            self._by_key[key] = charge
        return _json(HTTPStatus.OK, {"id": charge.id, "status": "succeeded"})


def _json(status: int, body: dict[str, str]) -> FakeAnswer:
    return FakeAnswer(status, json.dumps(body).encode())

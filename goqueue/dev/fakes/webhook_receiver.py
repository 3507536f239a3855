"""A receiver of webhooks that verifies Standard Webhooks signatures and misbehaves on request."""

from __future__ import annotations

import base64
import secrets
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from standardwebhooks import Webhook, WebhookVerificationError

from goqueue.dev.fakes.http_server import FakeAnswer, FakeRequest, HttpServer

if TYPE_CHECKING:
    from collections.abc import Callable

DRIP_SECONDS = 0.05
LARGE_BYTES = 1024 * 1024
SUCCESS = 2  # the first digit of the status


def make_secret() -> str:
    """A new random Standard Webhooks secret, `whsec_` and 32 bytes in base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


class WebhookReceiver(HttpServer):
    """Counts what it receives. The path chooses the answer.

    `/ok` 200 · `/fail/N` 503 for the first N deliveries of each webhook id, then 200 · `/gone` 410 ·
    `/status/N` the status N · `/throttle/S` 429 with `Retry-After: S` for the first delivery of each id ·
    `/slow/S` 200 after S seconds · `/drip` an answer that comes byte by byte · `/large` a body of 1 MiB ·
    `/lost` no answer for the first delivery of each id · `/redirect` 302 to `/ok` ·
    `/cookie` sets a cookie. Anything else is 404.

    Attributes:
        received, valid, invalid: requests; those whose signature is right; those whose is wrong or missing.
        deliveries: webhook id → how often it came.
        accepted: webhook id → how often it was answered with a 2xx.
        last: the latest request.

    Args:
        secret: the Standard Webhooks secret of the sender; None does not verify, and counts neither.
    """

    def __init__(self, secret: str | None = None, port: int = 0, **options: Any) -> None:
        super().__init__(port, **options)
        self._webhook = Webhook(secret) if secret else None
        self.received = self.valid = self.invalid = 0
        self.deliveries: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.last: FakeRequest | None = None

    def answer(self, request: FakeRequest) -> FakeAnswer:
        """Verify, count, and answer by the path; a wrong signature is answered 401, whatever the path."""
        webhook_id = request.headers.get("webhook-id", "")
        verified = self._verify(request)
        with self.lock:
            times = self._count(request, webhook_id, verified=verified)
        answer = (
            self._by_path(request.path, times)
            if verified is not False
            else FakeAnswer(HTTPStatus.UNAUTHORIZED)
        )
        if answer.status // 100 == SUCCESS and not answer.lost:
            with self.lock:
                self.accepted[webhook_id] += 1
        return answer

    def _verify(self, request: FakeRequest) -> bool | None:
        if self._webhook is None:
            return None
        try:
            self._webhook.verify(request.body, request.headers, json_parse=False)
        except (WebhookVerificationError, ValueError):
            return False
        return True

    def _count(self, request: FakeRequest, webhook_id: str, *, verified: bool | None) -> int:
        self.last = request
        self.received += 1
        self.valid += verified is True
        self.invalid += verified is False
        self.deliveries[webhook_id] += 1
        return self.deliveries[webhook_id]

    def _by_path(self, path: str, times: int) -> FakeAnswer:
        name, _, argument = path.partition("?")[0].strip("/").partition("/")
        behaviour = BEHAVIOURS.get(name)
        return behaviour(argument, times) if behaviour else FakeAnswer(HTTPStatus.NOT_FOUND)


BEHAVIOURS: dict[str, Callable[[str, int], FakeAnswer]] = {
    "ok": lambda _, __: FakeAnswer(),
    "fail": lambda n, times: FakeAnswer(HTTPStatus.SERVICE_UNAVAILABLE if times <= int(n) else HTTPStatus.OK),
    "gone": lambda _, __: FakeAnswer(HTTPStatus.GONE),
    "status": lambda status, _: FakeAnswer(int(status)),
    "throttle": lambda seconds, times: (
        FakeAnswer(HTTPStatus.TOO_MANY_REQUESTS, headers={"Retry-After": seconds})
        if times == 1
        else FakeAnswer()
    ),
    "slow": lambda seconds, _: FakeAnswer(delay_seconds=float(seconds)),
    "drip": lambda _, __: FakeAnswer(drip_seconds=DRIP_SECONDS),
    "large": lambda _, __: FakeAnswer(body=b"x" * LARGE_BYTES),
    "lost": lambda _, times: FakeAnswer(lost=times == 1),
    "redirect": lambda _, __: FakeAnswer(HTTPStatus.FOUND, headers={"Location": "/ok"}),
    "cookie": lambda _, __: FakeAnswer(headers={"Set-Cookie": "session=secret"}),
}

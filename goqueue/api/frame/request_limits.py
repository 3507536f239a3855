"""The limits of what one API key may ask for: requests a second, and expensive requests at once.

Each process counts for itself. The headers are those of draft-ietf-httpapi-ratelimit-headers.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable

import falcon

from goqueue.api.frame.held_requests import held_request
from goqueue.api.frame.security import OPEN_PATHS, principal_of
from goqueue.api.operations import operation_of
from goqueue.config.settings import Settings

#: What is searched for in a list costs a look at many rows.
SEARCHES = frozenset({"payload", "error"})

#: Who has no key, where none is needed; and whoever looks at the site.
NOBODY = ""
_RETRY_AFTER_SECONDS = 1


class RequestRate:
    """A bucket of requests for each key: so many a second, and so many at once after a pause."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key: str) -> float:
        """Take one request, and return how many are left. Below zero: there was none to take."""
        with self._lock:
            now = self._clock()
            left, at = self._buckets.get(key, (float(self._burst), now))
            left = min(self._burst, left + (now - at) * self._per_second)
            if left >= 1:
                left -= 1
                self._buckets[key] = left, now
                return left
            self._buckets[key] = left, now
            return left - 1

    def headers(self, left: float) -> dict[str, str]:
        """Return the headers that tell the client about its rate."""
        window = math.ceil(self._burst / self._per_second)
        full = math.ceil((self._burst - max(left, 0)) / self._per_second)
        return {
            "RateLimit-Policy": f'"requests";q={self._burst};w={window}',
            "RateLimit": f'"requests";r={max(0, math.floor(left))};t={full}',
        }

    def retry_after(self, left: float) -> str:
        """Return the seconds until a request is allowed again, for the header Retry-After."""
        return str(max(1, math.ceil(-left / self._per_second)))


class ConcurrentRequests:
    """The requests of each key that run at once, and the most that may."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()

    def begin(self, key: str) -> bool:
        """Begin a request of a key, and tell whether it may run."""
        with self._lock:
            if self._running[key] >= self.most:
                return False
            self._running[key] += 1
            return True

    def end(self, key: str) -> None:
        """End a request of a key that `begin` allowed."""
        with self._lock:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key]


class RequestLimits:
    """Falcon middleware behind the authentication: 429 for what is too much."""

    def __init__(self, settings: Settings, is_site: Callable[[str], bool] = lambda _path: False) -> None:
        rate = settings.api_rate_per_second
        self._rate = RequestRate(rate, settings.api_rate_burst) if rate else None
        most = settings.api_expensive_concurrency
        self._expensive = ConcurrentRequests(most) if most else None
        self._is_site = is_site

    def process_resource(
        self, request: falcon.Request, response: falcon.Response, _resource: object, _params: object
    ) -> None:
        """Let the request pass, or refuse it.

        Raises:
            falcon.HTTPTooManyRequests: the key has asked for too much.
        """
        is_site = self._is_site(request.path)
        key = NOBODY if is_site else self._key_of(request)
        is_counted = not (is_site or request.path in OPEN_PATHS or held_request(request).is_again)
        if self._rate is not None and is_counted:
            self._count(self._rate, key, response)
        if self._expensive is not None and is_expensive(request):
            self._begin(self._expensive, key, request)

    def process_response(
        self, request: falcon.Request, _response: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Note that an expensive request has ended."""
        key: str | None = getattr(request.context, "expensive_for", None)
        if key is not None and self._expensive is not None:
            self._expensive.end(key)

    @staticmethod
    def _key_of(request: falcon.Request) -> str:
        """Whose request it is: the keys of one name are of one client, one without a name is its own."""
        principal = principal_of(request)
        return principal.name or principal.key_hash or NOBODY

    def _count(self, rate: RequestRate, key: str, response: falcon.Response) -> None:
        left = rate.take(key)
        headers = rate.headers(left)
        response.set_headers(headers)
        if left < 0:
            raise falcon.HTTPTooManyRequests(
                description="this key asks for more requests a second than it may",
                headers=headers | {"Retry-After": rate.retry_after(left)},
            )

    def _begin(self, expensive: ConcurrentRequests, key: str, request: falcon.Request) -> None:
        if expensive.begin(key):
            request.context.expensive_for = key
            return
        raise falcon.HTTPTooManyRequests(
            description=f"this key has {expensive.most} expensive requests under way; no more run at once",
            headers={
                "RateLimit-Policy": f'"expensive";q={expensive.most};qu="concurrent-requests"',
                "RateLimit": '"expensive";r=0',
                "Retry-After": str(_RETRY_AFTER_SECONDS),
            },
        )


def is_expensive(request: falcon.Request) -> bool:
    """Tell whether a request reads many rows, or computes for long."""
    template = request.uri_template or ""
    if template in {"/jobs", "/dashboard/jobs"} and request.method in {"GET", "HEAD"}:
        return not SEARCHES.isdisjoint(request.params)
    if template == "/dashboard/operations/new":
        return True
    operation = operation_of(request.method, template)
    return operation is not None and operation.expensive

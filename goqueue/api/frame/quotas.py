"""Tells whoever creates jobs how the rate of creates of the namespace stands."""

from __future__ import annotations

import falcon

from goqueue.access.quota_door import QuotaDoor
from goqueue.access.scopes import Scope
from goqueue.api.frame.problems import quota_headers
from goqueue.api.operations import operation_of

__all__ = ["CreateRateHeaders"]


class CreateRateHeaders:
    """Falcon middleware of a namespace: the headers `RateLimit` and `RateLimit-Policy` of answers to creates.

    As of draft-ietf-httpapi-ratelimit-headers, beside those of the requests of a key. A refusal has them of
    the quota that refused.
    """

    def __init__(self, door: QuotaDoor) -> None:
        self._door = door

    def process_response(
        self, request: falcon.Request, response: falcon.Response, _resource: object, succeeded: bool
    ) -> None:
        """Add the headers to what was created."""
        operation = operation_of(request.method, request.uri_template)
        if not succeeded or operation is None or operation.scope is not Scope.JOBS_CREATE:
            return
        rate = self._door.rate()
        if rate is not None:
            told = quota_headers(
                "creates_per_second", rate.burst, rate.remaining, rate.full_seconds, window=1
            )
            for name, value in told:
                response.append_header(name, value)

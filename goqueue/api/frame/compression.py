"""Compressing answers for who asks for it: a page of 55 kB is 5 kB on its way."""

from __future__ import annotations

import gzip
import math

import falcon

__all__ = ["Compression", "accepts_gzip", "compressed"]

#: What is smaller fits into a packet as it is.
MIN_BYTES = 1_024

#: Beyond this level, pages take more time than the bytes are worth.
LEVEL = 4

_TEXTS = frozenset(
    {
        "application/javascript",
        "application/json",
        "application/openmetrics-text",
        "application/problem+json",
        "image/svg+xml",
    }
)

_SECURE_SITES = frozenset({"same-origin", "none"})


class Compression:
    """Falcon middleware: compresses what is text, and large enough.

    Who can have pages asked for with words of their own, and sees how long the answers are, learns what else
    stands in them (BREACH). So an answer that the page of another site asked for is sent as it is; every
    browser of today says so. The token of forms is another one in each answer besides.
    """

    def process_response(
        self, request: falcon.Request, response: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Compress the answer, if the one who asks for it can read that."""
        body = response.data if response.text is None else response.text.encode()
        if body is None:
            if response.get_header("ETag"):
                # A 304 names what the answer would vary by.
                response.append_header("Vary", "Accept-Encoding, Sec-Fetch-Site")
            return
        if len(body) < MIN_BYTES or not _is_text(response) or response.get_header("Content-Encoding"):
            return
        response.append_header("Vary", "Accept-Encoding, Sec-Fetch-Site")
        if not (accepts_gzip(request) and _is_for_ourselves(request)):
            return
        response.text, response.data = None, compressed(body)
        response.set_header("Content-Encoding", "gzip")


def accepts_gzip(request: falcon.Request) -> bool:
    """Tell whether the client says that it reads gzip (RFC 9110 section 12.5.3); silence means no."""
    weights = {}
    for part in (request.get_header("Accept-Encoding") or "").lower().split(","):
        name, _, parameters = part.partition(";")
        weights[name.strip()] = _weight(parameters)
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


def compressed(body: bytes, level: int = LEVEL) -> bytes:
    """Return the body as gzip; of equal bodies, the same bytes."""
    return gzip.compress(body, level, mtime=0)


def _weight(parameters: str) -> float:
    name, _, value = parameters.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        weight = float(value)
    except ValueError:
        return 0.0
    return weight if math.isfinite(weight) else 0.0


def _is_text(response: falcon.Response) -> bool:
    # Falcon says so of what names no type, and later than this.
    kind = (response.content_type or falcon.MEDIA_JSON).partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind in _TEXTS


def _is_for_ourselves(request: falcon.Request) -> bool:
    return request.get_header("Sec-Fetch-Site", default="none") in _SECURE_SITES

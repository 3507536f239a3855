"""Receivers of calls: the headers that a payload or a subscription may give, and the host of a URL."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

__all__ = ["HEADERS_MAX", "TargetHeaders", "host_of"]

HEADERS_MAX = 50

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # token, RFC 9110 section 5.6.2
HEADER_VALUE = re.compile(r"[\x21-\x7e]([\t\x20-\x7e]{0,8190}[\x21-\x7e])?|")
# Set by the connection or by this service: given by others they could garble the message or the signature.
RESERVED_HEADERS_TEXT = """
    connection content-length expect host keep-alive proxy-authenticate proxy-authorization
    proxy-connection te trailer transfer-encoding upgrade webhook-id webhook-timestamp webhook-signature
"""
RESERVED_HEADERS = frozenset(RESERVED_HEADERS_TEXT.split())


def host_of(url: str) -> str:
    """Return the host of a URL that was checked, as the call sees it."""
    import httpx  # noqa: PLC0415  (two megabytes that only a process with webhooks needs)

    return httpx.URL(url).raw_host.decode()


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not HEADER_NAME.fullmatch(name):
            raise PydanticCustomError("webhook_headers", "expected header names that are HTTP tokens")
        if name.lower() in RESERVED_HEADERS:
            raise PydanticCustomError("webhook_headers", "a header that the sender itself sets was given")
        if not HEADER_VALUE.fullmatch(value):
            raise PydanticCustomError("webhook_headers", "expected header values of printable ASCII")
    return headers


TargetHeaders = Annotated[
    dict[str, str],
    Field(
        max_length=HEADERS_MAX,
        json_schema_extra={
            "propertyNames": {
                "pattern": f"^{HEADER_NAME.pattern}$",
                "not": {"enum": sorted(RESERVED_HEADERS)},
            },
            "additionalProperties": {"type": "string", "pattern": f"^({HEADER_VALUE.pattern})$"},
        },
    ),
    AfterValidator(_check_headers),
]

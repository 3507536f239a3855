"""Receivers: which URLs and headers may be given for a call, by a payload or by a subscription."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

__all__ = ["HEADERS_MAX", "URL_MAX_LENGTH", "TargetHeaders", "TargetUrl", "host_of"]

URL_MAX_LENGTH = 2048
HEADERS_MAX = 50
PORT_MAX = 65535

HOST_NAME = re.compile(r"(?=.{1,254}$)([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")  # RFC 1035, and _
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


def _check_url(text: str) -> str:
    import httpx  # noqa: PLC0415  (as above)

    # By the parser that the call uses: two parsers could see two hosts in one text.
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not _is_host(url.raw_host.decode()):
        raise PydanticCustomError("webhook_url", "expected an http or https URL")
    if url.port is not None and not 1 <= url.port <= PORT_MAX:
        raise PydanticCustomError("webhook_url", "expected a port from 1 to 65535")
    if url.userinfo:
        raise PydanticCustomError("webhook_url", "expected a URL without a user name or password")
    return text


def _is_host(host: str) -> bool:
    is_ip_v6 = ":" in host  # httpx takes no other host with a colon, and only valid addresses
    return is_ip_v6 or HOST_NAME.fullmatch(host) is not None


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not HEADER_NAME.fullmatch(name):
            raise PydanticCustomError("webhook_headers", "expected header names that are HTTP tokens")
        if name.lower() in RESERVED_HEADERS:
            raise PydanticCustomError("webhook_headers", "a header that the sender itself sets was given")
        if not HEADER_VALUE.fullmatch(value):
            raise PydanticCustomError("webhook_headers", "expected header values of printable ASCII")
    return headers


TargetUrl = Annotated[str, Field(max_length=URL_MAX_LENGTH), AfterValidator(_check_url)]
TargetHeaders = Annotated[dict[str, str], Field(max_length=HEADERS_MAX), AfterValidator(_check_headers)]

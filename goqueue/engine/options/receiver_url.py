"""The address of a receiver, to which jobs or messages are sent over HTTP."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

__all__ = ["ReceiverUrl"]

URL_MAX_LENGTH = 2048
PORT_MAX = 65535

HOST_NAME = re.compile(r"(?=.{1,254}$)([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")  # RFC 1035, and _


def _check_url(text: str) -> str:
    import httpx  # noqa: PLC0415  (two megabytes that only a process which calls receivers needs)

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


ReceiverUrl = Annotated[
    str,
    Field(max_length=URL_MAX_LENGTH, json_schema_extra={"pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"}),
    AfterValidator(_check_url),
]

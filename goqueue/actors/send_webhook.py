"""The job type `send_webhook`: call a receiver over HTTP, signed by the Standard Webhooks scheme."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import httpx
import structlog
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from goqueue import actor
from goqueue.actors.checked_connections import AddressRefusedError
from goqueue.actors.outgoing import HttpAnswer, expect_success, shared_caller
from goqueue.config.settings import Settings, get_settings
from goqueue.errors import ConfigurationError, Discard
from goqueue.worker.execution import current_job

RESULT_BODY_MAX_BYTES = 1024
URL_MAX_LENGTH = 2048
ADDRESS_REFUSED = "the receiver's address is not global, and GOQUEUE_WEBHOOK_ALLOW_NETWORKS does not allow it"
PORT_MAX = 65535

HOST_NAME = re.compile(r"(?=.{1,254}$)([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")  # RFC 1035, and _
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # token, RFC 9110 section 5.6.2
HEADER_VALUE = re.compile(r"[\x21-\x7e]([\t\x20-\x7e]{0,8190}[\x21-\x7e])?|")
# Set by the connection or by this module: from a payload they could garble the message or the signature.
RESERVED_HEADERS_TEXT = """
    connection content-length expect host keep-alive proxy-authenticate proxy-authorization
    proxy-connection te trailer transfer-encoding upgrade webhook-id webhook-timestamp webhook-signature
"""
RESERVED_HEADERS = frozenset(RESERVED_HEADERS_TEXT.split())

log = structlog.get_logger(__name__)


def _check_url(text: str) -> str:
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


class WebhookPayload(BaseModel):
    """What to send where.

    Attributes:
        headers: sent besides our own; hop-by-hop headers, Host, Content-Length and webhook-* are refused.
        body: sent as JSON.
        timeout: seconds for the whole call, from resolving the name to the end of the answer.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    url: Annotated[str, Field(max_length=URL_MAX_LENGTH), AfterValidator(_check_url)]
    method: Literal["POST", "PUT", "PATCH"]
    headers: Annotated[
        dict[str, str],
        Field(max_length=50),
        AfterValidator(_check_headers),
        BeforeValidator(lambda value: {} if value is None else value),
    ] = Field(default_factory=dict)
    body: dict[str, Any]
    timeout: float = Field(ge=1, le=30)


@actor(queue="webhooks", name="send_webhook")
def send_webhook(payload: WebhookPayload) -> dict[str, Any]:
    """Deliver the body to the receiver, at least once, under the same `webhook-id` in every retry."""
    return post(payload, job_id=current_job().id, settings=get_settings())


def post(payload: WebhookPayload, *, job_id: int, settings: Settings) -> dict[str, Any]:
    """Make the call once and return the status and the first 1 KiB of the answer.

    Redirects are not followed. Only global addresses are connected to, and what
    `settings.webhook_allow_networks` allows besides; the check is part of connecting.

    Raises:
        Discard: the address is refused, or the answer is a 3xx, or a 4xx other than 408, 425 and 429.
        RetryAfter: 408, 425, 429 or 5xx with a Retry-After, cut to `settings.max_backoff_seconds`.
        CallFailedError: the same statuses without one, no connection, or no complete answer in time.
        ConfigurationError: a secret of the receiver is no Standard Webhooks secret.
    """
    content = json.dumps(payload.body, ensure_ascii=False, separators=(",", ":")).encode()
    headers = _headers(payload, content, job_id, _secrets_for(payload.url, settings))
    answer = _call(payload, headers, content, settings)
    expect_success(answer, server="the receiver", longest_wait_seconds=settings.max_backoff_seconds)
    log.info("webhook_delivered", status=answer.status)
    return {"status": answer.status, "body": _readable(answer.body[:RESULT_BODY_MAX_BYTES])}


def _secrets_for(url: str, settings: Settings) -> list[str]:
    """What a call to a receiver is signed with: its own secret, or that of all; two while it changes."""
    host = httpx.URL(url).host.lower().rstrip(".")
    secret = settings.webhook_secrets.get(host, settings.webhook_secret)
    return [] if secret is None else secret.get_secret_value().split()


def _headers(payload: WebhookPayload, content: bytes, job_id: int, secrets: Sequence[str]) -> httpx.Headers:
    headers = httpx.Headers({"content-type": "application/json", "user-agent": "GoQueue", "accept": "*/*"})
    headers.update(payload.headers)
    webhook_id, timestamp = f"job_{job_id}", str(int(time.time()))
    headers.update({"webhook-id": webhook_id, "webhook-timestamp": timestamp})
    if secrets:
        signatures = [sign(secret, webhook_id, timestamp, content) for secret in secrets]
        headers["webhook-signature"] = " ".join(signatures)
    return headers


def sign(secret: str, webhook_id: str, timestamp: str, content: bytes) -> str:
    """The `webhook-signature` by Standard Webhooks 1.0: HMAC-SHA256 over id, timestamp and body."""
    signed = b".".join([webhook_id.encode(), timestamp.encode(), content])
    digest = hmac.digest(_key(secret), signed, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def _key(secret: str) -> bytes:
    encoded = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ConfigurationError(
            ["GOQUEUE_WEBHOOK_SECRET, GOQUEUE_WEBHOOK_SECRETS: expected whsec_ and base64"]
        )
    return key


def _call(payload: WebhookPayload, headers: httpx.Headers, content: bytes, settings: Settings) -> HttpAnswer:
    try:
        return shared_caller(settings.webhook_allow_networks).call(
            payload.method, payload.url, headers=headers, content=content, timeout_seconds=payload.timeout
        )
    except AddressRefusedError:
        raise Discard(ADDRESS_REFUSED) from None


def _readable(body: bytes) -> str:
    # PostgreSQL's jsonb cannot hold a NUL.
    return body.decode(errors="replace").replace("\x00", "\ufffd")

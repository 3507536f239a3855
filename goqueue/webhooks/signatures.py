"""Signatures by the Standard Webhooks scheme 1.0, and the secrets that they are made with."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets as random_source

__all__ = ["SECRET_BYTES", "key_of", "new_secret", "sign"]

PREFIX = "whsec_"

#: Standard Webhooks asks for 24 to 64 random bytes.
SECRET_BYTES = range(24, 65)

_NEW_BYTES = 32


def new_secret() -> str:
    """Make a secret: `whsec_` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(random_source.token_bytes(_NEW_BYTES)).decode()


def key_of(secret: str) -> bytes | None:
    """Return the bytes of a secret, with or without `whsec_`; None: it is none."""
    encoded = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key or None


def sign(key: bytes, webhook_id: str, timestamp: str, content: bytes) -> str:
    """Return a signature as `webhook-signature` has it: HMAC-SHA256 over id, timestamp and body."""
    signed = b".".join([webhook_id.encode(), timestamp.encode(), content])
    digest = hmac.digest(key, signed, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"

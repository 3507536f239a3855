"""The list of the keys that contents of jobs are encrypted with, as a setting has it."""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode

__all__ = ["KEY_BYTES", "KEY_ID", "parse_payload_keys", "payload_key_pairs"]

KEY_BYTES = 32
KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}")


def parse_payload_keys(text: str) -> dict[str, bytes]:
    """Return the keys of a setting: id → 32 bytes, in their order.

    Args:
        text: `id:base64` of each, separated by commas or spaces; or a JSON object.

    Raises:
        ValueError: it is neither, or a key is none; the text of the error shows no key.
    """
    pairs = payload_key_pairs(text)
    if not pairs:
        raise ValueError("expected at least one key as id:base64: `goqueue payload-keys new` makes one")
    if len({key_id for key_id, _ in pairs}) < len(pairs):
        raise ValueError("expected each key id once")
    return {key_id: _key(key_id, encoded) for key_id, encoded in pairs}


def payload_key_pairs(text: str) -> list[tuple[str, str]]:
    """Return the ids of a setting with their keys as they are written there.

    Raises:
        ValueError: it is no list of keys.
    """
    if not text.lstrip().startswith("{"):
        split = [part.partition(":") for part in re.split(r"[\s,]+", text) if part]
        return [(key_id, encoded) for key_id, _, encoded in split]
    try:
        members = json.loads(text, object_pairs_hook=list)
    except ValueError:
        raise ValueError("expected id:base64, comma separated, or a JSON object of them") from None
    return [(str(key_id), str(encoded)) for key_id, encoded in members]


def _key(key_id: str, encoded: str) -> bytes:
    if not KEY_ID.fullmatch(key_id):
        raise ValueError("expected ids of 1 to 32 letters, digits, _, . and - before the colons")
    try:
        key = b64decode(encoded, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"expected {KEY_BYTES} bytes in base64 behind the colon of {key_id!r}")
    return key

"""The keys that contents of jobs are encrypted with at rest: AES-256-GCM, each key with an id.

The first key of the setting encrypts, all of them decrypt. What is stored is JSON, so that it fits wherever
the contents themselves do: `{"$encrypted":"<key id>","data":"<nonce, ciphertext and tag, in base64>"}`.
"""

from __future__ import annotations

import binascii
import functools
import hashlib
import hmac
import os
from base64 import b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from goqueue.config.payload_key_list import KEY_BYTES, KEY_ID, parse_payload_keys
from goqueue.errors import UndecryptableError

# Ten megabytes, which no process loads that has no keys.
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["ENCRYPTED", "ENVELOPE", "PayloadKeys", "is_encrypted", "key_id_of", "keys_of", "new_key"]

#: The member by which an envelope is told from what anybody else writes: no payload may have it.
ENVELOPE = "$encrypted"

NONCE_BYTES = 12

#: How the text of every envelope begins.
ENCRYPTED = f'{{"{ENVELOPE}":"'


class PayloadKeys:
    """The keys of a process, which encrypt and decrypt texts.

    Each text is bound to its purpose (what it is, and of which job): as anything else it does not decrypt.

    Args:
        keys: id → 32 bytes. The first one encrypts.

    Attributes:
        ids: of all keys, the one that encrypts first.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        self.ids = tuple(keys)
        self._ciphers: dict[str, AESGCM] = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._hash_keys = {
            key_id: hmac.digest(key, b"goqueue fingerprints", "sha256") for key_id, key in keys.items()
        }

    @property
    def encrypting_id(self) -> str:
        """The id of the key that encrypts."""
        return self.ids[0]

    def encrypt(self, text: str, purpose: str) -> str:
        """Return the envelope of a text, as JSON."""
        nonce = os.urandom(NONCE_BYTES)
        key_id = self.ids[0]
        data = nonce + self._ciphers[key_id].encrypt(nonce, text.encode(), purpose.encode())
        return f'{ENCRYPTED}{key_id}","data":"{b64encode(data).decode()}"}}'

    def decrypt(self, envelope: Mapping[str, Any], purpose: str) -> str:
        """Return the text of an envelope that was read as JSON.

        Raises:
            UndecryptableError: its key is not there, or it is not what was encrypted for this purpose.
        """
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        key_id = envelope.get(ENVELOPE)
        cipher = self._ciphers.get(key_id) if isinstance(key_id, str) else None
        if cipher is None:
            raise UndecryptableError(unknown_key(key_id))
        try:
            data = binascii.a2b_base64(envelope["data"], strict_mode=True)
            return cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], purpose.encode()).decode()
        except (InvalidTag, binascii.Error, KeyError, TypeError, ValueError):
            raise UndecryptableError(
                f"the key {key_id!r} does not decrypt it: it was changed, or belongs somewhere else"
            ) from None

    def fingerprint(self, data: bytes) -> str:
        """Return a keyed hash that tells texts apart, and from which nobody without the key can guess them.

        It is made with the last key of the list, so that it stays the same while a new first key comes in.
        """
        return hmac.digest(self._hash_keys[self.ids[-1]], data, hashlib.sha256).hex()

    def fingerprints(self, data: bytes) -> list[str]:
        """Return what `fingerprint` returns, or returned while another key was the last one."""
        return [hmac.digest(self._hash_keys[key_id], data, hashlib.sha256).hex() for key_id in self.ids]


def unknown_key(key_id: Any) -> str:
    """Say that a key is not there, for an operator."""
    return f"the key {key_id!r} is not among GOQUEUE_PAYLOAD_KEYS of this process"


def is_encrypted(text: str) -> bool:
    """Tell whether a stored text is an envelope."""
    return text.startswith(ENCRYPTED)


def key_id_of(text: str) -> str | None:
    """Return the id of the key of an envelope; None: it is none."""
    return text[len(ENCRYPTED) :].partition('"')[0] if is_encrypted(text) else None


def new_key(key_id: str) -> str:
    """Return a new random key as the setting has it: `id:base64`.

    Raises:
        ValueError: the id is none.
    """
    if not KEY_ID.fullmatch(key_id):
        raise ValueError("expected an id of 1 to 32 letters, digits, _, . and -")
    return f"{key_id}:{b64encode(os.urandom(KEY_BYTES)).decode()}"


@functools.lru_cache(maxsize=8)
def keys_of(text: str) -> PayloadKeys:
    """Return the keys of the setting's text: `id:base64` pairs, separated by commas or spaces, or JSON.

    Raises:
        ValueError: it is none of these; the text does not show a key.
    """
    return PayloadKeys(parse_payload_keys(text))


def read_envelope(text: str) -> Mapping[str, Any]:
    """Return an envelope as its members; what is no JSON has none."""
    try:
        members = orjson.loads(text)
    except ValueError:
        return {}
    return members if isinstance(members, dict) else {}

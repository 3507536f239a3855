"""Tokens of leases: which job is held, under which fence and by whom, signed so that nobody makes one up.

A token is all that there is of a lease beside the row of the job: any process of the API knows by the secret
of the service what it stands for, and none asks PostgreSQL for that. It is good for the client alone whose
key leased the job: the signature has its name, and the token has not.
"""

from __future__ import annotations

import functools
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple

import orjson

from goqueue.access import secret_rows
from goqueue.db.database import Database
from goqueue.errors import LeaseNotFoundError
from goqueue.jobs import ClaimedJob

__all__ = ["HeldJob", "LeaseSigner"]

#: The secret among `service_secrets`.
SECRET = "leases"  # noqa: S105  (its name)

#: 128 bits of the signature are more than anybody can guess over a network.
_SIGNATURE_BYTES = 16

#: Longer than any token that was ever signed.
_MAX_CHARACTERS = 4_096


class HeldJob(NamedTuple):
    """A job that a remote worker holds, as its token says.

    Attributes:
        attempts: runs so far, this one included.
        claimed_at: when it was claimed, in seconds since 1970 by PostgreSQL's clock.
        wait_seconds: how long before that it could have started.
        has_options: there is more to know about it when it ends, which its row has.
        encrypted: its row holds it encrypted, and so what becomes of it.
    """

    id: int
    fence: int
    worker_id: int
    queue: str
    type: str
    attempts: int
    max_retries: int
    quarantined: bool
    claimed_at: float
    wait_seconds: float
    has_options: bool
    encrypted: bool = False

    @property
    def key(self) -> tuple[int, int]:
        """The id of the job, and the fence under which it is held."""
        return self.id, self.fence

    @classmethod
    def of(cls, job: ClaimedJob, worker_id: int) -> HeldJob:
        """Tell what is held of a job that was just claimed."""
        return cls(
            job.id,
            job.fence,
            worker_id,
            job.queue,
            job.type,
            job.attempts,
            job.max_retries,
            job.quarantined,
            round(job.claimed_at, 6),
            round(job.wait_seconds, 3),
            bool(job.options),
            job.encrypted,
        )


class LeaseSigner:
    """Writes the tokens of leases, and knows its own again. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, held: HeldJob, client: str) -> str:
        """Return the token of a lease, for this client."""
        body = _encoded(orjson.dumps(list(held)))
        return f"{body}.{self._sign(body, client)}"

    def read(self, token: str, client: str) -> HeldJob:
        """Return what a token stands for.

        Raises:
            LeaseNotFoundError: the service never signed it, or for another client.
            DatabaseUnavailableError: PostgreSQL does not answer, and this process has not read the secret.
        """
        body, _, signature = token.rpartition(".")
        is_ours = len(token) <= _MAX_CHARACTERS and token.isascii()
        if not is_ours or not hmac.compare_digest(self._sign(body, client), signature):
            raise LeaseNotFoundError
        return HeldJob(*orjson.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4))))

    def _sign(self, body: str, client: str) -> str:
        digest = hmac.digest(self._secret, f"{body}:{client}".encode("utf-8", "surrogatepass"), "sha256")
        return _encoded(digest[:_SIGNATURE_BYTES])

    @functools.cached_property
    def _secret(self) -> bytes:
        with self._database.autocommit() as connection:
            return secret_rows.secret(connection, SECRET).encode()


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()

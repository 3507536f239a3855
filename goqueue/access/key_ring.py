"""The keys that open an installation: those of its settings, and those that are rows of its database.

A row that was read is good for a second in each process, so that a create costs no query of its own, and a
revoked key opens nothing after two.
"""

from __future__ import annotations

import copy
import hmac
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import structlog

from goqueue.access import key_rows
from goqueue.access.key_rows import Key
from goqueue.access.keys import hash_of, parse_key
from goqueue.access.principal import Principal
from goqueue.access.scopes import Scope, effective
from goqueue.config.namespaces import DEFAULT_NAMESPACE
from goqueue.db.database import Database
from goqueue.errors import GoQueueError

__all__ = ["KeyRing"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: So long a process believes what it read of a key.
GOOD_FOR_SECONDS = 1.0

#: Of so many keys it remembers what it read, also that there is none: those that came last.
REMEMBERED_MAX = 10_000

#: When a key was last used is written at most so often.
USE_NOTED_EVERY_SECONDS = 60.0


class _Read(NamedTuple):
    key: Key | None
    good_until: float


class KeyRing:
    """The keys that are accepted. Thread-safe.

    Args:
        entries: as `Settings.api_keys` has them: a SHA-256 in hexadecimal, or a name, a colon and the hash.
        database: of the installation, where further keys are rows; None: nowhere.
        clock: seconds that only rise.
        namespace: keys that do not open it are nobody's; None: those of all namespaces are known.

    Attributes:
        namespace: as it was given.
    """

    def __init__(
        self,
        entries: tuple[str, ...],
        database: Database | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        namespace: str | None = DEFAULT_NAMESPACE,
    ) -> None:
        self.namespace = namespace
        self._of_settings = [_of_entry(entry) for entry in entries]
        self._database = database
        self._clock = clock
        self._read: OrderedDict[str, _Read] = OrderedDict()
        self._noted: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def within(self, namespace: str | None) -> KeyRing:
        """Return the ring of another namespace, which reads no key that this one has just read."""
        other = copy.copy(self)
        other.namespace = namespace
        return other

    def find(self, text: str) -> Principal | None:
        """Find whose key this text is; None: nobody's.

        Raises:
            DatabaseUnavailableError: PostgreSQL, which knows it, does not answer.
        """
        of_settings = self._among_settings(text)
        if of_settings is not None:
            return of_settings
        named = parse_key(text)
        if named is None or self._database is None:
            return None
        key_id, secret = named
        key, secret_hash = self._row(key_id), hash_of(secret)
        if key is None or not _opens(key, secret_hash):
            return None
        found = self._if_here(_principal(key, secret_hash))
        if found is not None:
            self._note_use(key)
        return found

    def in_header(self, authorization: str) -> Principal | None:
        """Find whose key an Authorization header brings as a bearer; None: nobody's. Raises as `find`."""
        text = _bearer(authorization)
        return None if text is None else self.find(text)

    def may_know(self, authorization: str) -> bool:
        """Tell whether a header may bring a key, without waiting for PostgreSQL to say so."""
        text = _bearer(authorization)
        if text is None:
            return False
        if self._among_settings(text) is not None:
            return True
        named = parse_key(text)
        if named is None or self._database is None:
            return False
        with self._lock:
            read = self._read.get(named[0])
        if read is None or self._clock() >= read.good_until:
            return True
        return read.key is not None and _opens(read.key, hash_of(named[1]))

    def of_session(self, key_hash: str | None, key_id: str | None) -> Principal | None:
        """Find the key that a session showed, if it is still good; None: it is not.

        Args:
            key_hash: of the secret that was shown.
            key_id: of the row; None: the key was one of the settings.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        if key_hash is None:
            return None
        if key_id is None:
            return next((known for known in self._of_settings if known.key_hash == key_hash), None)
        key = None if self._database is None else self._row(key_id)
        if key is None or not _opens(key, key_hash):
            return None
        return self._if_here(_principal(key, key_hash))

    def _if_here(self, principal: Principal) -> Principal | None:
        return principal if self.namespace is None or principal.opens(self.namespace) else None

    def _among_settings(self, text: str) -> Principal | None:
        given = hash_of(text)
        matches = [known for known in self._of_settings if _is_same(given, known.key_hash)]
        return matches[-1] if matches else None  # after all were compared: the time does not tell which fits

    def _row(self, key_id: str) -> Key | None:
        now = self._clock()
        with self._lock:
            read = self._read.get(key_id)
        if read is not None and now < read.good_until:
            return read.key
        assert self._database is not None
        with self._database.autocommit() as connection:
            key = key_rows.find(connection, key_id)
        with self._lock:
            # From before the question was asked: it is never believed for longer.
            _remember(self._read, key_id, _Read(key, now + GOOD_FOR_SECONDS))
        return key

    def _note_use(self, key: Key) -> None:
        now = self._clock()
        with self._lock:
            if now < self._noted.get(key.id, now):
                return
            _remember(self._noted, key.id, now + USE_NOTED_EVERY_SECONDS)
        assert self._database is not None
        try:
            with self._database.autocommit() as connection:
                key_rows.note_use(connection, key.id, every_seconds=USE_NOTED_EVERY_SECONDS)
        except GoQueueError as error:
            # A request is not refused for that.
            log.debug("api_key_use_not_noted", key_id=key.id, error=str(error))


def _of_entry(entry: str) -> Principal:
    name, _, key_hash = entry.rpartition(":")
    return Principal(name, frozenset(Scope), key_hash=key_hash)


def _principal(key: Key, secret_hash: str) -> Principal:
    return Principal(
        key.name,
        effective(key.scopes),
        key_id=key.id,
        key_hash=secret_hash,
        queues=None if key.queues is None else frozenset(key.queues),
        types=None if key.types is None else frozenset(key.types),
        namespace=key.namespace,
    )


def _opens(key: Key, given: str) -> bool:
    """Whether a key is good, and the given hash is that of one of its secrets that are good now."""
    # Both are compared: the time does not tell which fits.
    fits = _is_same(given, key.secret_hash)
    fits_previous = key.previous_hash is not None and _is_same(given, key.previous_hash)
    return key.is_good and (fits or (fits_previous and key.is_overlapping))


def _is_same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(), known.encode())


def _bearer(authorization: str) -> str | None:
    scheme, _, text = authorization.partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None


def _remember(kept: OrderedDict[str, T], name: str, value: T) -> None:
    kept[name] = value
    kept.move_to_end(name)
    while len(kept) > REMEMBERED_MAX:
        kept.popitem(last=False)

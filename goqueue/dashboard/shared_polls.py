"""The live parts of pages, made once for all browsers that ask for the same one at nearly the same time.

Fifty dashboards ask twenty-five times a second. To make each answer anew would take the time of the requests
that create jobs. Only the token of the forms differs from browser to browser, and is put in at the end.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

import falcon

__all__ = ["LIVE", "PollAnswer", "SharedPolls", "is_poll"]

#: The element of a page that a poll asks for.
LIVE = "live"

#: How long an answer is given again: a browser that is alone with its page, and asks every two seconds, gets
#: a new one each time.
GOOD_FOR_SECONDS = 1.9

#: While one thread makes the next answer, others get the one before, unless it is older than this.
OLDEST_SECONDS = 3.0

#: So many answers are kept, those that were asked for last, and none that is larger.
KEPT = 64
KEPT_MAX_BYTES = 262_144


def is_poll(request: falcon.Request) -> bool:
    """Whether a page asks for its live part."""
    return request.method == "GET" and request.get_header("HX-Target") == LIVE


@dataclass(frozen=True, slots=True)
class PollAnswer:
    """The live part of a page.

    Attributes:
        body: with a stand-in for the token of forms.
        tag: of the body.
    """

    body: bytes
    tag: str

    @classmethod
    def of(cls, body: bytes, stand_in: str = "") -> PollAnswer:
        """An answer with its tag, which is the same in each process, whatever stands for the token there."""
        tagged = body.replace(stand_in.encode(), b"") if stand_in else body
        return cls(body, hashlib.blake2b(tagged, digest_size=12).hexdigest())


@dataclass(slots=True)
class _Kept:
    answer: PollAnswer
    made_at: float
    good_until: float


class SharedPolls:
    """Answers by the address that was asked for. Thread-safe."""

    def __init__(self) -> None:
        #: Stands where the token of forms will; nobody else knows it, so no job holds it.
        self.stand_in = secrets.token_hex(32)
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, request: falcon.Request) -> PollAnswer | None:
        """The answer to a poll; None: it is this request's to make it, and to keep it."""
        now = time.monotonic()
        with self._lock:
            kept = self._kept.get(_address_of(request))
            if kept is None or now > kept.made_at + OLDEST_SECONDS:
                return None
            if now > kept.good_until:
                # For those who ask meanwhile it is good for a little longer.
                kept.good_until = now + GOOD_FOR_SECONDS
                return None
            return kept.answer

    def keep(self, request: falcon.Request, answer: PollAnswer) -> None:
        """Give this answer to the next ones who ask."""
        if len(answer.body) > KEPT_MAX_BYTES:
            return
        now, key = time.monotonic(), _address_of(request)
        with self._lock:
            self._kept[key] = _Kept(answer, now, now + GOOD_FOR_SECONDS)
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)

    def forget(self) -> None:
        """Something was changed: whoever asks next sees it."""
        with self._lock:
            self._kept.clear()

    def body_for(self, answer: PollAnswer, token: str) -> bytes:
        """The answer with the token of somebody's forms."""
        return answer.body.replace(self.stand_in.encode(), token.encode())


def _address_of(request: falcon.Request) -> tuple[str, str]:
    """What was asked for, and by which name of the service: pages show addresses that begin with it."""
    return request.uri, request.forwarded_prefix

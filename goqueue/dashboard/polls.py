"""The live parts of pages, made once for all browsers that ask for the same one at nearly the same time.

Fifty dashboards ask twenty-five times a second. To make each answer anew would take the time of the requests
that create jobs. Only the token of the forms differs from browser to browser, and is put in at the end.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

import falcon

from goqueue.access.scopes import Scope
from goqueue.api.frame.security import principal_of
from goqueue.dashboard.shared_answers import SharedAnswers

__all__ = ["LIVE", "PollAnswer", "SharedPolls", "is_poll"]

#: The element of a page that a poll asks for.
LIVE = "live"

#: How long an answer is given again: a browser that is alone with its page, and asks every two seconds, gets
#: a new one each time.
GOOD_FOR_SECONDS = 1.9

#: While one thread makes the next answer, others get the one before, unless it is older than this.
OLDEST_SECONDS = 3.0

#: So many answers are kept, those that were made last, and none that is larger.
KEPT = 64
KEPT_MAX_BYTES = 262_144


def is_poll(request: falcon.Request) -> bool:
    """Tell whether a page asks for its live part."""
    return request.method == "GET" and request.get_header("HX-Target") == LIVE


@dataclass(frozen=True, slots=True)
class PollAnswer:
    """An answer to a poll: the live part of a page.

    Attributes:
        body: with a stand-in for the token of forms.
        tag: of the body.
    """

    body: bytes
    tag: str

    @classmethod
    def of(cls, body: bytes, stand_in: str = "") -> PollAnswer:
        """Make an answer with its tag: the same in each process, whatever stands for the token there."""
        tagged = body.replace(stand_in.encode(), b"") if stand_in else body
        return cls(body, hashlib.blake2b(tagged, digest_size=12).hexdigest())


class SharedPolls:
    """A cache of answers to polls, by the address that was asked for. Thread-safe."""

    def __init__(self) -> None:
        #: Stands where the token of forms will; nobody else knows it, so no job holds it.
        self.stand_in = secrets.token_hex(32)
        self._answers = SharedAnswers(KEPT)

    def find(self, request: falcon.Request) -> PollAnswer | None:
        """Return the answer to a poll; None: it is this request's to make it, and to keep it."""
        return self._answers.find(
            _address_of(request), good_for_seconds=GOOD_FOR_SECONDS, oldest_seconds=OLDEST_SECONDS
        )

    def keep(self, request: falcon.Request, answer: PollAnswer) -> None:
        """Give this answer to the next ones who ask, unless it is too large."""
        if len(answer.body) <= KEPT_MAX_BYTES:
            self._answers.keep(_address_of(request), answer, good_for_seconds=GOOD_FOR_SECONDS)

    def forget(self) -> None:
        """Drop what was made before a change: whoever asks next sees it."""
        self._answers.forget()

    def body_for(self, answer: PollAnswer, token: str) -> bytes:
        """Return the answer's bytes with the token of somebody's forms."""
        return answer.body.replace(self.stand_in.encode(), token.encode())


def _address_of(request: falcon.Request) -> tuple[str, str, frozenset[Scope]]:
    """What was asked for, by which name of the service, and by whom.

    Pages show addresses that begin with that name, and what the key of the session allows.
    """
    return request.uri, request.forwarded_prefix, principal_of(request).scopes

"""The base of every page, and the parts of the dashboard that pages share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from goqueue.dashboard.access.attempts import STARTS_MAX, SignInAttempts
from goqueue.dashboard.access.sessions import Sessions
from goqueue.dashboard.rendering import Renderer
from goqueue.dashboard.shared_answers import SharedAnswers
from goqueue.db import bounded_reads
from goqueue.db.database import Connection, Database
from goqueue.instance import GoQueue

if TYPE_CHECKING:
    from goqueue.dashboard.access.openid.sign_in import OpenIdSignIn

__all__ = ["Page", "Site", "one_moment"]


@dataclass(frozen=True, slots=True)
class Site:
    """The parts of the dashboard that every page works with.

    Attributes:
        goqueue: what the REST resources work with as well.
        sign_in: the sign-in of users at their provider; None: there is none.
        shared: what every browser is shown alike.
        failures: attempts to sign in that failed.
        starts: sign-ins at the provider that were begun.
    """

    goqueue: GoQueue
    renderer: Renderer
    sessions: Sessions
    sign_in: OpenIdSignIn | None = None
    shared: SharedAnswers = field(default_factory=SharedAnswers)
    failures: SignInAttempts = field(default_factory=SignInAttempts)
    starts: SignInAttempts = field(default_factory=lambda: SignInAttempts(STARTS_MAX))


class Page:
    """A page, or an action of one: a resource that answers with HTML."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._goqueue = site.goqueue
        self._renderer = site.renderer


@contextmanager
def one_moment(database: Database) -> Iterator[Connection]:
    """Open a connection whose questions all see the same moment, and which only reads.

    What changes between two questions of another connection is told twice by them, or not at all.

    Raises:
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    with database.transaction() as connection:
        bounded_reads.one_snapshot(connection)
        yield connection

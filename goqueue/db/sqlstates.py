"""The meaning of PostgreSQL's errors: an outage, which passes, or a refusal of this one statement.

This is the one table of it. Whoever takes an outage for a refusal drops what it was about to write; whoever
takes a refusal for an outage writes it for ever. What no line names is an outage: an outcome that is kept and
tried again is never lost, and the recorder takes a batch apart before one statement can hold up the others.
"""

from __future__ import annotations

from enum import Enum

import psycopg

__all__ = ["Verdict", "verdict_of"]


class Verdict(Enum):
    """A verdict on an error: who or what is at fault, and so whether to repeat the statement."""

    #: The statement or its values are wrong: it would be refused again.
    REFUSED = "refused"
    #: The server is well: this statement waited for too long, for a lock or for its end, or met another one.
    BUSY = "busy"
    #: The server has no room now (connections, memory, disk). The connection is good.
    FULL = "full"
    #: The server, or the way to it, is not what it should be: the connections are replaced.
    LOST = "lost"
    #: As LOST, but it may lie in this statement alone: an internal error, or a code that is not listed here.
    DOUBTFUL = "doubtful"


# A code of five characters goes before its class of two.
_VERDICTS: dict[str, Verdict] = {
    "08": Verdict.LOST,  # connection exception; poolers say everything of theirs in it
    "0A": Verdict.REFUSED,  # feature not supported
    "21": Verdict.REFUSED,  # cardinality violation
    "22": Verdict.REFUSED,  # data exception
    "23": Verdict.REFUSED,  # integrity constraint violation
    "25": Verdict.LOST,  # invalid transaction state: a time-out of the session, or a server behind a pooler
    "25006": Verdict.LOST,  # read-only transaction: the server is no primary any more
    "26000": Verdict.LOST,  # no such prepared statement: another session than before
    "28": Verdict.LOST,  # invalid authorization: a password or a certificate is being changed
    "3D": Verdict.LOST,  # no such database: it is being restored, or moved
    "40": Verdict.BUSY,  # serialization failure, deadlock
    "40002": Verdict.REFUSED,  # constraint violation at the commit
    "40003": Verdict.LOST,  # it is not known whether the statement was completed
    "42": Verdict.REFUSED,  # syntax error, no such column, no privilege
    "42P05": Verdict.LOST,  # the prepared statement exists: another session than before
    "44": Verdict.REFUSED,  # WITH CHECK OPTION violation
    "53": Verdict.FULL,  # too many connections, out of memory, disk full
    "54": Verdict.REFUSED,  # program limit exceeded: nested too deeply, too large
    "55": Verdict.DOUBTFUL,  # object not in prerequisite state
    "55006": Verdict.BUSY,  # object in use
    "55P03": Verdict.BUSY,  # lock not available
    "57": Verdict.LOST,  # operator intervention: shutdown, crash, starting up, idle for too long
    "57014": Verdict.BUSY,  # query canceled: the statement's time is up
    "58": Verdict.LOST,  # system error: input and output
    "P0": Verdict.REFUSED,  # raised by PL/pgSQL
    "XX": Verdict.DOUBTFUL,  # internal error, corrupted data; poolers say it of a server that is gone
}

#: The function of the server that refuses a prepared statement whose result has another shape since a
#: migration: it is well on a new connection. Its code is that of any feature that is not supported.
_STALE_PLAN = "RevalidateCachedQuery"

#: What the driver says by itself, about values that it cannot write or statements that it cannot read.
_REFUSED_BY_DRIVER = (
    psycopg.DataError,
    psycopg.ProgrammingError,
    psycopg.NotSupportedError,
    psycopg.IntegrityError,
)


def verdict_of(error: BaseException | None) -> Verdict:
    """Judge an error of psycopg. One that is none of psycopg's counts as a lost connection."""
    if not isinstance(error, psycopg.Error):
        return Verdict.LOST
    code = error.sqlstate
    if code is None:
        return Verdict.REFUSED if isinstance(error, _REFUSED_BY_DRIVER) else Verdict.LOST
    if code == "0A000" and error.diag.source_function == _STALE_PLAN:
        return Verdict.LOST
    return _VERDICTS.get(code) or _VERDICTS.get(code[:2]) or Verdict.DOUBTFUL

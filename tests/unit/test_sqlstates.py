"""What follows from each error of PostgreSQL and of its driver."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.errors import _sqlcodes, lookup

from goqueue.db.sqlstates import Verdict, verdict_of

#: By the classes of the standard and of PostgreSQL's appendix A: what a statement is refused for.
REFUSALS = ("0A", "21", "22", "23", "42", "44", "54", "P0")

NAMED = {
    "25006": Verdict.LOST,
    "25P03": Verdict.LOST,
    "25P04": Verdict.LOST,
    "57P01": Verdict.LOST,
    "57P02": Verdict.LOST,
    "57P03": Verdict.LOST,
    "57P04": Verdict.LOST,
    "57P05": Verdict.LOST,
    "57014": Verdict.BUSY,
    "40001": Verdict.BUSY,
    "40P01": Verdict.BUSY,
    "55P03": Verdict.BUSY,
    "08000": Verdict.LOST,
    "08003": Verdict.LOST,
    "08006": Verdict.LOST,
    "08P01": Verdict.LOST,
    "53000": Verdict.FULL,
    "53100": Verdict.FULL,
    "53200": Verdict.FULL,
    "53300": Verdict.FULL,
    "58030": Verdict.LOST,
    "XX000": Verdict.DOUBTFUL,
    "XX001": Verdict.DOUBTFUL,
    "22001": Verdict.REFUSED,
    "22P02": Verdict.REFUSED,
    "23505": Verdict.REFUSED,
    "23514": Verdict.REFUSED,
    "42501": Verdict.REFUSED,
    "42P01": Verdict.REFUSED,
    "54001": Verdict.REFUSED,
    # Of another session of the server than the one that prepared it.
    "26000": Verdict.LOST,
    "42P05": Verdict.LOST,
}


@pytest.mark.parametrize("code", sorted(_sqlcodes))
def test_each_code_is_an_outage_unless_the_statement_is_at_fault(code: str) -> None:
    """Only the classes that blame the statement are refusals; others keep what was to be written."""
    if len(code) != 5 or code[:2] in {"00", "01", "02"}:
        return  # a name instead of a code, or no error
    verdict = verdict_of(lookup(code)("said by the server"))
    expected = code.startswith(REFUSALS) and NAMED.get(code) is not Verdict.LOST
    assert (verdict is Verdict.REFUSED) == (expected or code == "40002")


@pytest.mark.parametrize(("code", "verdict"), NAMED.items(), ids=NAMED)
def test_a_code_has_its_verdict(code: str, verdict: Verdict) -> None:
    """Read-only servers, restarts, time-outs, poolers and full servers, one by one."""
    assert verdict_of(lookup(code)("said by the server")) is verdict


def test_an_unknown_code_is_a_doubtful_outage() -> None:
    """What a pooler or a later release says keeps what was to be written."""
    error = psycopg.DatabaseError("server is gone")
    error.sqlstate = "ZZ999"
    assert verdict_of(error) is Verdict.DOUBTFUL


DRIVER = {
    "the connection is closed": (psycopg.OperationalError, Verdict.LOST),
    "the connection was used after its end": (psycopg.InterfaceError, Verdict.LOST),
    "lost synchronization with server": (psycopg.DatabaseError, Verdict.LOST),
    "PostgreSQL text fields cannot contain NUL": (psycopg.DataError, Verdict.REFUSED),
    "cannot adapt type": (psycopg.ProgrammingError, Verdict.REFUSED),
}


@pytest.mark.parametrize("text", DRIVER)
def test_what_the_driver_says_by_itself_has_its_verdict(text: str) -> None:
    """Errors without a code are judged by their class."""
    kind, verdict = DRIVER[text]
    assert verdict_of(kind(text)) is verdict

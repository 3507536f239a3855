"""What many browsers ask for is read and made once for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import falcon
import pytest
from falcon import testing

from goqueue.dashboard import polls as poll_module
from goqueue.dashboard import shared_answers
from goqueue.dashboard.polls import PollAnswer, SharedPolls, is_poll
from goqueue.dashboard.shared_answers import SharedAnswers
from goqueue.errors import DatabaseUnavailableError
from tests.support.waiting import wait_until


class Clock:
    """A monotonic clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """What it shows."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the answers."""
    clock = Clock()
    monkeypatch.setattr(shared_answers, "time", clock)
    return clock


def poll(path: str = "/dashboard", **headers: str) -> falcon.Request:
    """A request for the live part of a page."""
    return testing.create_req(path=path, headers={"HX-Target": "live"} | headers)


def test_only_a_request_for_the_live_part_is_a_poll() -> None:
    """A page, and a part of another name, are made for whoever asks."""
    assert is_poll(poll())
    assert not is_poll(testing.create_req(path="/dashboard"))
    assert not is_poll(testing.create_req(path="/dashboard", headers={"HX-Target": "other"}))
    assert not is_poll(testing.create_req(path="/dashboard", method="POST", headers={"HX-Target": "live"}))


def test_an_answer_is_given_again_for_less_than_two_seconds(clock: Clock) -> None:
    """Who asks every two seconds gets a new one each time; of another address there is none."""
    polls, answer = SharedPolls(), PollAnswer.of(b"body")
    assert polls.find(poll()) is None
    polls.keep(poll(), answer)
    clock.now += 1.8
    assert polls.find(poll()) is answer
    assert polls.find(poll("/dashboard/jobs")) is None
    assert polls.find(poll(Host="elsewhere")) is None
    clock.now += 0.2
    assert polls.find(poll()) is None


def test_one_makes_the_next_answer_while_others_get_the_one_before(clock: Clock) -> None:
    """Once an answer is no longer good, the first who asks makes the next; an old one is given to nobody."""
    polls, answer = SharedPolls(), PollAnswer.of(b"body")
    polls.keep(poll(), answer)
    clock.now += 2.0
    assert polls.find(poll()) is None
    assert polls.find(poll()) is answer
    clock.now += 1.1
    assert polls.find(poll()) is None


def test_a_change_is_seen_at_once(clock: Clock) -> None:
    """After a change no answer from before it is given."""
    polls = SharedPolls()
    polls.keep(poll(), PollAnswer.of(b"before"))
    clock.now += 0.1
    polls.forget()
    assert polls.find(poll()) is None


@pytest.mark.usefixtures("clock")
def test_few_answers_are_kept_and_no_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were made last are kept."""
    monkeypatch.setattr(poll_module, "KEPT", 2)
    polls = SharedPolls()
    for name in ("one", "two", "three"):
        polls.keep(poll(f"/dashboard/{name}"), PollAnswer.of(name.encode()))
    polls.keep(poll("/dashboard/four"), PollAnswer.of(b"x" * (poll_module.KEPT_MAX_BYTES + 1)))
    found = [polls.find(poll(f"/dashboard/{name}")) for name in ("one", "two", "three", "four")]
    assert [one and one.body for one in found] == [None, b"two", b"three", None]


def test_everybody_gets_their_own_token() -> None:
    """The stand-in of an answer is replaced by the token of whoever asks."""
    polls = SharedPolls()
    answer = PollAnswer.of(f'<input value="{polls.stand_in}">'.encode())
    assert polls.body_for(answer, "mine") == b'<input value="mine">'
    assert SharedPolls().stand_in != polls.stand_in


def reading(clock: Clock, asked: list[int], seconds: float) -> int:
    """A question that takes so long; its answer is how often it was asked."""
    clock.now += seconds
    asked.append(len(asked) + 1)
    return asked[-1]


def test_a_long_reading_is_waited_for_by_nobody_who_keeps_looking(clock: Clock) -> None:
    """Two seconds later the answer before is given, and the next one is read meanwhile."""
    shared, asked = SharedAnswers(), list[int]()
    assert shared.get("key", lambda: reading(clock, asked, 0.05)) == 1
    clock.now += 2.0
    assert shared.get("key", lambda: reading(clock, asked, 0.05)) == 1
    wait_until(lambda: len(asked) == 2)
    wait_until(lambda: shared.get("key", lambda: reading(clock, asked, 0.05)) == 2)


@pytest.mark.parametrize(
    ("seconds", "later"), [(0.001, 2.0), (0.05, 10.0)], ids=["a short reading", "an old answer"]
)
def test_whoever_comes_gets_what_is_true_now(clock: Clock, seconds: float, later: float) -> None:
    """What is quickly read, and what nobody has looked at for long, is read before it is shown."""
    shared, asked = SharedAnswers(), list[int]()
    assert shared.get("key", lambda: reading(clock, asked, seconds)) == 1
    clock.now += later
    assert shared.get("key", lambda: reading(clock, asked, seconds)) == 2


def test_an_error_beside_the_page_is_left_to_the_next_who_has_to_wait(clock: Clock) -> None:
    """While PostgreSQL is away the last answer is given for a while, and then its error."""
    shared, asked, failed = SharedAnswers(), list[int](), threading.Event()

    def ask() -> int:
        if asked:
            failed.set()
            raise DatabaseUnavailableError
        return reading(clock, asked, 0.05)

    assert shared.get("key", ask) == 1
    clock.now += 2.0
    assert shared.get("key", ask) == 1
    assert failed.wait(5)
    clock.now += 10.0
    wait_until(lambda: _is_refused(shared, ask))


def test_an_error_is_not_kept() -> None:
    """A question that failed is asked again by the next one, and then known."""
    shared, answers = SharedAnswers(), iter([0, 7])

    def ask() -> int:
        return 7 // next(answers)

    with pytest.raises(ZeroDivisionError):
        shared.get("key", ask)
    assert shared.get("key", ask) == 1
    assert shared.get("key", ask) == 1


def _is_refused(shared: SharedAnswers, ask: Callable[[], int]) -> bool:
    try:
        shared.get("key", ask)
    except DatabaseUnavailableError:
        return True
    return False

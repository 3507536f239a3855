"""The pure parts of the benchmark: figures, table, load generator, profile, side effects."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from bench.dashboard_requests import get
from bench.dashboard_visitors import COUNT, PHASES, POLL_SECONDS, phases_of, questions
from bench.faults.proxy import RedisProxy
from bench.faults.scenarios import Tally
from bench.faults.side_effects import ENDED, STARTED, SideEffects
from bench.horizon import Figures, Plan, horizon_rows
from bench.http_load import answer_length, request, status_of
from bench.job_kinds import KINDS, PLAIN
from bench.profile import summary
from bench.report import Row, table, write_json
from bench.run_counter import RunCounter, counts
from bench.sidekiq import ABSENT
from bench.statistics import median, percentile, rotated


@pytest.mark.parametrize(
    ("samples", "percent", "expected"),
    [([3.0, 1.0, 2.0], 50, 2.0), ([float(n) for n in range(1, 101)], 99, 99.0), ([5.0], 99, 5.0)],
    ids=["median of three", "p99 of a hundred", "of one"],
)
def test_percentile_is_a_sample(samples: list[float], percent: float, expected: float) -> None:
    """A percentile is one of the samples: the smallest that enough of them do not exceed."""
    assert percentile(samples, percent) == expected


def test_median_of_two_middle_samples_is_their_mean() -> None:
    """An even number of samples has two middle ones."""
    assert median([4.0, 1.0, 3.0, 2.0]) == 2.5


@pytest.mark.parametrize(
    "reduce", [median, lambda samples: percentile(samples, 50)], ids=["median", "percentile"]
)
def test_no_samples_are_refused(reduce: object) -> None:
    """Nothing was measured: that is an error, not a zero."""
    assert callable(reduce)
    with pytest.raises(ValueError, match="samples"):
        reduce([])


@pytest.mark.parametrize(
    ("row", "passes"),
    [
        (Row("a", "a", "jobs/s", 300.0, 100.0, "Dramatiq", "ratio", 2.2), True),
        (Row("a", "a", "jobs/s", 200.0, 100.0, "Dramatiq", "ratio", 2.2), False),
        (Row("a", "a", "ms", 1.5, target=2.0, at_most=True), True),
        (Row("a", "a", "ms", 2.5, target=2.0, at_most=True), False),
        (Row("a", "a", "ms", -0.5, target=2.0, at_most=True), True),
        (Row("a", "a", "MiB", 50.0, 25.0, "Dramatiq"), None),
    ],
    ids=["ratio met", "ratio missed", "limit kept", "limit exceeded", "before the answer", "no target"],
)
def test_a_row_knows_whether_it_passes(row: Row, passes: bool | None) -> None:
    """A target is compared with the ratio or the value, from above or from below."""
    assert row.passes is passes


def test_the_table_shows_figures_targets_and_verdicts() -> None:
    """One aligned line a row, under a line of headings."""
    rows = [
        Row("drain", "drain", "jobs/s", 9876.5, 4321.0, "Dramatiq", "ratio", 2.2),
        Row("p50", "pickup", "ms", 2.5, target=2.0, at_most=True),
    ]
    lines = table(rows).splitlines()
    assert lines[2].split() == [
        "drain",
        "jobs/s",
        "9,876",
        "4,321",
        "Dramatiq",
        "2.29",
        "x",
        ">=",
        "2.2",
        "x",
        "met",
    ]
    assert lines[3].split() == ["pickup", "ms", "2.50", "<=", "2.00", "MISSED"]


def test_a_yardstick_that_is_not_at_hand_is_named_without_a_figure() -> None:
    """The table says what is missing instead of leaving the row out, and judges nothing."""
    row = Row("drain_sidekiq", "drain", "jobs/s", 9876.5, None, ABSENT, "ratio", 1.3)
    assert row.passes is None
    line = table([row]).splitlines()[2]
    assert "9,876  Sidekiq: not at hand (apt-get install ruby-sidekiq)" in line
    assert line.endswith(">= 1.3 x")


def test_the_rows_of_the_horizon_have_keys_of_their_own() -> None:
    """The JSON has one row a key: a drain under a transaction does not replace the plain one."""
    side = Figures([1.0], [1.0], [1.0], [1.0], [1.0])
    assert all(row.key.startswith("horizon_") for row in horizon_rows(side, side, Plan()))


def test_every_kind_of_job_is_created_as_it_says() -> None:
    """Keys take turns, every second job of pairs waits for the one before it, and each has its own key."""
    made = {kind.key: kind.nodes(_Job, kind.job, 4) for kind in (PLAIN, *KINDS)}
    assert len(made) == 6
    assert [node.job.settings["concurrency_key"] for node in made["keys"]] == [f"key-{n}" for n in range(4)]
    assert [node.after for node in made["dependencies"]] == [(), (0,), (), (2,)]
    assert {node.job.name for node in made["retries"]} == {"fail_once"}


def test_systems_take_turns_at_the_beginning() -> None:
    """What disturbs the machine at the start of a round does not always meet the same system."""
    assert [rotated("abc", number) for number in range(4)] == [
        list("abc"),
        list("bca"),
        list("cab"),
        list("abc"),
    ]


def test_the_json_keeps_every_row_by_its_key(tmp_path: Path) -> None:
    """The README's figures come from this file."""
    write_json(tmp_path / "results" / "latest.json", [Row("drain", "drain", "jobs/s", 2.0, 1.0)], rounds=3)
    content = json.loads((tmp_path / "results" / "latest.json").read_text())
    assert content["rounds"] == 3
    assert content["rows"]["drain"]["ratio"] == 2.0


def test_an_answer_ends_where_its_content_length_says() -> None:
    """Answers arrive in pieces, and one connection carries many."""
    answer = b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\n1234"
    assert answer_length(answer[:20]) is None
    assert answer_length(answer + b"HTTP/1.1") == len(answer)
    assert answer_length(b"HTTP/1.1 204 No Content\r\n\r\n") == 27
    assert status_of(answer) == 201


def test_a_request_is_complete() -> None:
    """The body is announced with its length."""
    assert request("/jobs/create", b"{}").endswith(b"Content-Length: 2\r\nConnection: keep-alive\r\n\r\n{}")


def test_the_phases_of_rounds_take_turns() -> None:
    """Each round has every phase once, and none always follows the same one."""
    rounds = [phases_of(number) for number in range(3)]
    assert all(sorted(phases) == sorted(PHASES) for phases in rounds)
    assert len({phases[0] for phases in rounds}) == len(PHASES)


def test_open_dashboards_ask_as_browsers_do() -> None:
    """Each has a live part that is asked for every two seconds, with its own session, and its charts."""
    asked = questions([f"session={number}" for number in range(COUNT)])
    live = [question for question in asked if question.is_live]
    assert len({question.cookie for question in live}) == len(live) == COUNT
    assert {question.every_seconds for question in live} == {POLL_SECONDS}
    assert all(question.offset < POLL_SECONDS for question in asked)
    message = get("/dashboard", is_live=True, cookie="session=1", tag='W/"x"')
    assert b"HX-Target: live" in message
    assert b'If-None-Match: W/"x"' in message


def test_a_profile_is_summed_up_by_function() -> None:
    """Lines of one function count together; a function that calls itself counts once a sample."""
    text = summary("worker", ["run (w.py:1);work (w.py:5) 3", "run (w.py:2);run (w.py:2);work (w.py:6) 1"])
    assert "100.0%   100.0%  work (w.py)" in text
    assert " 100.0%  run (w.py)" in text


def test_runs_are_counted_across_threads(tmp_path: Path) -> None:
    """No run is lost where threads count at once."""
    counter = RunCounter(tmp_path)
    threads = [threading.Thread(target=_add, args=(counter, 500)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts(tmp_path) == [2000]


def test_side_effects_are_counted_by_job(tmp_path: Path) -> None:
    """A job that ran twice is seen to have run twice."""
    effects = SideEffects(tmp_path / "effects")
    for number, what in ((1, STARTED), (2, STARTED), (1, ENDED), (1, ENDED)):
        effects.note(number, what)
    assert effects.counted(ENDED) == {1: 2}
    assert effects.last(ENDED) > effects.last("never") == 0.0


@pytest.mark.parametrize(
    "tally",
    [Tally(8, 1, 0, 0), Tally(8, 0, 1, 0), Tally(8, 0, 0, 1), Tally(8, 0, 0, 0, broken=True)],
    ids=["lost", "stuck", "run twice", "broken"],
)
def test_any_harm_counts(tally: Tally) -> None:
    """GoQueue fails the run for each kind of harm."""
    assert not tally.harmless
    assert Tally(8, 0, 0, 0).harmless


def test_the_proxy_loses_the_answer_and_not_the_command() -> None:
    """The server has got the command; the client sees a closed connection, once, and never for an error."""
    received: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_answer, args=(server, received), daemon=True).start()
    with server, RedisProxy(server.getsockname()[1]) as proxy:
        proxy.cut_answer(b"fetch")
        assert _ask(proxy.port, b"fail to fetch") == b"-fail to fetch"
        assert _ask(proxy.port, b"fetch") == b""
        assert _ask(proxy.port, b"fetch") == b"+fetch"
        proxy.go_down()
        assert _ask(proxy.port, b"fetch") == b""
        proxy.come_back()
        assert _ask(proxy.port, b"fetch") == b"+fetch"
    assert received == [b"fail to fetch", b"fetch", b"fetch", b"fetch"]
    assert proxy.cut == 1


def _add(counter: RunCounter, times: int) -> None:
    for _ in range(times):
        counter.add()


def _answer(server: socket.socket, received: list[bytes]) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            asked = connection.recv(100)
            received.append(asked)
            connection.sendall((b"-" if asked.startswith(b"fail") else b"+") + asked)


def _ask(port: int, question: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        try:
            connection.sendall(question)
            return connection.recv(100)
        except ConnectionError:
            return b""


class _Job:
    """What a kind asks a new job for."""

    def __init__(self, name: str, **settings: object) -> None:
        self.name = name
        self.settings = settings

"""The pages of queues: what they tell, and everything that can be changed there."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from falcon import testing

from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.queue_rows import Queue
from goqueue.engine.runway.runway import Runway
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.limits import type_setting_rows as type_settings
from goqueue.limits.settings import (
    Breaker,
    KeyLimits,
    OnConflict,
    QueueLimits,
    RateAlgorithm,
    RateLimit,
    TypeLimits,
)
from tests.support.dashboard.client import DashboardClient
from tests.support.dashboard.html import Element, elements_of, text_of
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

PLACE = "/dashboard/queues"

#: What the form of a queue without settings shows.
PLAIN = {
    "concurrency": "",
    "key_concurrency": "",
    "on_conflict": "wait",
    "rate_limit": "",
    "rate_period_seconds": "",
    "rate_algorithm": "sliding_window",
    "key_rate_limit": "",
    "key_rate_period_seconds": "",
    "key_rate_algorithm": "sliding_window",
    "ramp_seconds": "0",
    "slo_wait_seconds": "",
    "slo_objective": "0.99",
}


def row_of(html: str, name: str) -> Element:
    """The row of a queue."""
    (row,) = (row for row in elements_of(html).all("tr") if row.all(title=name))
    return row


def shown_of(html: str) -> str:
    """What the form of the settings says that its fields held."""
    return elements_of(html).one("input", name="shown").attributes["value"]


@pytest.fixture
def standing(database: Database) -> Callable[[str], Queue]:
    """How a queue stands."""

    def read(name: str) -> Queue:
        with database.autocommit() as connection:
            return next(queue for queue in queue_store.list_all(connection) if queue.name == name)

    return read


@pytest.fixture
def limits(database: Database) -> Callable[[], QueueLimits]:
    """The settings of the queue of the tests."""

    def read() -> QueueLimits:
        with database.autocommit() as connection:
            return queue_settings.limits_of(connection, "noop")

    return read


@pytest.fixture
def save(dashboard: DashboardClient) -> Callable[..., testing.Result]:
    """Sends the form of the settings as it is shown, with changes."""

    def send(**changes: str) -> testing.Result:
        page = dashboard.get(f"{PLACE}/noop").text
        fields = PLAIN | {"shown": shown_of(page)} | changes
        return dashboard.post(f"{PLACE}/noop", action="settings", **fields)

    return send


def test_queues_are_listed_with_what_is_in_them(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """A row has counts of each kind, who serves, and links to the jobs; a declared queue is there unused."""
    make_job.worker(queues=["mail"], threads=3)
    for _ in range(3):
        make_job(queue="mail")
    make_job(queue="mail", available_at=datetime.now(UTC) + timedelta(hours=1))
    for status in ("running", "failed", "completed"):
        make_job(status, queue="mail")
    with database.autocommit() as connection:
        queue_store.ensure(connection, ["quarantine"])
    page = dashboard.get(PLACE).text
    row = row_of(page, "mail")
    cells = row.cells
    assert {name: cells[name] for name in ("Ready", "Waiting", "Running", "Failed")} == {
        "Ready": "3",
        "Waiting": "1",
        "Running": "1",
        "Failed": "1",
    }
    assert "1 / 3" in cells["Workers"]
    assert "stands still" in cells["Outlook"]
    assert any("data-running" in one.attributes for one in row.all())
    assert "/dashboard/jobs?queue=mail&status=failed" in row.links
    assert "no worker" in row_of(page, "noop").spans
    assert "idle" in row_of(page, "noop").text
    assert "quarantine" not in page


def test_throughput_is_told_from_what_was_counted(dashboard: DashboardClient, database: Database) -> None:
    """Completed a second and the line of the last hour come from rollups; missing steps are 0."""
    now = datetime.now(UTC).replace(microsecond=0)
    tens = now - timedelta(seconds=now.second % 10)
    minutes = now.replace(second=0)
    with database.autocommit() as connection:
        queue_store.ensure(connection, ["counted"])
        for seconds, up_to in ((10, tens), (60, minutes)):
            connection.exec_driver_sql(
                "INSERT INTO rollup_progress VALUES (%(s)s, %(at)s) "
                "ON CONFLICT (step_seconds) DO UPDATE SET up_to = EXCLUDED.up_to",
                {"s": seconds, "at": up_to},
            )
            connection.exec_driver_sql(
                "INSERT INTO rollups (scope, name, step_seconds, starts_at, completed, waits) "
                "VALUES ('queue', 'counted', %(s)s, %(at)s, 120, '{0,0,0,120}')",
                {"s": seconds, "at": up_to - timedelta(seconds=seconds)},
            )
    row = row_of(dashboard.get(PLACE).text, "counted")
    assert "2.0/s" in row.text
    assert "at most 120" in row.text
    points = row.one("polyline").attributes["points"]
    heights = [float(point.partition(",")[2]) for point in points.split()]
    assert len(heights) == 60
    assert heights[-1] < heights[0] == heights[-2]
    page = dashboard.get(f"{PLACE}/counted?range=15m")
    assert "12/s" in re.sub(r"\.0", "", page.text)
    for chart, unit in (("throughput", 12), ("wait", 0.001)):
        document = dashboard.get(f"/dashboard/queue-chart.json?queue=counted&range=15m&chart={chart}").json
        assert document["series"][0]["values"][-1] == pytest.approx(unit, rel=2.0)
        assert len(document["x"]) == len(document["series"][0]["values"])


@pytest.mark.parametrize(
    "query",
    ["queue=nosuch", "", "queue=%00", "queue=quarantine"],
    ids=["unknown", "none", "a NUL", "quarantine"],
)
def test_a_chart_of_no_queue_is_404(dashboard: DashboardClient, query: str) -> None:
    """There is no chart of what is not there."""
    assert dashboard.get(f"/dashboard/queue-chart.json?{query}").status_code == 404


@pytest.mark.parametrize("query", ["range=1y", "chart=cost"])
def test_a_wrong_chart_is_refused(dashboard: DashboardClient, query: str) -> None:
    """A range or a chart that there is not is a 400."""
    assert dashboard.get(f"/dashboard/queue-chart.json?queue=noop&{query}").status_code == 400


@pytest.mark.parametrize(("back", "place"), [("list", PLACE), ("queue", f"{PLACE}/noop")])
def test_a_queue_is_paused_and_resumed(
    dashboard: DashboardClient, standing: Callable[[str], Queue], back: str, place: str
) -> None:
    """Both pages pause with a reason and resume, and say who, why and until when."""
    answer = dashboard.post(
        f"{PLACE}/noop", action="pause", back=back, reason="a deploy", seconds="900", until=""
    )
    assert (answer.status_code, answer.headers["location"]) == (303, place)
    paused = standing("noop")
    assert (paused.paused_by, paused.pause_reason) == ("dashboard", "a deploy")
    assert paused.paused_at
    assert paused.paused_until == paused.paused_at + timedelta(minutes=15)
    page = text_of(dashboard.get(place).text)
    assert "Queue noop is paused" in page
    assert all(word in page for word in ("paused", "by dashboard", "a deploy", "ends"))
    answer = dashboard.post(f"{PLACE}/noop", action="resume", back=back)
    assert (answer.status_code, answer.headers["location"]) == (303, place)
    assert standing("noop").paused_at is None
    page = text_of(dashboard.get(place).text)
    assert "Queue noop goes on." in page
    assert "a deploy" not in page


def test_a_pause_ends_at_a_moment(dashboard: DashboardClient, standing: Callable[[str], Queue]) -> None:
    """The moment of the field is UTC; without an end there is none."""
    dashboard.post(f"{PLACE}/noop", action="pause", reason="", seconds="", until="2031-02-03T04:05")
    assert standing("noop").paused_until == datetime(2031, 2, 3, 4, 5, tzinfo=UTC)
    dashboard.post(f"{PLACE}/noop", action="pause", reason="", seconds="", until="")
    assert standing("noop").paused_until is None
    assert standing("noop").pause_reason is None


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"until": "2001-02-03T04:05"}, "until", id="a time that has passed"),
        pytest.param({"until": "tomorrow"}, "until", id="no time"),
        pytest.param({"until": "2031-02-03T04:05", "seconds": "300"}, "seconds", id="two ends"),
        pytest.param({"seconds": "soon"}, "seconds", id="no number"),
        pytest.param({"seconds": "-1"}, "seconds", id="before now"),
        pytest.param({"reason": "x" * 501}, "reason", id="a long reason"),
        pytest.param({"reason": "a\tb"}, "reason", id="a tab"),
    ],
)
def test_a_wrong_pause_is_told_beside_its_field(
    dashboard: DashboardClient, database: Database, fields: dict[str, str], field: str
) -> None:
    """The page comes again with the message, and with what was typed; nothing is paused."""
    answer = dashboard.post(f"{PLACE}/noop", action="pause", **fields)
    assert answer.status_code == 400
    assert f'id="{field}-wrong"' in answer.text
    assert answer.text.count('-wrong"') == 2
    assert all(value in answer.text for name, value in fields.items() if name != "seconds")
    with database.autocommit() as connection:
        assert not any(queue.paused_at for queue in queue_store.list_all(connection))


def test_a_slow_down_is_shown_and_ended(
    dashboard: DashboardClient, database: Database, standing: Callable[[str], Queue]
) -> None:
    """A queue that was told to slow down says until when, and can be resumed."""
    with database.transaction() as connection:
        queue_store.ensure(connection, ["noop"])
        queue_store.slow_down(connection, "noop", seconds=600, ramp_seconds=10)
    assert "slowed down" in row_of(dashboard.get(PLACE).text, "noop").text
    dashboard.post(f"{PLACE}/noop", action="resume", back="list")
    assert standing("noop").throttled_until is None
    assert "ramps up" in row_of(dashboard.get(PLACE).text, "noop").text


def ended_lately(database: Database, name: str, jobs: int) -> None:
    """As if so many jobs of a queue had completed just now."""
    now = datetime.now(UTC).replace(microsecond=0)
    up_to = now - timedelta(seconds=now.second % 10)
    with database.autocommit() as connection:
        queue_store.ensure(connection, [name])
        connection.exec_driver_sql(
            "INSERT INTO rollup_progress VALUES (10, %(at)s) "
            "ON CONFLICT (step_seconds) DO UPDATE SET up_to = EXCLUDED.up_to",
            {"at": up_to},
        )
        connection.exec_driver_sql(
            "INSERT INTO rollups (scope, name, step_seconds, starts_at, completed) "
            "VALUES ('queue', %(name)s, 10, %(at)s, %(jobs)s) "
            "ON CONFLICT (scope, name, step_seconds, starts_at) DO UPDATE SET completed = EXCLUDED.completed",
            {"name": name, "at": up_to - timedelta(seconds=10), "jobs": jobs},
        )


def close(database: Database, how: str, make_job: JobFactory) -> None:
    """Keep the jobs of the queue of the tests from starting, in one of the ways that there are."""
    with database.transaction() as connection:
        queue_store.ensure(connection, ["noop"])
        if how == "slow down":
            queue_store.slow_down(connection, "noop", seconds=600, ramp_seconds=10)
        elif how == "breaker":
            type_settings.locked(connection, "noop")
            type_settings.set_limits(connection, "noop", TypeLimits(breaker=Breaker()))
            connection.exec_driver_sql(
                "UPDATE types SET breaker_state = 'open', breaker_changed_at = now() WHERE name = 'noop'"
            )
        elif how == "keys":
            queue_settings.set_limits(connection, "noop", QueueLimits(fifo=True))
    if how == "keys":
        make_job(queue="noop", concurrency_key="a", available_at=datetime.now(UTC) + timedelta(hours=1))


@pytest.mark.parametrize(
    ("how", "state", "outlook"),
    [
        ("pause", "paused", "paused"),
        ("slow down", "slowed down", "told to slow down"),
        ("breaker", "breaker tripped", "breaker stops it"),
        ("keys", "blocked by keys", "blocked by keys"),
    ],
)
@pytest.mark.parametrize("ended", [0, 40, 100_000], ids=["nothing", "some", "much"])
def test_a_queue_of_which_nothing_starts_says_why(
    dashboard: DashboardClient,
    make_job: JobFactory,
    database: Database,
    how: str,
    state: str,
    outlook: str,
    ended: int,
) -> None:
    """Whatever ended before, no page calls it open, forecasts its end, or names another reason."""
    make_job.worker(queues=["noop"], threads=3)
    close(database, how, make_job)
    for _ in range(5):
        make_job(queue="noop", concurrency_key="a" if how == "keys" else None)
    ended_lately(database, "noop", ended)
    dashboard.get(f"{PLACE}/noop")
    if how == "pause":
        # What was read before the pause is still good for a while.
        dashboard.post(f"{PLACE}/noop", action="pause", reason="a deploy", seconds="900", until="")
    listed, page = (
        row_of(dashboard.get(PLACE).text, "noop"),
        elements_of(dashboard.live(f"{PLACE}/noop").text),
    )
    glance = elements_of(dashboard.get("/dashboard").text).one(id="queues")
    for part in (listed, page, glance):
        words = set(part.spans)
        assert outlook in words
        assert not words & {"open", "idle", "keeps up", "stands still"}
        assert "empties in" not in part.text
        assert not words & {"told to slow down", "breaker stops it", "blocked by keys", "paused"} - {outlook}
    for part in (listed, page):
        assert state in part.spans


def test_a_key_that_moves_on_blocks_nothing(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """Strict order with a job that runs for a moment is a queue that works, not one that is blocked."""
    close(database, "none", make_job)
    with database.transaction() as connection:
        queue_settings.set_limits(connection, "noop", QueueLimits(fifo=True))
    make_job("running", queue="noop", concurrency_key="a")
    make_job(queue="noop", concurrency_key="a")
    ended_lately(database, "noop", 1000)
    assert "keeps up" in row_of(dashboard.get(PLACE).text, "noop").spans


def test_a_breaker_without_a_job_is_told_all_the_same(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """A declared type that lets nothing in is named at its queue, also while nothing of it waits."""
    make_job.worker(queues=["noop"], threads=3)
    close(database, "breaker", make_job)
    row = row_of(dashboard.get(PLACE).text, "noop")
    assert "breaker tripped" in row.spans
    assert "/dashboard/types/noop" in row.links
    assert "open" not in row.spans


@pytest.mark.parametrize("place", [PLACE, f"{PLACE}/noop", "/dashboard"])
def test_a_queue_whose_jobs_run_is_not_idle(
    dashboard: DashboardClient, make_job: JobFactory, place: str
) -> None:
    """Three jobs run and none waits: the queue works."""
    for _ in range(3):
        make_job("running", queue="noop")
    page = dashboard.get(place).text
    part = row_of(page, "noop") if place == PLACE else elements_of(page)
    assert "works" in part.spans
    assert "idle" not in part.spans


def test_settings_are_changed(
    dashboard: DashboardClient, save: Callable[..., testing.Result], limits: Callable[[], QueueLimits]
) -> None:
    """Every setting of REST is a field of the form, and empty ones take it back."""
    changes = {
        "concurrency": "4",
        "on_conflict": "drop_new",
        "fair": "on",
        "rate_limit": "10",
        "rate_period_seconds": "1.5",
        "rate_algorithm": "token_bucket",
        "key_rate_limit": "2",
        "key_rate_period_seconds": "60",
        "ramp_seconds": "30",
        "slo_wait_seconds": "2.5",
        "slo_objective": "0.95",
    }
    answer = save(**changes)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{PLACE}/noop")
    assert limits() == QueueLimits(
        concurrency=4,
        on_conflict=OnConflict.DROP_NEW,
        fair=True,
        rate=RateLimit(10, 1.5, RateAlgorithm.TOKEN_BUCKET),
        key_rate=RateLimit(2, 60.0),
        ramp_seconds=30.0,
        slo_wait_seconds=2.5,
        slo_objective=0.95,
    )
    page = dashboard.get(f"{PLACE}/noop").text
    assert "The settings of queue noop are changed." in page
    assert all(words in page for words in ("4 at once", "10 in 1.5 s", "2 in 1 min a key", "keys take turns"))
    assert 'name="concurrency" value="4"' in page
    assert 'value="token_bucket" selected' in page
    assert '<input type="checkbox" name="fair" checked>' in page
    assert "10 in 1.5 s" in row_of(dashboard.get(PLACE).text, "noop").text
    assert save().status_code == 303
    assert limits() == QueueLimits()


def test_what_others_changed_meanwhile_stays(
    dashboard: DashboardClient,
    database: Database,
    save: Callable[..., testing.Result],
    limits: Callable[[], QueueLimits],
) -> None:
    """A form changes what differs from what it was shown with, and nothing else."""
    old = shown_of(dashboard.get(f"{PLACE}/noop").text)
    with database.transaction() as connection:
        queue_store.ensure(connection, ["noop"])
        queue_settings.set_limits(connection, "noop", QueueLimits(concurrency=7))
    save(shown=old, ramp_seconds="5")
    assert (limits().concurrency, limits().ramp_seconds) == (7, 5.0)
    assert "Nothing was changed." in follow(dashboard, save(shown=old))


def follow(dashboard: DashboardClient, answer: testing.Result) -> str:
    """The page that a change goes to."""
    assert answer.status_code == 303, answer.text
    return dashboard.get(answer.headers["location"]).text


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"concurrency": "0"}, "concurrency", id="no slot"),
        pytest.param({"concurrency": "many"}, "concurrency", id="no number"),
        pytest.param({"concurrency": "1.5"}, "concurrency", id="half a slot"),
        pytest.param({"concurrency": "9" * 400}, "concurrency", id="a huge number"),
        pytest.param({"key_concurrency": "-1"}, "key_concurrency", id="less than none"),
        pytest.param({"key_concurrency": "2", "fifo": "on"}, "key_concurrency", id="a contradiction"),
        pytest.param({"on_conflict": "explode"}, "on_conflict", id="an unknown policy"),
        pytest.param({"rate_limit": "5"}, "rate_period_seconds", id="no period"),
        pytest.param({"rate_period_seconds": "5"}, "rate_limit", id="no number of starts"),
        pytest.param({"rate_limit": "x", "rate_period_seconds": "5"}, "rate_limit", id="no number in a rate"),
        pytest.param(
            {"key_rate_limit": "5", "key_rate_period_seconds": "0"}, "key_rate_period_seconds", id="0 s"
        ),
        pytest.param(
            {"rate_limit": "5", "rate_period_seconds": "1", "rate_algorithm": "leaky"},
            "rate_algorithm",
            id="leaky",
        ),
        pytest.param({"ramp_seconds": "1e99"}, "ramp_seconds", id="for ever"),
        pytest.param({"ramp_seconds": "nan"}, "ramp_seconds", id="nan"),
        pytest.param({"slo_wait_seconds": "0"}, "slo_wait_seconds", id="no wait"),
        pytest.param({"slo_objective": "99"}, "slo_objective", id="per cent"),
    ],
)
def test_wrong_settings_are_told_beside_their_fields(
    save: Callable[..., testing.Result],
    dashboard: DashboardClient,
    changes: dict[str, str],
    field: str,
) -> None:
    """The page comes again with the message and with what was typed, and nothing is changed."""
    answer = save(**changes)
    assert answer.status_code == 400
    assert re.findall(r'id="(\w+)-wrong"', answer.text) == [field]
    assert "Nothing was changed" in answer.text
    assert '<details id="change" open>' in answer.text
    name, typed = next(iter(changes.items()))
    assert name in {"on_conflict", "rate_algorithm"} or f'name="{name}" value="{typed}"' in answer.text
    assert "Without limits" in dashboard.get(f"{PLACE}/noop").text


def test_keys_have_settings(dashboard: DashboardClient, database: Database) -> None:
    """A key gets a weight and a limit of its own, is listed, and is forgotten, whatever it is called."""
    key = '<b>€</b>/"x" &?#'
    answer = dashboard.post(f"{PLACE}/noop", action="key", key=key, weight="3", concurrency="")
    page = follow(dashboard, answer)
    assert key not in page
    assert "&lt;b&gt;€&lt;/b&gt;" in page
    with database.autocommit() as connection:
        assert queue_settings.key_limits(connection, "noop") == {key: KeyLimits(3, None)}
    follow(dashboard, dashboard.post(f"{PLACE}/noop", action="forget", key=key))
    with database.autocommit() as connection:
        assert queue_settings.key_limits(connection, "noop") == {}
    assert dashboard.post(f"{PLACE}/noop", action="forget", key=key).status_code == 404


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"key": "", "weight": "1"}, "key", id="no key"),
        pytest.param({"key": "x" * 201}, "key", id="a long key"),
        pytest.param({"key": "a\nb"}, "key", id="two lines"),
        pytest.param({"key": "a", "weight": "0"}, "weight", id="no weight"),
        pytest.param({"key": "a", "weight": "heavy"}, "weight", id="no number"),
        pytest.param({"key": "a", "concurrency": "0"}, "concurrency", id="no slot"),
    ],
)
def test_a_wrong_key_is_told_beside_its_field(
    dashboard: DashboardClient, fields: dict[str, str], field: str
) -> None:
    """The page comes again with the message."""
    answer = dashboard.post(f"{PLACE}/noop", action="key", **fields)
    assert answer.status_code == 400
    assert re.findall(r'id="(\w+)-wrong"', answer.text) == [field]
    assert '<details id="set-key" open>' in answer.text


def test_blocked_keys_are_shown_where_the_order_is_strict(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """The oldest job of a key that holds up later ones is there, with why and how many are behind it."""
    first = make_job("running", queue="noop", concurrency_key="<i>a</i>")
    make_job(queue="noop", concurrency_key="<i>a</i>")
    assert "Blocked keys" not in dashboard.get(f"{PLACE}/noop").text
    with database.transaction() as connection:
        queue_settings.set_limits(connection, "noop", QueueLimits(fifo=True))
    page = dashboard.get(f"{PLACE}/noop").text
    row = re.search(rf'<tr id="blocked-{first.id}">.*?</tr>', page, re.DOTALL)
    assert row
    assert all(
        word in row[0]
        for word in ("&lt;i&gt;a&lt;/i&gt;", f"/dashboard/jobs/{first.id}", "running", ">1</td>")
    )


def test_advice_shows_its_inputs(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """Asked for, the page tells the threads that the objective needs, and what that follows from."""
    for _ in range(5):
        make_job(queue="noop")
    with database.transaction() as connection:
        queue_settings.set_limits(connection, "noop", QueueLimits(slo_wait_seconds=2.0, slo_objective=0.9))
    assert 'id="needed"' not in dashboard.get(f"{PLACE}/noop").text
    said = text_of(dashboard.get(f"{PLACE}/noop?advice=yes").text)
    assert "Expected to keep it now" in said
    assert "Kept now" not in said
    assert "90 % of its jobs should start within 2 s." in said
    assert re.search(r"3 threads , so 1 worker of \d+; there are 0 threads now", said)
    assert "5 came in 5 min" in said
    assert "assumed, because nothing has ended or runs" in said


NAMES = [
    "a/b",
    "a//b/",
    "/",
    "with space",
    "€ + %2F ?#&",
    "<script>alert(1)</script>",
    "\N{PARTY POPPER}" * 20,
    "x" * 190,
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_name_has_a_page(
    dashboard: DashboardClient, make_job: JobFactory, standing: Callable[[str], Queue], name: str
) -> None:
    """The list leads to the page of every name, which pauses it; the name is text everywhere."""
    make_job(queue=name)
    page = dashboard.get(PLACE).text
    assert "<script>alert" not in page
    place = f"{PLACE}/{quote(name)}"
    assert f'href="{place}"' in page
    queue = dashboard.get(place)
    assert queue.status_code == 200
    assert "<script>alert" not in queue.text
    assert f'hx-get="{place}"' in queue.text
    source = re.search(r'data-source="(/dashboard/queue-chart.json[^"]*)"', queue.text)
    assert source
    assert dashboard.get(source[1].replace("&amp;", "&")).status_code == 200
    answer = dashboard.post(place, action="pause", reason=name)
    assert answer.headers["location"] == place
    assert standing(name).pause_reason == name
    for shown in (PLACE, place):
        assert "<script>alert" not in dashboard.get(shown).text


@pytest.mark.parametrize("name", ["nosuch", "quarantine", "%00", "a%FF"])
def test_an_unknown_queue_is_404(dashboard: DashboardClient, database: Database, name: str) -> None:
    """Nothing about a queue that is not there can be read or set, and asking does not make it."""
    assert dashboard.get(f"{PLACE}/{name}").status_code == 404
    for action in ("pause", "resume"):
        assert dashboard.post(f"{PLACE}/{name}", action=action).status_code == 404
    assert dashboard.post(f"{PLACE}/{name}", action="key", key="a").status_code == 404
    with database.autocommit() as connection:
        assert queue_store.list_all(connection) == []


def test_an_unknown_action_is_refused(dashboard: DashboardClient) -> None:
    """A form that says nothing known changes nothing."""
    assert dashboard.post(f"{PLACE}/noop", action="drop").status_code == 400
    assert dashboard.post(f"{PLACE}/noop").status_code == 400


def test_a_form_may_say_nonsense_about_what_it_showed(
    save: Callable[..., testing.Result], limits: Callable[[], QueueLimits]
) -> None:
    """What the form was shown with is from outside as well."""
    for shown in ("{", "[]", "null", '{"concurrency": [1]}', "\x00"):
        assert save(shown=shown, concurrency="3").status_code == 303
        assert limits().concurrency == 3


def test_a_read_only_dashboard_has_no_forms(
    settings: Settings, database: Database, runway: Runway, make_job: JobFactory
) -> None:
    """It shows everything and changes nothing."""
    make_job(queue="noop")
    app = create_app(
        settings.model_copy(update={"dashboard_read_only": True}),
        database=database,
        runway=runway,
        site=DASHBOARD,
    )
    dashboard = DashboardClient(testing.TestClient(app))
    for place in (PLACE, f"{PLACE}/noop"):
        page = dashboard.get(place).text
        assert "noop" in page
        assert 'method="post"' not in page
    assert dashboard.post(f"{PLACE}/noop", action="pause").status_code == 403


def test_the_live_parts_are_known_when_nothing_changed(
    dashboard: DashboardClient, make_job: JobFactory
) -> None:
    """A poll gets the part alone, and 304 for the part that it has."""
    make_job(queue="noop")
    for place in (PLACE, f"{PLACE}/noop"):
        part = dashboard.live(place)
        assert "<html" not in part.text
        assert "noop" in part.text
        assert dashboard.live(place, If_None_Match=part.headers["etag"]).status_code == 304


def test_without_queues_it_says_what_makes_one(
    dashboard: DashboardClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The empty page shows how a queue comes to be."""
    empty: set[str] = set()
    monkeypatch.setattr("goqueue.engine.queue_directory.QueueDirectory.declared", lambda _self: empty)
    page = dashboard.get(PLACE).text
    assert "No queues yet" in page
    assert "@goqueue.actor" in page


def test_counts_say_where_they_stopped(
    dashboard: DashboardClient, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count that stopped at its bound has a plus."""
    for module in ("goqueue.insight.overview_rows", "goqueue.dashboard.pages.queues"):
        monkeypatch.setattr(f"{module}.COUNTED_UP_TO", 2)
    for _ in range(2):
        make_job(queue="noop")
    assert row_of(dashboard.get(PLACE).text, "noop").cells["Ready"] == "2 +"

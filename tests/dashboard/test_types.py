"""The pages of the job types: their figures, their charts, their breakers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from falcon import testing

from goqueue.api.app import create_app
from goqueue.config.settings import Settings
from goqueue.dashboard.site import DASHBOARD
from goqueue.db.database import Database
from goqueue.engine.options.batch import Batch
from goqueue.engine.runway.runway import Runway
from goqueue.instance import default
from goqueue.limits import type_setting_rows as type_settings_store
from tests.support.dashboard.client import DashboardClient
from tests.support.dashboard.html import elements_of
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

PLACE = "/dashboard/types"
HOSTILE = "<script>alert(1)</script>' \" & \N{RIGHT-TO-LEFT OVERRIDE}\N{PILE OF POO}/%2F?#" + "w" * 150

#: Of these buckets, jobs of about 10 ms and of about 10 s.
QUICK, SLOW = 7, 27


@pytest.fixture(autouse=True)
def _empty_rollups(database: Database) -> Iterator[None]:
    yield
    with database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM rollups")


def text_of(result: testing.Result, status: int = 200) -> str:
    """What is written on a page, in one line."""
    assert result.status_code == status, result.text
    return elements_of(result.text).text


def count(
    database: Database,
    name: str,
    *,
    step_seconds: int = 10,
    age: timedelta = timedelta(minutes=2),
    runs: Sequence[int] = (),
    **columns: Any,
) -> None:
    """Write what ended of a type in a step so long ago."""
    at = int((datetime.now(UTC) - age).timestamp())
    values = {
        "scope": "type",
        "name": name,
        "step_seconds": step_seconds,
        "starts_at": datetime.fromtimestamp(at - at % step_seconds, tz=UTC),
        "completed": sum(runs),
        "runs": list(runs),
    } | columns
    names, places = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    with database.autocommit() as connection:
        connection.exec_driver_sql(f"INSERT INTO rollups ({names}) VALUES ({places})", values)


def runs(**by_bucket: int) -> list[int]:
    """Counts by bucket: b7=100 is bucket 7."""
    buckets = {int(name[1:]): value for name, value in by_bucket.items()}
    return [buckets.get(bucket, 0) for bucket in range(max(buckets) + 1)]


def set_breaker(client: DashboardClient) -> None:
    """Give the type a breaker, over REST."""
    answer = client.client.simulate_put("/types/noop", json={"concurrency": 3, "breaker": {"minimum": 5}})
    assert answer.status_code == 200, answer.text


def state(database: Database) -> str:
    """Where the breaker of the type stands."""
    with database.autocommit() as connection:
        (found,) = [one for one in type_settings_store.all_limited(connection) if one.name == "noop"]
    return found.limits.state.value


def test_the_page_tells_how_far_an_index_is(dashboard: DashboardClient, database: Database) -> None:
    """The indexes on the payloads of a type stand among its settings, and why one failed."""
    answer = dashboard.client.simulate_put("/types/noop", json={"indexed": ["customer_id", "note"]})
    assert answer.status_code == 200, answer.text
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE payload_indexes SET state = 'failed', error = 'no space left' WHERE path = 'note'"
        )
    told = text_of(dashboard.get(f"{PLACE}/noop"))
    assert re.search(r"payload\.customer_id ?: building", told)
    assert re.search(r"payload\.note ?: failed, ?no space left", told)


# The list


def test_declared_types_are_there_before_they_have_jobs(dashboard: DashboardClient) -> None:
    """A type that nobody has used stands in the list, with nothing but its queue."""
    told = text_of(dashboard.get(PLACE))
    assert "noop queue noop" in told
    assert "not declared here" not in told


def test_the_list_tells_the_last_hour(dashboard: DashboardClient, database: Database) -> None:
    """Completed, failed and retried jobs, the failure rate and the run times of the last hour."""
    minutes = timedelta(minutes=30)
    count(database, "noop", step_seconds=60, age=minutes, runs=runs(b7=90), failed=10, retried=4)
    count(database, "noop", step_seconds=60, age=timedelta(minutes=90), runs=runs(b27=1_000))
    page = elements_of(dashboard.get(PLACE).text)
    (row,) = (row for row in page.all("tr") if row.cells and "noop" in [link.text for link in row.all("a")])
    cells = {cell.attributes["data-name"]: cell.text for cell in row.all("td", class_="number")}
    assert cells == {
        "Completed": "90",
        "Failed": "10",
        "Retried": "4",
        "Failure rate": "10 %",
        "Run p50": "10 ms",
        "Run p95": "11 ms",
    }
    assert "at most 100" in row.text


def test_types_of_elsewhere_are_there_as_well(dashboard: DashboardClient, database: Database) -> None:
    """A type that this process does not declare is known by what was counted, however long ago."""
    count(database, "elsewhere", step_seconds=3600, age=timedelta(days=9), runs=runs(b7=1))
    told = text_of(dashboard.get(PLACE))
    assert "elsewhere not declared here" in told
    assert "No module that the API imports declares it" in text_of(dashboard.get(f"{PLACE}/elsewhere"))


def test_the_live_part_costs_nothing_while_nothing_changes(
    dashboard: DashboardClient, database: Database
) -> None:
    """A poll that knows the answer gets a 304, of both pages."""
    count(database, "noop", runs=runs(b7=9))
    for path in (PLACE, f"{PLACE}/noop", f"{PLACE}/noop?range=7d"):
        answer = dashboard.live(path)
        assert "<html" not in answer.text
        assert dashboard.live(path, If_None_Match=answer.headers["etag"]).status_code == 304


# One type


def test_two_populations_are_seen(dashboard: DashboardClient, database: Database) -> None:
    """The histogram has a bar for each population with its bounds, and the figures as a table."""
    both = runs(b7=100, b27=40)
    count(database, "noop", runs=both, run_seconds=401.0, failed=35, retried=7)
    text = dashboard.get(f"{PLACE}/noop").text
    bars = re.findall(r'<rect x="([\d.]+)%".*?<title>([^<]*)</title>', text)
    assert [title for _, title in bars] == ["8 ms to 11 ms: 100 (71.4 %)", "8.2 s to 12 s: 40 (28.6 %)"]
    assert float(bars[1][0]) - float(bars[0][0]) > 50
    assert re.findall(r'<g class="mark (\w+)"', text) == ["p50", "p95", "average"]
    page = elements_of(text)
    assert "8 ms to 11 ms" in page.one("details", id="histogram-figures").text
    figures = page.figures
    assert figures["Completed"] == "140"
    assert figures["Failure rate"] == "20 %"
    assert figures["Retried"] == "7"
    assert figures["Run average"] == "2.9 s"


def test_the_scatter_has_a_bubble_for_each_while_and_bucket(
    dashboard: DashboardClient, database: Database
) -> None:
    """Both populations are bubbles at their time, and a later step is further to the right."""
    count(database, "noop", runs=runs(b7=100, b27=1), age=timedelta(minutes=50))
    count(database, "noop", runs=runs(b7=25), age=timedelta(minutes=5))
    bubbles = re.findall(
        r'<circle cx="([\d.]+)%" cy="([\d.]+)" r="([\d.]+)"', dashboard.get(f"{PLACE}/noop").text
    )
    (early, quick, large), (_, slow, _), (late, same, small) = [tuple(map(float, one)) for one in bubbles]
    assert early < 25
    assert late > 85
    assert slow < quick == same
    assert large == 2 * small


@pytest.mark.parametrize(
    ("name", "step_seconds"), [("15m", 10), ("1h", 10), ("6h", 60), ("24h", 60), ("7d", 3600), ("30d", 3600)]
)
def test_every_range_reads_its_steps(
    dashboard: DashboardClient, database: Database, name: str, step_seconds: int
) -> None:
    """Each tab shows what was counted in steps of its length, and is marked as the current one."""
    age = timedelta(minutes=5) if step_seconds < 3600 else timedelta(hours=5)
    count(database, "noop", step_seconds=step_seconds, age=age, runs=runs(b7=step_seconds))
    text = dashboard.get(f"{PLACE}/noop?range={name}").text
    assert f'?range={name}" aria-current="page"' in text
    assert f"{step_seconds:,}" in [value.text for value in elements_of(text).all("dd")]


def test_nothing_ended_says_where_to_look(dashboard: DashboardClient) -> None:
    """A range in which nothing ended says so instead of drawing nothing."""
    told = text_of(dashboard.get(f"{PLACE}/noop?range=6h"))
    assert "Nothing ended in the last 6 hours" in told
    assert "Look at 30 days" in told


def test_settings_errors_and_schema_are_there(dashboard: DashboardClient, make_job: JobFactory) -> None:
    """The page has the settings of the type, its groups of errors, links to its jobs, its folded schema."""
    set_breaker(dashboard)
    make_job("failed", fingerprint="0123456789abcdef", error="boom")
    make_job("failed", type="other", error="not here")
    text = dashboard.get(f"{PLACE}/noop").text
    told = text_of(dashboard.get(f"{PLACE}/noop"))
    assert "3 at once" in told
    assert "when 50 % of at least 5 attempts fail in 1 min" in told
    assert 'href="/dashboard/failures/0123456789abcdef"' in text
    assert "not here" not in text
    assert 'href="/dashboard/jobs?type=noop&amp;status=failed"' in text
    assert '<details id="schema-fold"><summary>JSON schema</summary>' in text
    assert "additionalProperties" in told or "properties" in told


def test_a_type_that_nobody_knows_is_a_404(dashboard: DashboardClient) -> None:
    """Its page says so, and so does an action; also of a name that none can have."""
    assert dashboard.get(f"{PLACE}/%00").status_code == 404
    assert "there is no job type" in text_of(dashboard.get(f"{PLACE}/gone"), 404)
    assert dashboard.post(f"{PLACE}/gone", action="open").status_code == 404


def test_the_breaker_is_opened_and_closed(dashboard: DashboardClient, database: Database) -> None:
    """Each button moves it, and both pages tell where it stands at once."""
    set_breaker(dashboard)
    for action, wanted, button in (("open", "open", "Close breaker"), ("close", "closed", "Open breaker")):
        result = dashboard.post(f"{PLACE}/noop", action=action)
        assert result.headers["location"] == f"{PLACE}/noop"
        assert state(database) == wanted
        for path in (f"{PLACE}/noop", PLACE):
            told = text_of(dashboard.get(path))
            assert f" {wanted} " in told
            assert button in told
    assert dashboard.post(f"{PLACE}/noop", action="explode").status_code == 400


def test_a_type_without_a_breaker_has_no_button(dashboard: DashboardClient) -> None:
    """What cannot be moved is not offered, and a move that is sent all the same is refused."""
    buttons = elements_of(dashboard.get(f"{PLACE}/noop").text).all("button")
    assert not any("breaker" in button.text for button in buttons)
    assert dashboard.post(f"{PLACE}/noop", action="open").status_code == 409


def test_a_read_only_dashboard_has_no_forms(settings: Settings, database: Database, runway: Runway) -> None:
    """It shows types and their breakers, and offers no change."""
    read_only = settings.model_copy(update={"dashboard_read_only": True})
    app = create_app(read_only, database=database, runway=runway, site=DASHBOARD)
    reader = DashboardClient(testing.TestClient(app))
    set_breaker(reader)
    for path in (PLACE, f"{PLACE}/noop"):
        text = reader.get(path).text
        assert '<form method="post"' not in text
        assert "closed" in elements_of(text).spans


def test_hostile_text_is_text(dashboard: DashboardClient, database: Database, make_job: JobFactory) -> None:
    """A name from elsewhere is shown as it is, and its page can be reached, whatever it holds."""
    count(database, HOSTILE, runs=runs(b7=3))
    make_job("failed", type=HOSTILE, error=HOSTILE)
    listed = dashboard.get(PLACE)
    assert f'href="{PLACE}/{quote(HOSTILE, safe="")}"' in listed.text
    one = dashboard.get(f"{PLACE}/{quote(HOSTILE, safe='')}")
    assert one.status_code == 200
    for result in (listed, one):
        assert "<script>alert" not in result.text
        assert "&lt;script&gt;alert(1)" in result.text


def test_how_a_type_is_batched_is_there(dashboard: DashboardClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """On its page, and in the document of the API."""
    types = default().broker.job_types
    batch = Batch(size=1_000, wait_ms=50, key="number", bytes=4_096)
    monkeypatch.setitem(types, "noop", replace(types["noop"], batch=batch))
    told = text_of(dashboard.get(f"{PLACE}/noop"))
    assert "of up to 1,000 jobs, which wait 50 ms for each other, by" in told
    assert "with at most 4,096 bytes" in told
    document = dashboard.client.simulate_get("/types/noop").json
    assert document["batch"] == {"size": 1_000, "wait_ms": 50, "key": "number", "bytes": 4_096}

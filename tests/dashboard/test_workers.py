"""The page of the worker processes, and its buttons."""

from __future__ import annotations

import pytest

from goqueue.db.database import Database
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.engine.workers.remote_worker_rows import RemoteIdentity, register_remote
from goqueue.engine.workers.worker_rows import WorkerCommand
from goqueue.insight import worker_listing_rows as worker_lists
from goqueue.jobs import ShutdownReason
from tests.support.dashboard.client import DashboardClient
from tests.support.dashboard.html import Element, elements_of
from tests.support.factories import JobFactory

PLACE = "/dashboard/workers"
LEASE = 15.0


def row_of(html: str, worker_id: int) -> Element:
    """The row of a worker."""
    return elements_of(html).one("tr", id=f"worker-{worker_id}")


def test_without_workers_it_says_how_to_start_some(dashboard: DashboardClient) -> None:
    """The empty page has the command."""
    page = dashboard.get(PLACE)
    assert page.status_code == 200
    assert "No worker is running" in page.text
    assert "goqueue worker --processes 2" in page.text


def test_processes_are_shown_by_host_with_what_they_run(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """A process has its pid, queues, memory and state, and each busy thread a link to its job."""
    worker = make_job.worker(hostname="one", pid=4711, threads=2, queues=["email", "quarantine"])
    idle = make_job.worker(hostname="two", pid=4712, threads=3)
    jobs = [make_job("running", worker_id=worker, type=f"type_{number}") for number in range(3)]
    with database.autocommit() as connection:
        worker_store.renew(connection, worker, busy=2, memory_bytes=64 << 20)
    page = dashboard.get(PLACE).text
    row = row_of(page, worker)
    said = row.text
    assert all(word in said for word in ("4711", "live", "2 of 2 busy", "email", "64 MiB", "1 claimed ahead"))
    assert [f"/dashboard/jobs/{job.id}" in row.links for job in jobs] == [True, True, False]
    assert "type_0" in said
    assert any("data-running" in one.attributes for one in row.all())
    assert "0 of 3 busy" in row_of(page, idle).text
    assert "3 free" in row_of(page, idle).text
    assert page.index(">one<") < page.index(">two<")


def test_async_slots_are_shown_beside_threads(dashboard: DashboardClient, make_job: JobFactory) -> None:
    """Async jobs keep no thread busy, and are shown with those that do."""
    known = KnownTypes({"noop": "1", "sleep": "1"}, slots=2, async_types=["sleep"], async_slots=5)
    worker = make_job.worker(threads=2, known=known)
    make_job("running", worker_id=worker)
    jobs = [make_job("running", worker_id=worker, type="sleep") for _ in range(3)]
    make_job("running", worker_id=worker, type="sleep", requires=[], slots=2)
    page = dashboard.get(PLACE).text
    row = row_of(page, worker)
    said = row.text
    assert all(word in said for word in ("1 of 2 busy", "1 free", "5 of 5 async slots"))
    assert "claimed ahead" not in said
    assert all(f"/dashboard/jobs/{job.id}" in row.links for job in jobs)
    assert "Busy async slots" in page


@pytest.mark.parametrize(
    ("command", "state", "buttons"),
    [
        pytest.param(None, "live", {"quiet", "stop"}, id="live"),
        pytest.param(WorkerCommand.QUIET, "quiet", {"resume", "stop"}, id="quiet"),
        pytest.param(WorkerCommand.STOP, "stopping", set(), id="stopping"),
    ],
)
def test_each_state_has_its_buttons(
    dashboard: DashboardClient,
    make_job: JobFactory,
    database: Database,
    command: WorkerCommand | None,
    state: str,
    buttons: set[str],
) -> None:
    """What can be told now can be told here, each after a question."""
    worker = make_job.worker()
    with database.autocommit() as connection:
        worker_store.tell(connection, worker, command, lease_seconds=LEASE)
    row = row_of(dashboard.get(PLACE).text, worker)
    assert state in row.spans
    assert {
        form.attributes["action"].removeprefix(f"{PLACE}/{worker}/")
        for form in row.all("form")
        if form.attributes["data-confirm"]
    } == buttons


@pytest.mark.parametrize(("action", "command"), [("quiet", "quiet"), ("stop", "stop"), ("resume", None)])
def test_a_button_tells_the_worker(
    dashboard: DashboardClient, make_job: JobFactory, database: Database, action: str, command: str | None
) -> None:
    """It notes the command, goes back to the page, and says so there once."""
    worker = make_job.worker(pid=99)
    answer = dashboard.post(f"{PLACE}/{worker}/{action}")
    assert (answer.status_code, answer.headers["location"]) == (303, PLACE)
    with database.autocommit() as connection:
        (found,) = worker_store.list_all(connection, lease_seconds=LEASE)
    assert found.command == command
    assert "Process 99 on test" in dashboard.get(PLACE).text
    assert "Process 99 on test" not in dashboard.get(PLACE).text


def test_who_is_gone_is_told_nothing(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """A button of a page that is behind answers with a page that says so."""
    worker = make_job.worker()
    with database.autocommit() as connection:
        worker_store.stop(connection, worker)
    answer = dashboard.post(f"{PLACE}/{worker}/quiet")
    assert answer.status_code == 409
    assert f"worker {worker} is gone" in answer.text
    assert dashboard.post(f"{PLACE}/{worker + 1}/quiet").status_code == 404


def test_silent_and_ended_ones_are_told_apart(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """A process that fell silent is among the others without buttons; one that ended is below them."""
    silent, ended = make_job.worker(silent_seconds=LEASE + 1), make_job.worker()
    with database.autocommit() as connection:
        worker_store.tell(connection, ended, WorkerCommand.STOP, lease_seconds=LEASE)
        worker_store.stop(connection, ended)
    page = dashboard.get(PLACE).text
    assert "silent" in row_of(page, silent).spans
    assert row_of(page, silent).all("form") == []
    assert "stopped here" in row_of(page, ended).text
    assert (
        page.index(f'id="worker-{silent}"') < page.index("Ended lately") < page.index(f'id="worker-{ended}"')
    )


def test_the_reason_of_an_end_is_told(
    dashboard: DashboardClient, make_job: JobFactory, database: Database
) -> None:
    """From the heartbeat after it began to drain, when it is stopping, until long after it has ended."""
    draining, replaced = make_job.worker(), make_job.worker()
    with database.autocommit() as connection:
        worker_store.renew(connection, draining, busy=1, shutdown_reason=ShutdownReason.SIGNAL)
        worker_store.stop(connection, replaced, reason=ShutdownReason.MAX_MEMORY)
    page = dashboard.get(PLACE).text
    assert "stopping" in row_of(page, draining).spans
    assert "told to stop by a signal" in page
    assert "replaced: it had reached its memory limit" in row_of(page, replaced).text


def test_the_live_part_is_known_when_nothing_changed(
    dashboard: DashboardClient, make_job: JobFactory
) -> None:
    """A poll gets the part alone, and 304 for the part that it has."""
    worker = make_job.worker()
    part = dashboard.live(PLACE)
    assert "<html" not in part.text
    assert f'id="worker-{worker}"' in part.text
    assert dashboard.live(PLACE, If_None_Match=part.headers["etag"]).status_code == 304


def test_it_is_bounded(
    dashboard: DashboardClient, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many processes and so many jobs of each are shown, and it says that there are more."""
    monkeypatch.setattr(worker_lists, "WORKERS_SHOWN", 3)
    monkeypatch.setattr("goqueue.dashboard.pages.workers.WORKERS_SHOWN", 3)
    workers = [make_job.worker(threads=20) for _ in range(3)] + [make_job.worker_id]
    for _ in range(worker_lists.JOBS_SHOWN + 2):
        make_job("running", worker_id=workers[2])
    page = dashboard.get(PLACE).text
    assert [f'id="worker-{worker}"' in page for worker in workers] == [False, True, True, True]
    assert "there are more" in page
    row = row_of(page, workers[2])
    assert sum("/dashboard/jobs/" in link for link in row.links) == worker_lists.JOBS_SHOWN
    assert "and 2 more" in row.text


def test_names_are_text(dashboard: DashboardClient, make_job: JobFactory) -> None:
    """What a host, a queue or a type is called is shown, and never is markup."""
    hostile = "<script>alert(1)</script>"
    worker = make_job.worker(hostname=hostile, queues=[hostile])
    make_job("running", worker_id=worker, type=hostile)
    page = dashboard.get(PLACE).text
    assert hostile not in page
    assert page.count("&lt;script&gt;alert(1)") >= 3


def test_a_remote_worker_is_shown_by_its_name(dashboard: DashboardClient, database: Database) -> None:
    """With its language and from where it calls, among the workers of its client."""
    identity = RemoteIdentity("shop", "mailer-1", "Go", "192.0.2.7")
    with database.autocommit() as connection:
        register_remote(connection, identity, ["mail"], KnownTypes({"send": "x"}, slots=4))
    text = dashboard.get(PLACE).text
    for shown in ("Remote workers of shop", "mailer-1", "Go · 192.0.2.7", "Quiet remote worker mailer-1"):
        assert shown in text

"""The hub of events: each listener hears what it wants, from where it stands, once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

import goqueue as goqueue_package
from goqueue.db.database import Database
from goqueue.errors import EventCursorError, InvalidJobError, JobNotFoundError
from goqueue.events import hub as hubs
from goqueue.events.ended_jobs import EndedJobs
from goqueue.events.event_filter import EventFilter, kinds_of
from goqueue.events.hub import EventHub, Listener
from goqueue.instance import GoQueue, as_default
from goqueue.jobs import JobStatus
from tests.support.factories import JobFactory, set_status
from tests.support.shared_database import emptied_database, module_settings
from tests.support.waiting import wait_until

settings = module_settings
database = emptied_database


class Heard:
    """A sink that remembers what it was sent."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.waiting_bytes = 0
        self.is_over = False

    def send(self, data: bytes) -> None:
        """Remember a piece."""
        self.pieces.append(data)

    def end(self) -> None:
        """Remember the end."""
        self.is_over = True

    @property
    def lines(self) -> list[str]:
        """What it was sent, as the hub's writers wrote it."""
        return b"".join(self.pieces).decode().splitlines()

    @property
    def jobs(self) -> list[int]:
        """The jobs of the events."""
        return [int(line.split()[1]) for line in self.lines if line != "idle"]

    @property
    def ids(self) -> list[str]:
        """The places of the events."""
        return [line.split()[0] for line in self.lines if line != "idle"]


def _has_heard(heard: Heard, jobs: list[int]) -> bool:
    return heard.jobs == jobs


@pytest.fixture
def make_hub(database: Database) -> Iterator[Callable[[], EventHub]]:
    """Makes hubs, as several processes have them."""
    hubs_made: list[EventHub] = []

    def make_hub() -> EventHub:
        hub = EventHub(
            database,
            encode=lambda event: f"{event.id} {event.job_id}\n".encode(),
            idle=lambda _cursor: b"idle\n",
            is_good=lambda key: key != "bad",
        )
        hubs_made.append(hub)
        return hub

    yield make_hub
    for hub in hubs_made:
        hub.end_all()


def listen(
    hub: EventHub, wanted: EventFilter | None = None, place: str | None = None, key: str = "k"
) -> Heard:
    """Let one listen."""
    heard = Heard()
    hub.add(Listener(wanted or EventFilter(), hub.begin(place), heard, key))
    return heard


def test_who_comes_late_and_who_is_up_to_date_hear_the_same(
    make_hub: Callable[[], EventHub], make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From each place that a client may have seen, in another process, the rest comes once, page by page."""
    monkeypatch.setattr(hubs, "PAGE", 3)
    first, second = make_hub(), make_hub()
    heard = listen(first)
    jobs = [make_job().id for _ in range(8)]
    wait_until(lambda: heard.jobs == jobs)
    late = {place: listen(second, place=place) for place in heard.ids}
    jobs += [make_job().id for _ in range(4)]
    wait_until(lambda: heard.jobs == jobs)
    for place, other in late.items():
        rest = jobs[heard.ids.index(place) + 1 :]
        wait_until(partial(_has_heard, other, rest))
    assert len(second) == len(late)


def test_one_filter_is_asked_once_for_all_who_have_it(
    make_hub: Callable[[], EventHub], make_job: JobFactory
) -> None:
    """Those who want the same are sent the same bytes; those who want one job are not asked about others."""
    hub = make_hub()
    job = make_job()
    of_job = [listen(hub, EventFilter(job_id=job.id)) for _ in range(3)]
    of_queue = [listen(hub, EventFilter(queue="mail")) for _ in range(3)]
    other = make_job(queue="mail")
    set_status(make_job.database, job.id, JobStatus.COMPLETED)
    wait_until(lambda: all(heard.jobs == [job.id] for heard in of_job))
    wait_until(lambda: all(heard.jobs == [other.id] for heard in of_queue))


def test_who_takes_nothing_is_given_no_more_of_the_past(
    make_hub: Callable[[], EventHub], make_job: JobFactory
) -> None:
    """A client that comes back after hours and reads slowly holds no memory for all of them."""
    hub = make_hub()
    place = hub.begin(None).text
    job = make_job()
    slow, quick = Heard(), Heard()
    slow.waiting_bytes = 10**9
    for heard in (slow, quick):
        hub.add(Listener(EventFilter(), hub.begin(place), heard))
    wait_until(lambda: quick.jobs == [job.id])
    assert slow.jobs == []
    slow.waiting_bytes = 0
    wait_until(lambda: slow.jobs == [job.id])


def test_who_hears_nothing_is_told_where_it_is(
    make_hub: Callable[[], EventHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line now and then keeps proxies from cutting a silent stream."""
    monkeypatch.setattr(hubs, "SILENCE_SECONDS", 0.05)
    heard = listen(make_hub(), EventFilter(queue="nothing"))
    wait_until(lambda: heard.lines[:2] == ["idle", "idle"])


def test_who_listens_with_a_key_that_is_bad_is_ended(
    make_hub: Callable[[], EventHub], make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others go on."""
    monkeypatch.setattr(hubs, "ASK_SECONDS", 0.0)
    hub = make_hub()
    good, bad = listen(hub), listen(hub, key="bad")
    wait_until(lambda: bad.is_over)
    job = make_job()
    wait_until(lambda: good.jobs == [job.id])
    assert not good.is_over
    assert len(hub) == 1


def test_the_hub_looks_only_while_somebody_listens(
    make_hub: Callable[[], EventHub], make_job: JobFactory
) -> None:
    """Its thread ends with the last listener, and comes back with the next."""
    hub = make_hub()
    for _ in range(2):
        heard = Heard()
        stop = hub.add(Listener(EventFilter(), hub.begin(None), heard))
        job = make_job()
        wait_until(partial(_has_heard, heard, [job.id]))
        stop()
        stop()
        wait_until(lambda: not hub._looks)  # noqa: SLF001  (nobody else has to know)
        assert len(hub) == 0


def test_kinds_are_chosen_by_their_names_and_their_subjects() -> None:
    """`job` and `job.*` are all of jobs, and what is no kind is refused by name."""
    assert kinds_of([]) is None
    assert kinds_of(["queue.paused"]) == frozenset({"queue.paused"})
    queues = {"queue.paused", "queue.resumed", "queue.changed"}
    breakers = {"breaker.opened", "breaker.half_opened", "breaker.closed"}
    assert kinds_of(["queue.*", "breaker"]) == frozenset(queues | breakers)
    with pytest.raises(InvalidJobError) as refusal:
        kinds_of(["job.*", "job.flown"])
    assert list(refusal.value.fields) == ["event"]


def test_a_job_is_waited_for(database: Database, make_job: JobFactory) -> None:
    """Whoever waits has it when it has ended, however it was ended, and as it is when the time is over."""
    goqueue = GoQueue(database=database)
    job, other = make_job(), make_job()
    assert goqueue.wait(job.id, timeout_seconds=0.01).status == "queued"
    ended: list[JobStatus] = []
    waiting = [
        threading.Thread(target=lambda: ended.append(goqueue.wait(job.id, timeout_seconds=30).status))
        for _ in range(3)
    ]
    for thread in waiting:
        thread.start()
    set_status(database, other.id, JobStatus.COMPLETED)
    set_status(database, job.id, JobStatus.FAILED)
    for thread in waiting:
        thread.join(30)
    assert ended == [JobStatus.FAILED] * 3
    assert goqueue.wait(other.id).status is JobStatus.COMPLETED
    with pytest.raises(JobNotFoundError):
        goqueue.wait(10**9)
    goqueue.broker.close()


def test_a_job_that_goes_while_it_is_waited_for_wakes_as_well(
    database: Database, make_job: JobFactory
) -> None:
    """One that somebody deleted is not waited for until the end of time."""
    job = make_job()
    woken = threading.Event()
    stop = EndedJobs(database).watch(job.id, woken.set)
    with database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")
    assert woken.wait(30)
    stop()


def test_a_program_iterates_over_events(database: Database, make_job: JobFactory) -> None:
    """The iterator begins with the call, waits, chooses, and goes on from a place."""
    goqueue = GoQueue(database=database)
    with as_default(goqueue):
        events = goqueue_package.listen("job.*", tag="blue")
        job, _ = make_job(tags=["blue"]), make_job()
        event = next(events)
        assert (event.kind, event.job_id) == ("job.created", job.id)
        set_status(database, job.id, JobStatus.COMPLETED)
        assert next(events).kind == "job.completed"
        events.close()
        rest = goqueue_package.listen(job_id=job.id, after=event.id, seconds=0.0)
        assert list(rest) == []
        again = goqueue_package.listen(job_id=job.id, after=event.id, seconds=30)
        assert next(again).kind == "job.completed"
        again.close()
        with pytest.raises(InvalidJobError):
            goqueue_package.listen("job.flown")
        with pytest.raises(EventCursorError):
            goqueue_package.listen(after="here")
    with database.autocommit() as connection:
        left = "SELECT count(*) FROM event_subscriptions WHERE lease_until > now()"
        assert connection.exec_driver_sql(left).scalar_one() == 0
    goqueue.broker.close()

"""The feed of events: each once, none left out, whatever is committed in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import settings as of_hypothesis
from hypothesis import strategies as st

from goqueue.config.settings import Settings
from goqueue.db import bounded_reads
from goqueue.db.database import Connection, Database
from goqueue.db.tables.events import SLOTS
from goqueue.errors import EventCursorError, EventsGoneError
from goqueue.events import event_rows, subscription_rows
from goqueue.events.cursor import Cursor, Snapshot
from goqueue.events.feed import EventBatch, EventFeed
from goqueue.events.subscriptions import Subscriptions
from goqueue.scheduler.cleaner import Cleaner
from tests.support.database.plans import rows_read
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

WRITE = """
    INSERT INTO events (slot, xid, kind, job_id)
    SELECT slot, pg_current_xact_id()::text::bigint, 'job.created', %(n)s FROM event_capture
"""


@pytest.fixture
def feed(database: Database) -> EventFeed:
    """The feed of the database."""
    return EventFeed(database)


class Transactions:
    """Transactions that are open beside each other, each on a connection of its own."""

    def __init__(self, database: Database, stack: ExitStack, count: int) -> None:
        self._connections = [stack.enter_context(database.connection()) for _ in range(count)]
        for connection in self._connections:
            connection.execution_options(isolation_level="READ COMMITTED")
        self._written: list[list[int]] = [[] for _ in range(count)]
        self.committed: list[int] = []
        self.number = 0

    def write(self, index: int) -> None:
        """Write one more event."""
        self.number += 1
        self._connections[index].exec_driver_sql(WRITE, {"n": self.number})
        self._written[index].append(self.number)

    def end(self, index: int, *, commits: bool) -> None:
        """Commit what one has written, or take it back."""
        connection, written = self._connections[index], self._written[index]
        if commits:
            connection.commit()
            self.committed += written
        else:
            connection.rollback()
        written.clear()

    def end_all(self) -> None:
        """Commit what all have written."""
        for index in range(len(self._connections)):
            self.end(index, commits=True)


def jobs_behind(feed: EventFeed, cursor: Cursor, limit: int = 1000) -> list[int]:
    """The jobs of all events behind a cursor, in batches of a size."""
    found: list[int] = []
    while True:
        batch = feed.read(cursor, limit)
        found += [event.job_id or 0 for event in batch.events]
        cursor = Cursor.from_text(batch.cursor.text)
        if batch.is_last:
            return found


STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "write", "commit", "rollback", "read"]), st.integers(0, 3)),
    max_size=40,
)


@given(steps=STEPS, limit=st.integers(1, 4), chosen=st.integers(0, 10**6))
@of_hypothesis(max_examples=60)
def test_each_event_comes_once_in_any_interleaving(
    property_database: Database, steps: Sequence[tuple[str, int]], limit: int, chosen: int
) -> None:
    """A reader that looks at any moments gets each committed event once, and so does one that resumes."""
    feed = EventFeed(property_database)
    with ExitStack() as stack:
        transactions = Transactions(property_database, stack, 4)
        cursor = feed.now()
        read: list[tuple[int, str]] = []
        for what, index in steps:
            if what == "write":
                transactions.write(index)
            elif what == "read":
                batch = feed.read(cursor, limit)
                read += [(event.job_id or 0, event.id) for event in batch.events]
                cursor = batch.cursor
            else:
                transactions.end(index, commits=what == "commit")
        transactions.end_all()
        rest = jobs_behind(feed, cursor, limit)
    jobs = [job_id for job_id, _ in read] + rest
    assert sorted(jobs) == sorted(transactions.committed)
    if read:
        # Whoever stopped behind any event goes on with all that came behind it, and nothing else.
        place = chosen % len(read)
        resumed = jobs_behind(feed, Cursor.from_text(read[place][1]), limit)
        assert sorted(resumed) == sorted(jobs[place + 1 :])


@pytest.fixture(scope="module")
def property_database(settings: Settings) -> Iterator[Database]:
    """Connections for all examples."""
    own = Database(settings)
    yield own
    own.close()


def test_an_open_transaction_delays_its_own_events_alone(database: Database, feed: EventFeed) -> None:
    """What is committed after it is told before it, and what it wrote is told once it is committed."""
    cursor = feed.now()
    with ExitStack() as stack:
        transactions = Transactions(database, stack, 2)
        transactions.write(0)
        transactions.write(1)
        transactions.end(1, commits=True)
        batch = feed.read(cursor)
        assert [event.job_id for event in batch.events] == [2]
        assert feed.read(batch.cursor).events == []
        transactions.end(0, commits=True)
        assert [event.job_id for event in feed.read(batch.cursor).events] == [1]


def test_a_reader_until_a_moment_goes_no_further(database: Database, feed: EventFeed) -> None:
    """Two readers of one batch end at the same place, whatever is written meanwhile."""
    cursor = feed.now()
    with ExitStack() as stack:
        transactions = Transactions(database, stack, 1)
        for _ in range(3):
            transactions.write(0)
        transactions.end_all()
        end = feed.now().seen
        transactions.write(0)
        transactions.end_all()
    first = feed.read(cursor, 2, until=end)
    second = feed.read(first.cursor, 2, until=end)
    assert [event.job_id for event in first.events + second.events] == [1, 2, 3]
    assert (first.is_last, second.is_last) == (False, True)
    assert second.cursor == Cursor(end)


PAST = """
    INSERT INTO events (slot, xid, kind, job_id)
    SELECT slot, pg_current_xact_id()::text::bigint, 'job.created', n
    FROM event_capture CROSS JOIN generate_series(1, 5000) AS n
"""


def rows_of_events(connection: Connection) -> int:
    """The rows of events that the session has read of late."""
    return sum(rows_read(connection, f"events_{slot}") for slot in range(SLOTS))


def test_a_reader_looks_at_what_is_new_to_it_alone(database: Database, feed: EventFeed) -> None:
    """Thousands of events before its place, and behind the end of its batch, cost it nothing."""

    def read(cursor: Cursor, limit: int = 1000, until: Snapshot | None = None) -> tuple[EventBatch, int]:
        asked = cursor if until is None or cursor.until else Cursor(cursor.seen, until)
        with database.transaction() as connection:
            before = rows_of_events(connection)
            event_rows.page(connection, asked, limit=limit)
            rows = rows_of_events(connection) - before
        return feed.read(cursor, limit, until=until), rows

    def write(statement: str) -> None:
        with database.autocommit() as connection:
            connection.exec_driver_sql(statement)

    write(PAST)
    start = feed.now()
    with ExitStack() as stack:
        transactions = Transactions(database, stack, 1)
        for _ in range(3):
            transactions.write(0)
        transactions.end_all()
    end = feed.now().seen
    batch, rows = read(start, 2)
    assert rows <= 3
    resumed = Cursor.from_text(batch.events[0].id)
    write(PAST)
    rest, rows = read(resumed)
    assert [event.job_id for event in rest.events] == [2, 3]
    assert rows <= 3
    joined, rows = read(start, until=end)
    assert [event.job_id for event in joined.events] == [1, 2, 3]
    assert rows <= 3


def test_a_reader_with_far_to_go_pages_by_ids(
    database: Database, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sorts what lies before it once, and not again for each page."""
    monkeypatch.setattr(event_rows, "FEW_TRANSACTIONS", 0)
    start = feed.now()
    with ExitStack() as stack:
        transactions = Transactions(database, stack, 2)
        for number in range(20):
            transactions.write(number % 2)
            transactions.end(number % 2, commits=number % 5 != 0)
        transactions.end_all()
        assert jobs_behind(feed, start, 3) == transactions.committed
        with database.autocommit() as connection:
            connection.exec_driver_sql(PAST)
        batch = feed.read(start, 100)
        with database.transaction() as connection:
            bounded_reads.along_indexes(connection)
            before = rows_of_events(connection)
            event_rows.page(connection, batch.cursor, limit=100)
            rows = rows_of_events(connection) - before
        assert 100 <= rows <= 200


@pytest.mark.parametrize(
    "text",
    ["", "x", "1", "1.2~", "1.2~3.4", "1.2~3.4~", "-1.2", "1.2 ", "zzzzzzzzzzzzz.1", "1.1" * 9000, "1.2\n"],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    """A Last-Event-ID comes from anybody."""
    with pytest.raises(EventCursorError):
        Cursor.from_text(text)


@given(
    xmin=st.integers(1, 2**50),
    distances=st.lists(st.integers(0, 2**20), max_size=6),
    until=st.integers(0, 2**20),
    after_id=st.integers(0, 2**50),
)
def test_a_cursor_is_read_as_it_was_written(
    xmin: int, distances: list[int], until: int, after_id: int
) -> None:
    """Its text has all of it."""
    seen = Snapshot(xmin, xmin + 2**21, tuple(sorted({xmin + one for one in distances})))
    for cursor in (Cursor(seen), Cursor(seen, Snapshot(xmin + until, xmin + until), after_id)):
        assert Cursor.from_text(cursor.text) == cursor


def test_a_cursor_of_the_future_is_gone(feed: EventFeed) -> None:
    """After a server was put back to an older state nobody can say what lies behind a cursor."""
    seen = feed.now().seen
    with pytest.raises(EventsGoneError):
        feed.read(Cursor(Snapshot(seen.xmin, seen.xmax + 1000)))


def test_what_was_not_written_down_is_told_as_gone(database: Database, feed: EventFeed) -> None:
    """Between the end of the last subscription and the next one there may have been changes."""
    Subscriptions(database).keep("test", 60)
    before = feed.now()
    feed.read(before)
    with database.transaction() as connection:
        assert subscription_rows.stop_writing(connection, after_seconds=-100)
    Subscriptions(database).keep("test", 60)
    with pytest.raises(EventsGoneError):
        feed.read(before)
    assert feed.read(feed.now()).events == []


def grow_old(database: Database, seconds: float) -> None:
    """Set the beginning of the present slot back."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE event_capture SET slot_since = slot_since - make_interval(secs => %(s)s)", {"s": seconds}
        )


def test_events_are_kept_for_the_retention_and_their_slots_emptied_then(
    settings: Settings, database: Database, feed: EventFeed
) -> None:
    """The cleaner goes round the ring: a quarter of the retention a slot, and no row is deleted."""
    cleaner = Cleaner(settings.model_copy(update={"event_retention_seconds": 400.0}), database, bool)
    start = feed.now()
    with ExitStack() as stack:
        transactions = Transactions(database, stack, 1)
        turns = 0
        for _ in range(4):
            transactions.write(0)
            transactions.end_all()
            grow_old(database, 101)
            turns += cleaner.run_once()["event_slots"]
            assert cleaner.run_once()["event_slots"] == 0
        # The first of them is 404 seconds old now.
        assert turns == 4
        assert len(jobs_behind(feed, start)) == 4
        fresh = feed.now()
        for _ in range(2):
            grow_old(database, 101)
            cleaner.run_once()
    with pytest.raises(EventsGoneError):
        feed.read(start)
    assert feed.read(fresh).events == []


def test_a_transaction_that_outlives_the_retention_spoils_no_cursor(
    settings: Settings, database: Database, feed: EventFeed
) -> None:
    """Its own events are told when it is committed; who reads meanwhile is not told that some are gone."""
    cleaner = Cleaner(settings.model_copy(update={"event_retention_seconds": 8.0}), database, bool)
    with ExitStack() as stack:
        transactions = Transactions(database, stack, 2)
        transactions.write(0)
        transactions.write(1)
        transactions.end(1, commits=True)
        cursor = feed.now()
        for _ in range(20):
            grow_old(database, 2)
            cleaner.run_once()
        # It holds its slot, before which the ring stands still.
        assert feed.read(cursor).events == []
        transactions.end(0, commits=True)
        assert [event.job_id for event in feed.read(cursor).events] == [1]


def test_the_cleaner_drops_the_triggers_when_nobody_listens(settings: Settings, database: Database) -> None:
    """Five minutes after the last lease nothing writes events any more."""
    subscriptions = Subscriptions(database)
    subscriptions.keep("test", 60)
    cleaner = Cleaner(settings, database, bool)
    subscriptions.keep("gone", 60)
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE event_subscriptions SET lease_until = now() - interval '301 s' WHERE name = 'gone'"
        )
    assert cleaner.run_once()["event_triggers"] == 0
    with database.autocommit() as connection:
        names = "SELECT array_agg(name) FROM event_subscriptions"
        assert connection.exec_driver_sql(names).scalar_one() == ["test"]
        connection.exec_driver_sql("UPDATE event_subscriptions SET lease_until = now() - interval '301 s'")
    assert cleaner.run_once()["event_triggers"] == 1
    with database.autocommit() as connection:
        assert not subscription_rows.are_written(connection)

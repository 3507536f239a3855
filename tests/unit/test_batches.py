"""Batches: what their options may be, whose payloads they hold, and which job comes into which of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from typing_extensions import TypedDict

from goqueue.config.settings import Settings
from goqueue.engine.options.batch import Batch, batch_schema_of
from goqueue.engine.options.injection import Depends
from goqueue.errors import BatchFailed
from goqueue.instance import GoQueue
from goqueue.worker.batches.open_batches import BatchKey, OpenBatch, OpenBatches


class Item(BaseModel):
    """A payload."""

    number: int


class Titled(TypedDict):
    """Another one."""

    title: str


@dataclass
class Sized:
    """And one more."""

    size: int


# Options


@pytest.mark.parametrize(
    ("options", "name"),
    [
        pytest.param({"size": 0}, "size", id="no job"),
        pytest.param({"size": True}, "size", id="a truth"),
        pytest.param({"size": 1.5}, "size", id="half a job"),
        pytest.param({"size": 10_001}, "size", id="too many"),
        pytest.param({"wait_ms": -1}, "wait_ms", id="a wait in the past"),
        pytest.param({"wait_ms": 10_001}, "wait_ms", id="a long wait"),
        pytest.param({"wait_ms": float("nan")}, "wait_ms", id="no number"),
        pytest.param({"wait_ms": "50"}, "wait_ms", id="a text"),
        pytest.param({"key": ""}, "key", id="an empty name"),
        pytest.param({"key": "a..b"}, "key", id="an empty part"),
        pytest.param({"key": len}, "key", id="a function"),
        pytest.param({"bytes": 0}, "bytes", id="no bytes"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], name: str) -> None:
    """Each problem names its option."""
    assert [wrong for wrong, _ in Batch(**options).problems()] == [name]


def test_what_can_be_meant_is_not() -> None:
    """The defaults, and every bound."""
    assert list(Batch().problems()) == []
    assert list(Batch(size=10_000, wait_ms=0, key="a.b", bytes=1).problems()) == []


@pytest.mark.parametrize(
    ("key", "payload", "found"),
    [
        pytest.param(None, '{"a": 1}', "", id="none"),
        pytest.param("a", '{"a": 1}', "1", id="a number"),
        pytest.param("a", '{"a": "1"}', '"1"', id="a text is not the number"),
        pytest.param("a.b", '{"a": {"b": true}}', "true", id="deeper"),
        pytest.param("a", '{"a": {"c": 1, "b": 2}}', '{"b":2,"c":1}', id="an object, in one order"),
        pytest.param("a", '{"a": null}', "null", id="null is a value"),
        pytest.param("a.b", '{"a": 1}', "", id="no object"),
        pytest.param("b", '{"a": 1}', "", id="no such field"),
        pytest.param("a", '{"a": 1e999}', "", id="what cannot be read"),
    ],
)
def test_the_key_of_a_payload(key: str | None, payload: str, found: str) -> None:
    """It is the JSON of the named field."""
    assert Batch(key=key).key_of(payload) == found


def test_a_key_that_no_payload_has_is_refused() -> None:
    """At the declaration, before all jobs are of one key."""
    schema: dict[str, Any] = {"properties": {"customer": {}, "total": {}}}
    Batch(key="customer.id").expect_key_in(schema)
    Batch(key="anything").expect_key_in({"type": "object"})
    with pytest.raises(ValueError, match="there are customer, total"):
        Batch(key="costumer").expect_key_in(schema)


# The payloads of a handler


def _of(annotation: Any) -> Callable[..., Any]:
    def handler(items: Any) -> None: ...

    handler.__annotations__["items"] = annotation
    return handler


@pytest.mark.parametrize(
    ("annotation", "text", "payload"),
    [
        pytest.param(list[Item], '{"number": 1}', Item(number=1), id="models"),
        pytest.param(Sequence[Titled], '{"title": "a"}', {"title": "a"}, id="typed dicts"),
        pytest.param(list[Sized], '{"size": 1}', Sized(1), id="dataclasses"),
        pytest.param(list[dict[str, int]], '{"a": 1}', {"a": 1}, id="dicts"),
        pytest.param(list[dict], '{"a": "b"}', {"a": "b"}, id="any dicts"),  # type: ignore[type-arg]  # as users write it
        pytest.param(list[Mapping[str, Any]], '{"a": 1}', {"a": 1}, id="mappings"),
        pytest.param(list[Any], '{"a": 1}', {"a": 1}, id="anything"),
        pytest.param(list, '{"a": 1}', {"a": 1}, id="a plain list"),
    ],
)
def test_the_schema_is_that_of_one_payload(annotation: Any, text: str, payload: Any) -> None:
    """A handler takes a list; a job has one of it."""
    assert batch_schema_of(_of(annotation)).validate_json(text) == payload


def test_what_is_injected_is_no_payload() -> None:
    """Beside the list a handler may ask for dependencies."""

    def handler(items: list[Item], size: Annotated[int, Depends(int)]) -> None: ...

    assert batch_schema_of(handler).validate_json('{"number": 2}') == Item(number=2)


def _two(items: list[Item], more: int) -> None: ...


def _none() -> None: ...


def _many(*items: Item) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(_two, id="another parameter"),
        pytest.param(_none, id="no parameter"),
        pytest.param(_many, id="a parameter for each"),
        pytest.param(_of(Item), id="one payload"),
        pytest.param(_of(list[int]), id="no objects"),
        pytest.param(_of(list[Item | None]), id="perhaps an object"),
        pytest.param(_of(dict[str, Item]), id="no list"),
    ],
)
def test_a_handler_that_takes_no_list_of_payloads_is_refused(handler: Callable[..., Any]) -> None:
    """Its declaration says what is expected."""
    with pytest.raises(ValueError, match="takes one list of payloads"):
        batch_schema_of(handler)


def test_errors_are_given_by_place() -> None:
    """A mistake is one where it is made."""
    assert BatchFailed({0: ValueError("a")}).errors.keys() == {0}
    with pytest.raises(TypeError, match="a mapping of places to exceptions"):
        BatchFailed([ValueError("a")])  # type: ignore[arg-type]  # it is to be refused


# Which job comes into which batch


@dataclass
class Desk:
    """Open batches, and what was closed."""

    places: int = 1_000_000
    closed: list[OpenBatch[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open: OpenBatches[Any] = OpenBatches(self.closed.append, self._admit)

    def _admit(self, _item: Any) -> bool:
        self.places -= 1
        return self.places >= 0

    def put(self, item: Any, options: Batch, *, key: str = "", size: int = 1, **times: float) -> bool:
        """Add an item of the type `t` in the queue `q`."""
        times.setdefault("now", 0.0)
        return self.open.add(BatchKey("q", "t", key), item, payload_bytes=size, options=options, **times)

    @property
    def batches(self) -> list[list[Any]]:
        """The items of the closed ones."""
        return [batch.items for batch in self.closed]


@pytest.mark.parametrize(
    ("options", "sizes", "batches", "left"),
    [
        pytest.param(Batch(size=2), [1, 1, 1], [[0, 1]], 1, id="full by number"),
        pytest.param(Batch(size=9, bytes=10), [4, 6, 1], [[0, 1]], 1, id="full by bytes"),
        pytest.param(Batch(size=9, bytes=10), [4, 7, 1], [[0]], 1, id="the next would be too much"),
        pytest.param(Batch(size=9, bytes=10), [99, 1], [[0]], 1, id="too large for any: alone"),
        pytest.param(Batch(size=9, bytes=10), [1, 99, 1], [[0], [1]], 1, id="too large, after another"),
        pytest.param(Batch(size=1), [1, 1], [[0], [1]], 0, id="of one"),
    ],
)
def test_when_a_batch_is_closed(
    options: Batch, sizes: list[int], batches: list[list[int]], left: int
) -> None:
    """By the number of its jobs, and by what their payloads weigh."""
    desk = Desk()
    for number, size in enumerate(sizes):
        desk.put(number, options, size=size)
    assert (desk.batches, len(desk.open)) == (batches, left)


def test_a_batch_waits_from_its_first_job_on() -> None:
    """Those that come later wait for less; one that expires is waited for no longer than it can."""
    desk, options = Desk(), Batch(size=9, wait_ms=50)
    desk.put("first", options, now=1.0)
    desk.put("second", options, now=1.04)
    desk.put("pressing", options, key="other", now=1.0, due_by=1.01)
    assert desk.open.next_due_at == 1.01
    desk.open.close_due(1.01)
    assert desk.batches == [["pressing"]]
    desk.open.close_due(1.049)
    assert len(desk.closed) == 1
    desk.open.close_due(1.051)
    assert desk.batches[1] == ["first", "second"]
    assert desk.open.next_due_at == float("inf")


def test_without_a_place_there_is_no_further_batch() -> None:
    """A job of another key is refused; one that joins needs none."""
    desk, options = Desk(places=1), Batch(size=9)
    assert desk.put("a", options, key="a")
    assert not desk.put("b", options, key="b")
    assert desk.put("a too", options, key="a")
    assert desk.open.room_in("q") == 7
    assert desk.open.room_in("another") == 0
    desk.open.close_of("q", "t")
    assert desk.batches == [["a", "a too"]]


def test_what_is_open_can_be_taken_away() -> None:
    """Whoever stops gives it back."""
    desk = Desk()
    desk.put("a", Batch())
    assert [batch.items for batch in desk.open.take_all()] == [["a"]]
    assert (desk.closed, len(desk.open)) == ([], 0)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abc"), st.integers(0, 12)),
        st.integers(1, 80),
    ),
    max_size=60,
)


@given(EVENTS, st.integers(1, 5), st.one_of(st.none(), st.integers(1, 20)), st.integers(0, 60))
def test_whatever_comes_when(events: list[Any], size: int, most_bytes: int | None, wait_ms: int) -> None:
    """No batch is too large, too heavy, of two keys, late, or out of order; no job is lost."""
    options = Batch(size=size, bytes=most_bytes, wait_ms=wait_ms)
    desk, now, put = Desk(), 0.0, []
    for number, event in enumerate(events):
        if isinstance(event, int):
            now += event / 1000
            desk.open.close_due(now)
            assert desk.open.next_due_at > now
            continue
        key, weight = event
        item = (number, key, weight, now)
        put.append(item)
        assert desk.put(item, options, key=key, size=weight, now=now)
    batches = desk.batches + [batch.items for batch in desk.open.take_all()]
    assert sorted(item for batch in batches for item in batch) == put
    orders: dict[str, list[Any]] = defaultdict(list)
    for batch in batches:
        assert 1 <= len(batch) <= size
        assert len({item[1] for item in batch}) == 1
        assert most_bytes is None or len(batch) == 1 or sum(item[2] for item in batch) <= most_bytes
        assert batch[-1][3] - batch[0][3] <= wait_ms / 1000
        orders[batch[0][1]] += batch
    assert all(items == sorted(items) for items in orders.values())


def _nothing() -> None:
    """Do nothing."""


def _batched(items: list[Item]) -> None:
    """Do nothing at once."""


def test_the_jobs_of_a_place() -> None:
    """One is enough for a batch of the smallest type, where all types of a queue are batched."""
    with GoQueue(Settings()) as goqueue:
        types = goqueue.broker.types
        goqueue.actor(name="many", queue="q", batch=Batch(size=9), aliases=["lots"])(_batched)
        goqueue.actor(name="few", queue="q", batch=Batch(size=4))(_batched)
        assert (types.jobs_per_place("q"), types.jobs_per_place("another")) == (4, 1)
        assert types.batch_of("lots") == Batch(size=9)
        goqueue.actor(name="one", queue="q")(_nothing)
        assert (types.jobs_per_place("q"), types.batch_of("one")) == (1, None)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        pytest.param({"batch": 100}, "expected a goqueue.Batch", id="a number"),
        pytest.param({"batch": Batch(size=0)}, "batch: size: expected a whole number", id="no job"),
        pytest.param({"batch": Batch(key="no")}, "no payload has a field 'no'", id="no such field"),
        pytest.param({"batch": Batch(), "process": True}, "takes one job at a time", id="in a child process"),
        pytest.param({"batch": Batch(), "slots": 2}, "slots cannot be more", id="of several threads"),
    ],
)
def test_a_declaration_says_what_is_wrong(options: dict[str, Any], wrong: str) -> None:
    """Before any job of the type is created."""
    with GoQueue(Settings()) as goqueue, pytest.raises(ValueError, match=wrong):
        goqueue.actor(**options)(_batched)

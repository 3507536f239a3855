"""How the threads of workers are divided between namespaces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.ops.shares import WorkerSize, divided


@pytest.mark.parametrize(
    ("size", "shares", "expected"),
    [
        ((2, 8), {"default": 1}, {"default": (2, 8)}),
        ((2, 8), {"default": 1, "acme": 1}, {"default": (1, 8), "acme": (1, 8)}),
        ((2, 8), {"default": 1, "acme": 3}, {"default": (1, 4), "acme": (2, 6)}),
        ((1, 4), {"default": 1, "acme": 1, "beta": 2}, {"default": (1, 1), "acme": (1, 1), "beta": (1, 2)}),
        ((1, 2), {"a": 1, "b": 1, "c": 1}, {"a": (1, 1), "b": (1, 1), "c": (1, 1)}),
        ((1, 10), {"a": 1, "b": 1, "c": 1}, {"a": (1, 4), "b": (1, 3), "c": (1, 3)}),
    ],
)
def test_threads_are_divided_by_shares(
    size: tuple[int, int], shares: dict[str, int], expected: dict[str, tuple[int, int]]
) -> None:
    """What does not divide evenly goes to those that miss the most; each has one at least."""
    assert divided(WorkerSize(*size), shares) == {
        name: WorkerSize(*counts) for name, counts in expected.items()
    }


@given(
    st.builds(WorkerSize, st.integers(1, 64), st.integers(1, 64)),
    st.dictionaries(st.text(min_size=1), st.integers(1, 100), min_size=1, max_size=20),
)
def test_no_thread_is_lost(size: WorkerSize, shares: dict[str, int]) -> None:
    """All are given, and no more than one each where there are too few."""
    found = divided(size, shares)
    threads = {name: one.processes * one.threads for name, one in found.items()}
    every = size.processes * size.threads
    assert sum(threads.values()) >= every
    assert all(1 <= one.threads <= size.threads for one in found.values())
    # A process has whole threads: each of its namespace may have one more for that.
    assert sum(threads.values()) <= max(every, len(shares)) + sum(one.processes for one in found.values())

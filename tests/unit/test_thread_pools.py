"""The threads of the API's server, a pool for each namespace."""

from __future__ import annotations

import threading

from goqueue.api.server.thread_pools import ThreadPools


def test_a_pool_that_hangs_holds_up_no_other() -> None:
    """Work of another pool is done while all threads of one wait."""
    may_end, done = threading.Event(), threading.Event()

    def do(work: str) -> None:
        if work == "hangs":
            may_end.wait(30)
        else:
            done.set()

    pools: ThreadPools[str] = ThreadPools(2, do)
    for _ in range(5):
        pools.put("beta", "hangs")
    pools.put("acme", "quick")
    assert done.wait(10)
    may_end.set()


def test_a_pool_has_so_many_threads() -> None:
    """As many pieces of work as it has threads run at once, each thread named after its pool."""
    together = threading.Barrier(3)
    names: set[str] = set()

    def do(_work: str) -> None:
        names.add(threading.current_thread().name)
        together.wait(10)

    pools: ThreadPools[str] = ThreadPools(2, do)
    for _ in range(2):
        pools.put("acme", "piece")
    together.wait(10)
    assert names == {"api-acme-0", "api-acme-1"}
    assert names == {one.name for one in threading.enumerate() if one.name.startswith("api-acme")}

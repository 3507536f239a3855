"""Job types that do to their process what a handler should not, loaded by `GOQUEUE_ACTORS`."""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NoReturn

import goqueue
from tests.support.jobs.chaos_jobs import QUEUE
from tests.support.waiting import wait_until


class LastWord(BaseException):
    """An exception that no `except Exception` catches."""


@goqueue.actor(queue=QUEUE)
def leaves_thread(token: str) -> str:
    """Leave a thread for which Python waits at its end, for ever."""
    threading.Thread(target=threading.Event().wait, name="left-behind").start()
    return token


@goqueue.actor(queue=QUEUE)
async def naps(token: str, seconds: float) -> str:
    """Sleep on the event loop."""
    await asyncio.sleep(seconds)
    return token


@goqueue.actor(queue=QUEUE)
async def blocks_loop(token: str, seconds: float) -> str:
    """Sleep in the event loop's own thread."""
    time.sleep(seconds)  # noqa: ASYNC251  (that is what it is for)
    return token


async def _raise(error: BaseException) -> NoReturn:
    raise error


async def _raise_in_task(error: BaseException) -> None:
    _keep(asyncio.create_task(_raise(error)))
    await asyncio.sleep(0.05)


async def _stop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.05)


async def _call(callback: Callable[[], Any]) -> None:
    asyncio.get_running_loop().call_soon(callback)
    await asyncio.sleep(0.05)


async def _close() -> None:
    loop = asyncio.get_running_loop()
    # As another thread sees it in a moment in which the loop was stopped and is not entered again.
    loop._thread_id = None  # type: ignore[attr-defined]  # noqa: SLF001  (does harm on purpose)
    loop.close()
    await asyncio.sleep(60)


async def _break() -> None:
    asyncio.get_running_loop()._selector.close()  # type: ignore[attr-defined]  # noqa: SLF001  (does harm on purpose)
    await asyncio.sleep(60)


#: What a handler may do to the loop that all async handlers of its process share.
HARMS: dict[str, Callable[[], Awaitable[object]]] = {
    "exits": lambda: _raise(SystemExit(3)),
    "exits in a task": lambda: _raise_in_task(SystemExit(3)),
    "is interrupted in a task": lambda: _raise_in_task(KeyboardInterrupt()),
    "raises a base exception in a task": lambda: _raise_in_task(LastWord()),
    "stops the loop": _stop,
    "exits in a callback": lambda: _call(sys.exit),
    "raises in a callback": lambda: _call(lambda: 1 / 0),
    "closes the loop": _close,
    "breaks the loop": _break,
}

_kept: list[Any] = []


def _keep(found: Any) -> None:
    _kept.append(found)


@goqueue.actor(queue=QUEUE, min_backoff_seconds=0.1)
async def harms_loop(token: str, how: str) -> str:
    """Do it in the first run."""
    if goqueue.current_job().fence == 1:
        await HARMS[how]()
    return token


@goqueue.actor(queue=QUEUE, min_backoff_seconds=0.1, max_backoff_seconds=0.2)
async def closes_loop(token: str) -> str:
    """Close it in every run."""
    await _close()
    return token


def _others(name: str) -> list[threading.Thread]:
    """The other threads of this process that have this name, or are of this class."""
    return [
        thread
        for thread in threading.enumerate()
        if name in {thread.name, type(thread).__name__} and thread is not threading.current_thread()
    ]


@goqueue.actor(queue=QUEUE, min_backoff_seconds=0.1)
def kills_thread(token: str, name: str) -> str:
    """End another thread of this process, of this name or class, as `SystemExit` in it would."""
    if goqueue.current_job().fence == 1:
        # The first job of a process may run before its other threads do.
        wait_until(lambda: _others(name), 10, f"another thread {name}")
        found = _others(name)
        raised = ctypes.py_object(SystemExit)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(found[0].ident or 0), raised)
        goqueue.current_job().log("the reporter waits for something to write")
    return f"{token} {os.getpid()}"


@goqueue.actor(queue=QUEUE)
def waits_for_pool(token: str, seconds: float) -> str:
    """Let two processes of a pool sleep, in the first run."""
    if goqueue.current_job().fence == 1:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
            list(pool.map(time.sleep, [seconds, seconds]))
    return token


@goqueue.actor(queue=QUEUE)
def enqueues_in_pool(token: str, jobs: int) -> int:
    """Let forked processes create jobs, and end the pool as its context manager does: by SIGTERM."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return len(pool.map(_enqueue, [token] * jobs))


def _enqueue(token: str) -> int:
    return goqueue.enqueue(naps, {"token": token, "seconds": 0.0})


@goqueue.actor(queue=QUEUE)
def holds_gil(token: str, seconds: int) -> str:
    """Sleep in C code that does not let go of Python's global lock, in the first run."""
    if goqueue.current_job().fence == 1:
        ctypes.PyDLL(None).sleep(seconds)
    return token

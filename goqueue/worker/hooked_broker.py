"""The hooks of a broker: which are called, in which order, and what becomes of what they raise."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Middleware, MiddlewareError

from goqueue.engine.options.dramatiq_options import refuse_middleware
from goqueue.middleware.job_message import JobMessage
from goqueue.observability.exception_reader import ExceptionReader, frames_of

#: Signals of the end of an attempt: whatever a hook raises, the end is recorded.
_ENDS = frozenset({"ack", "nack"})

#: Signals that threads of the worker give: whatever a hook raises, the thread goes on.
_IN_THREADS = _ENDS | {
    "process_message",
    "skip_message",
    "worker_thread_boot",
    "worker_thread_shutdown",
    "consumer_thread_boot",
    "consumer_thread_shutdown",
}


class HookedBroker(RedisBroker):
    """A RedisBroker that calls only those hooks that some middleware overrides, and survives what they raise.

    The options are the RedisBroker's.
    """

    def __init__(self, **options: Any) -> None:
        self._concluding = threading.local()
        self._hooks: dict[tuple[str, str], list[Callable[..., None]]] = {}
        #: A user has added some: its hooks are told the call and the result.
        self._has_own_middleware = False
        self._standard: frozenset[Middleware] = frozenset()
        super().__init__(**options)  # type: ignore[no-untyped-call]  # Dramatiq's
        self._standard = frozenset(self.middleware)
        #: Nobody but the middleware that a broker is made with has a hook around a job's run.
        self.runs_straight = True

    def add_middleware(
        self,
        middleware: Middleware,
        *,
        before: type[Middleware] | None = None,
        after: type[Middleware] | None = None,
    ) -> None:
        """Add a middleware, at the end or beside another.

        Raises:
            ValueError: it would do what GoQueue does otherwise; or there is no such other.
        """
        refuse_middleware(middleware, self.middleware)
        super().add_middleware(middleware, before=before, after=after)
        self._hooks = {}
        self._has_own_middleware = any(map(_is_own, self.middleware))
        self.runs_straight = not any(
            middleware not in self._standard and _looks_at_runs(middleware) for middleware in self.middleware
        )

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Run the before-hooks in order; hooks that nobody overrides are not called.

        Raises:
            Exception: what a hook raised before a job was to run. Dramatiq would log it and run the job all
                the same; here the attempt has failed, and `Retries` decides.
        """
        runs = self._has_own_middleware and signal == "process_message" and isinstance(args[0], JobMessage)
        if runs:
            args[0].show_call()
        for hook in self._hooks_of("before", signal):
            try:
                hook(self, *args, **kwargs)
            except MiddlewareError as error:
                if signal not in _ENDS:
                    raise
                self._tell_failed_hook("before", signal, hook, error)
            except BaseException as error:
                if signal not in _IN_THREADS and not isinstance(error, Exception):
                    raise
                self._tell_failed_hook("before", signal, hook, error)
                if signal == "process_message":
                    raise
        if runs:
            args[0].hide_call()

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Run the after-hooks in reverse; what they enqueue about a claimed job becomes its follow-up."""
        concludes = signal == "process_message" and isinstance(args[0], JobMessage)
        if concludes:
            self._concluding.message = args[0]
            if self._has_own_middleware:
                args[0].show_call()
        for hook in self._hooks_of("after", signal):
            try:
                hook(self, *args, **kwargs)
            except BaseException as error:
                if signal not in _IN_THREADS and not isinstance(error, Exception):
                    raise
                self._tell_failed_hook("after", signal, hook, error)
        if concludes:
            self._concluding.message = None

    def conclude_elsewhere(
        self,
        message: JobMessage,
        kinds: tuple[type[Middleware], ...],
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Run the after-hooks of middleware of these kinds, in reverse, for an attempt that ran elsewhere.

        What they enqueue about it becomes its follow-up, or its verdict. What one raises is logged.
        """
        self._concluding.message = message
        for middleware in reversed(self.middleware):
            if isinstance(middleware, kinds):
                hook = middleware.after_process_message
                try:
                    hook(self, message, result=result, exception=exception)
                except Exception as error:  # noqa: BLE001  (as Dramatiq does)
                    self._tell_failed_hook("after", "process_message", hook, error)
        self._concluding.message = None

    @property
    def concluding(self) -> JobMessage | None:
        """The claimed job whose after-hooks the calling thread runs, if it does."""
        return cast("JobMessage | None", getattr(self._concluding, "message", None))

    def _tell_failed_hook(
        self, moment: str, signal: str, hook: Callable[..., None], error: BaseException
    ) -> None:
        """Log what a hook raised; its middleware and the exception may be a user's."""
        reader = ExceptionReader(error)
        name = type(getattr(hook, "__self__", hook)).__name__
        frames = "" if reader.is_harmful else reader.traceback(frames_of(error))
        # A user's log handler may raise, too.
        with suppress(BaseException):
            self.logger.critical(
                "Unexpected failure in %s_%s of %s: %s\n%s", moment, signal, name, reader.line, frames
            )

    def _hooks_of(self, moment: str, signal: str) -> list[Callable[..., None]]:
        """The hooks of a signal that some middleware overrides, in the order in which they are called."""
        hooks = self._hooks.get((moment, signal))
        if hooks is None:
            name = f"{moment}_{signal}"
            hooks = [
                getattr(middleware, name)
                for middleware in self.middleware
                if getattr(type(middleware), name) is not getattr(Middleware, name)
            ]
            if moment == "after":
                hooks.reverse()
            self._hooks[moment, signal] = hooks
        return hooks


#: What Dramatiq's worker tells middleware of each job that it runs.
_RUN_HOOKS = [
    f"{moment}_{signal}" for signal in ("process_message", "ack", "nack") for moment in ("before", "after")
]


def _looks_at_runs(middleware: Middleware) -> bool:
    return any(getattr(type(middleware), hook) is not getattr(Middleware, hook) for hook in _RUN_HOOKS)


def _is_own(middleware: Middleware) -> bool:
    """Whether a middleware is a user's, and looks at messages that run."""
    kind = type(middleware)
    return not kind.__module__.startswith(("goqueue.", "dramatiq.")) and any(
        getattr(kind, hook) is not getattr(Middleware, hook)
        for hook in ("before_process_message", "after_process_message")
    )

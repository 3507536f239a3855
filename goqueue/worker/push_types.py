"""The types whose jobs a worker sends to a URL: declared and forgotten while it runs, as their rows say.

Such a type is one of an async handler, so a call that takes a quarter of an hour holds no thread.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import structlog

from goqueue.config.settings import Settings
from goqueue.errors import GoQueueError
from goqueue.remote.declared_type_rows import DeclaredType
from goqueue.remote.declared_types import KEPT_SECONDS, TypeDirectory, job_type_of
from goqueue.worker.background_thread import BackgroundThread

if TYPE_CHECKING:
    from goqueue.worker.broker import JobBroker

__all__ = ["PushCall", "PushTypes"]

log = structlog.get_logger(__name__)

#: Sends a job of a type to its URL, as the settings say, and returns its result.
PushCall = Callable[[DeclaredType, Settings], Awaitable[Any]]


class PushTypes(BackgroundThread):
    """Declares the types with a URL on the broker of a worker, and looks every second for changes.

    Attributes:
        declared: the types as they were declared here, by name.
    """

    def __init__(self, broker: JobBroker) -> None:
        super().__init__("push-types")
        self._broker = broker
        self._directory = TypeDirectory(broker.settings, broker.database, broker)
        self.declared: dict[str, DeclaredType] = {}
        self._stopping = threading.Event()

    def start(self) -> None:
        """Declare what there is, and look again from then on; nothing in a process that cannot call."""
        if self._broker.push_call is not None:
            self.look()
            super().start()

    def stop(self) -> None:
        """End the looks for changes."""
        self._stopping.set()

    def look(self) -> None:
        """Declare and forget as the rows say by now. While PostgreSQL is away all stays as it is."""
        try:
            rows = self._directory.all_rows()
        except GoQueueError as error:
            log.debug("push_types_not_read", error=str(error))
            return
        self._follow({name: one for name, one in rows.items() if one.url is not None})

    def _follow(self, rows: Mapping[str, DeclaredType]) -> None:
        taken = self._broker.type_names()
        for name in self.declared.keys() - rows.keys():
            del self.declared[name]
            self._broker.forget_pushed(name)
        for name, declared in rows.items():
            if name not in taken and self.declared.get(name) != declared:
                self._declare(declared)
                self.declared[name] = declared

    def _declare(self, declared: DeclaredType) -> None:
        call, settings = self._broker.push_call, self._broker.settings
        assert call is not None

        async def push(_payload: Any) -> Any:
            return await call(declared, settings)

        try:
            self._broker.declare_pushed(job_type_of(settings, declared), push)
        except (GoQueueError, ValueError) as error:
            log.warning("push_type_refused", type=declared.name, error=str(error))

    def _run(self) -> None:
        while not self._stopping.wait(KEPT_SECONDS):
            try:
                self.look()
            except Exception:
                log.exception("push_types_look_failed")

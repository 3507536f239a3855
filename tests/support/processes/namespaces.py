"""Two namespaces on servers of their own, the file that names them, and one API before both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from goqueue.ops.processes import ChildProcess
from tests.support.processes.stack import Stack

#: The namespaces; requests without one are for the first.
NAMES = ("acme", "beta")


@dataclass(frozen=True, slots=True)
class TwoNamespaces:
    """Two stacks, each with PostgreSQL and Valkey of its own.

    Attributes:
        stacks: by namespace.
        changes: what makes a process of any of them one of both, but for its namespace.
    """

    stacks: Mapping[str, Stack]
    changes: Mapping[str, Any]

    @property
    def first(self) -> Stack:
        """The stack of the namespace that requests without one are for."""
        return self.stacks[NAMES[0]]

    def settings_of(self, name: str) -> dict[str, Any]:
        """Return what lets a process of a stack belong to a namespace, by the file alone."""
        return {**self.changes, "namespace": name}

    def start_api(self) -> ChildProcess:
        """Start the API before both, and wait until it serves them."""
        return self.first.api(**self.settings_of(NAMES[0]))

    def move(self, name: str, database_url: str) -> None:
        """Let the file name another database for a namespace."""
        tables = {each: _table(each, stack) for each, stack in self.stacks.items()}
        tables[name] = _table(name, self.stacks[name], database_url)
        Path(self.changes["namespaces_file"]).write_text("".join(tables.values()))

    def start_workers(self) -> None:
        """Start a scheduler and a worker of each namespace."""
        for name, stack in self.stacks.items():
            stack.scheduler(**self.settings_of(name))
            stack.workers(1, **self.settings_of(name))

    def client(self, **options: Any) -> httpx.Client:
        """Return a client of the API before both."""
        return httpx.Client(base_url=self.first.api_url, trust_env=False, **({"timeout": 30} | options))


@contextmanager
def two_namespaces(folder: Path, **settings: Any) -> Iterator[TwoNamespaces]:
    """Start the servers of both, and write the file that names them."""
    folder.mkdir(exist_ok=True)
    file = folder / "namespaces.toml"
    with Stack(folder / NAMES[0], **settings) as first, Stack(folder / NAMES[1], **settings) as second:
        stacks = dict(zip(NAMES, (first, second), strict=True))
        file.write_text("".join(_table(name, stack) for name, stack in stacks.items()))
        yield TwoNamespaces(stacks, {"namespaces_file": str(file)})


@contextmanager
def hanging(stack: Stack) -> Iterator[None]:
    """Stop every process of a stack's PostgreSQL: connections stay open, and nobody answers."""
    postmaster = psutil.Process(stack.postgres.pid)
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def _table(name: str, stack: Stack, database_url: str | None = None) -> str:
    database_url = database_url or stack.postgres.url
    return f'[{name}]\ndatabase_url = "{database_url}"\nredis_url = "{stack.valkey.url}"\n\n'

"""The types that a process knows while it declares more of them."""

from __future__ import annotations

import pytest

from goqueue.config.settings import Settings
from goqueue.engine.options.job_type import JobType
from goqueue.instance import GoQueue


def test_a_type_that_is_declared_while_hashes_are_made_is_known_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread that claims asks for the known types while another declares one, which it then learns."""
    with GoQueue(Settings()) as goqueue:
        goqueue.actor(name="first")(_nothing)
        hash_of = JobType.schema_hash

        def declare_meanwhile(job_type: JobType) -> str:
            if "second" not in goqueue.broker.job_types:
                goqueue.actor(name="second")(_nothing)
            return hash_of(job_type)

        monkeypatch.setattr(JobType, "schema_hash", declare_meanwhile)
        assert set(goqueue.broker.known_types.types) == {"first"}
        assert set(goqueue.broker.known_types.types) == {"first", "second"}


def _nothing() -> None:
    """Do nothing."""

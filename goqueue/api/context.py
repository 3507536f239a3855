"""The parts of the application that every resource works with."""

from __future__ import annotations

from dataclasses import dataclass

from goqueue.api.job_requests import JobRequests, QueueDirectory
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from goqueue.engine.submit import Submitter
from goqueue.worker.broker import JobBroker


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of one application.

    Attributes:
        read_database: for reads that may be a moment old; the same where there is no read replica.
        broker: only its declared job types are used; the connections are the application's own.
    """

    settings: Settings
    database: Database
    read_database: Database
    runway: Runway
    broker: JobBroker
    submitter: Submitter
    queues: QueueDirectory
    requests: JobRequests

"""What the README tells a newcomer works as it stands there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from goqueue.config.settings import Settings, environment_of
from goqueue.db.database import Database
from tests.support.engine import process_of

README = Path(__file__).parents[2] / "README.md"
JOBS = README.parent / "docs" / "jobs.md"

RUN = """
import json, sys
from goqueue.actors import broker
job_type = broker.job_types["send_invoice"]
job_type.parse('{"order_id": 7, "email": "a@example.com"}')
print(json.dumps([job_type.queue, job_type.retry.max_retries, sorted(job_type.json_schema()["properties"])]))
"""


class Base(DeclarativeBase):
    """The tables of the application of the documents."""


class Order(Base):
    """What its own transaction changes."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]


def test_the_examples_of_the_document_about_jobs_run(settings: Settings, database: Database) -> None:
    """Every block of Python there does what it says, one after the other."""
    blocks = re.findall(r"```python\n(.*?)```", JOBS.read_text(), re.DOTALL)
    assert len(blocks) >= 4
    engine = create_engine(
        settings.database_url.get_secret_value().replace("postgresql:", "postgresql+psycopg:")
    )
    Base.metadata.create_all(engine)
    names: dict[str, Any] = {
        "__name__": "shop.jobs",
        "Session": Session,
        "engine": engine,
        "order": Order(id=7, email="a@example.com"),
        "REPORTS_DATABASE_URL": settings.database_url.get_secret_value(),
        "REPORTS_REDIS_URL": settings.redis_url.get_secret_value(),
    }
    with process_of(settings):
        for block in blocks:
            exec(block, names)
    engine.dispose()
    with database.autocommit() as connection:
        rows = connection.exec_driver_sql(
            "SELECT payload, priority FROM jobs WHERE type <> 'build_report' ORDER BY id"
        ).fetchall()
        reports = connection.exec_driver_sql(
            "SELECT payload, priority FROM jobs WHERE type = 'build_report'"
        ).fetchall()
    many = [{"order_id": number, "email": "a@example.com"} for number in range(1000)]
    assert [row[0] for row in rows[2:1002]] == many
    others = [*rows[:2], *rows[1002:]]
    assert [row[0] for row in others] == [{"order_id": 7, "email": "a@example.com"}] * 6
    assert [row[1] for row in others] == [0, 10, 0, 0, 0, 0]
    assert [tuple(row) for row in reports] == [({"customer": 7}, 5)]


def test_the_job_type_of_the_readme_is_declared(settings: Settings, tmp_path: Path) -> None:
    """The ten-line job type, put where the README says, is loaded by GOQUEUE_ACTORS."""
    code = re.search(r"```python\n# shop/jobs\.py\n(.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "jobs.py").write_text(code[1])
    environment = environment_of(settings) | {"GOQUEUE_ACTORS": "shop.jobs", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["invoices", 5, ["email", "order_id"]]


def test_the_job_type_of_the_readme_is_ten_lines() -> None:
    """As short as it is promised to be."""
    code = re.search(r"```python\n# shop/jobs\.py\n(.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    assert len([line for line in code[1].splitlines() if line.strip()]) <= 10

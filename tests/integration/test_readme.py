"""What the README tells a newcomer works as it stands there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from goqueue.config import Settings, environment_of

README = Path(__file__).parents[2] / "README.md"

RUN = """
import json, sys
from goqueue.actors import broker
job_type = broker.job_types["send_invoice"]
job_type.parse('{"order_id": 7, "email": "a@example.com"}')
print(json.dumps([job_type.queue, job_type.retry.max_retries, sorted(job_type.json_schema()["properties"])]))
"""


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

"""The numbers of migrations: processes know by the highest one which schema they need."""

from __future__ import annotations

import re
from pathlib import Path

VERSIONS = sorted((Path(__file__).parents[2] / "goqueue/migrations/versions").glob("[0-9]*.py"))


def test_each_migration_follows_the_number_before() -> None:
    """A number is that of one file and its revision, and the chain ascends by one: a gap or a twin is red."""
    found = []
    for path in VERSIONS:
        text = path.read_text()
        names = {
            name: re.search(rf'^{name} = (?:"(\d+)"|None)$', text, re.MULTILINE)
            for name in ("revision", "down_revision")
        }
        found.append((path.name[:4], *(match and match[1] for match in names.values())))
    numbers = [f"{number:04}" for number in range(1, len(VERSIONS) + 1)]
    assert found == list(zip(numbers, numbers, [None, *numbers[:-1]], strict=True))

"""The map of tests/support shows every module, in the module's own words."""

from __future__ import annotations

import ast
import re
from pathlib import Path

SUPPORT = Path(__file__).parents[1] / "support"

#: A package stands in a heading, a module in a row of the table under it.
LINE = re.compile(
    r"^(?:## `(?P<package>[\w/]+)/`\n\n|\| `(?P<module>[\w/]+\.py)` \| )(?P<words>.+?)(?: \|)?$", re.MULTILINE
)


def first_line(path: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def test_every_module_stands_in_the_map() -> None:
    """Whoever looks for something to stand on reads one page; what is not on it will be written again."""
    found = LINE.finditer((SUPPORT / "README.md").read_text())
    shown = {line["module"] or f"{line['package']}/__init__.py": line["words"] for line in found}
    modules = {path.relative_to(SUPPORT).as_posix(): first_line(path) for path in SUPPORT.rglob("*.py")}
    del modules["__init__.py"]
    assert shown == modules
    assert all(modules.values())

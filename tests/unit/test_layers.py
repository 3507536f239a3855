"""Imports go down the layers, and each library stays where the design puts it."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "goqueue"

#: From the ground up, by what a module's name begins with; the longest beginning that fits counts. A module
#: imports from its own line and from those above it. None is left out.
LAYERS = (
    ("errors", "forks"),
    ("failpoints", "garbage"),
    ("jobs",),
    ("config",),
    ("contents",),
    ("observability",),
    ("db",),
    ("migrations",),
    ("audit",),
    ("engine",),
    ("access",),
    # Standard Webhooks: whoever sends something signed, a type's jobs or events.
    ("webhooks.signatures",),
    # What is known of types that are declared from outside; `remote` itself stands on workers.
    (
        "remote.declaration",
        "remote.declared_schema",
        "remote.declared_type_rows",
        "remote.declared_types",
        "remote.type_declarations",
    ),
    ("scheduler",),
    ("limits",),
    ("dispatch",),
    ("schedules",),
    ("insight",),
    ("bulk",),
    ("events",),
    ("webhooks",),
    ("middleware",),
    ("worker",),
    ("remote",),
    ("instance",),
    ("",),
    ("actors",),
    ("api",),
    ("dashboard",),
    # Roles that know the rows of several subjects, or what was declared in Python, and the process that runs
    # all of them.
    ("scheduler.cleaner", "scheduler.horizon_watch", "scheduler.process", "schedules.service"),
    ("ops",),
    ("dev",),
    ("cli", "wsgi", "__main__"),
)
RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}

#: A library, and the modules that may import it, as patterns of their paths.
HOMES = {
    "sqlalchemy": (
        "db/*",
        "*_rows.py",
        "engine/transitions/*",
        "migrations/*",
        # A filter is a piece of SQL; what inserts within a transaction takes its connection.
        "engine/listing/filters.py",
        "engine/create.py",
    ),
    "psycopg": ("db/*", "*_rows.py", "engine/transitions/*", "migrations/*", "dev/embedded.py"),
    "alembic": ("migrations/*",),
    "dramatiq": (
        "worker/*",
        "middleware/*",
        "actors/*",
        "engine/options/*",
        "engine/chains.py",
        "schedules/declared.py",
        "instance.py",
        "ops/worker_command.py",
    ),
    "falcon": ("api/*", "dashboard/*"),
    "redis": ("engine/runway/*", "dev/embedded.py"),
    "authlib": ("dashboard/access/openid/*",),
    "joserfc": ("dashboard/access/openid/*",),
    "opentelemetry": ("observability/tracing/*",),
}

#: Modules that compute and nothing else: no driver, no HTTP, no clock of their own.
PURE = ("*rules.py", "*/settings.py", "*_settings.py", "insight/explain/*")

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """A module's name below `goqueue`, dotted; the package itself is the empty one."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def rank_of(name: str) -> int:
    """The layer of a module, by the longest beginning of its name that has one."""
    parts = name.split(".")
    beginnings = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return RANKS[next(beginning for beginning in beginnings if beginning in RANKS)]


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in a tree, except for type checking alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield node.module
            if node.module == "goqueue":
                yield from (f"goqueue.{alias.name}" for alias in node.names)
        yield from imports_of(node)


def parsed(path: Path) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse(path.read_text())


NAMES = {name_of(path) for path in MODULES}

#: What only holds others: importing a module runs its package first, which imports nothing.
PACKAGES = {name_of(path) for path in MODULES if path.name == "__init__.py"}


def imported_modules(path: Path) -> set[str]:
    """The modules of the package that one imports, by their names below `goqueue`."""
    found = set()
    for node in ast.walk(without_type_checking(parsed(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        else:
            continue
        found |= {name.removeprefix("goqueue.") for name in names if name.startswith("goqueue.")}
    return found & NAMES


def without_type_checking(tree: ast.Module) -> ast.Module:
    """The tree without what is imported for the type checker alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    return tree


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    """A module imports from its own layer and from those below, never from above."""
    rank = rank_of(name_of(path))
    assert [name for name in imported_modules(path) if rank_of(name) > rank] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Inside a package there is an order as well."""
    graph = {name_of(path): imported_modules(path) - PACKAGES for path in MODULES}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_stay_at_home(path: Path) -> None:
    """Each library is imported only where the design puts it."""
    below = path.relative_to(PACKAGE).as_posix()
    wrong = [
        name
        for name in imports_of(parsed(path))
        if (homes := HOMES.get(name.partition(".")[0])) and not any(fnmatch(below, home) for home in homes)
    ]
    assert wrong == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_transitions_write_the_state_of_a_job(path: Path) -> None:
    """`UPDATE jobs SET status` stands in `engine/transitions`, and `INSERT INTO jobs` in one file."""
    below = path.relative_to(PACKAGE).as_posix()
    if below.startswith("migrations/"):
        return
    text = path.read_text()
    changes: list[str] = re.findall(r"UPDATE jobs\s+SET (.*?)(?:WHERE|FROM|RETURNING)", text, re.DOTALL)
    writes_status = any(re.search(r"(?:^|,)\s*status =", change) for change in changes)
    assert not writes_status or below.startswith("engine/transitions/")
    assert "INSERT INTO jobs " not in text or below == "engine/new_job_rows.py"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_created_jobs_are_counted_at_one_door(path: Path) -> None:
    """A job that came by another one would be missing in the metrics, or be there twice."""
    below = path.relative_to(PACKAGE).as_posix()
    if below in {"engine/create.py", "observability/metrics.py"}:
        return
    assert not re.search(r"JOBS_(CREATED|DEDUPLICATED)", path.read_text())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_configuration_reads_the_environment(path: Path) -> None:
    """Nobody but `config/settings.py` looks at environment variables."""
    if path == PACKAGE / "config" / "settings.py":
        return
    reads = [
        ast.unparse(node)
        for node in ast.walk(parsed(path))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"})
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and node.names[0].name in {"environ", "getenv"}
        )
    ]
    assert reads == []


def test_no_two_classes_have_one_name() -> None:
    """Whoever looks for a class by its name finds one; what a module keeps to itself is not counted."""
    names = Counter(
        node.name
        for path in MODULES
        for node in parsed(path).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_the_domain_is_pure() -> None:
    """Errors and jobs import nothing but the standard library and each other."""
    for part in ("errors", "jobs"):
        for name in imports_of(parsed(PACKAGE / f"{part}.py")):
            assert name.partition(".")[0] in sys.stdlib_module_names


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in MODULES
        if any(fnmatch(path.relative_to(PACKAGE).as_posix(), one) for one in PURE)
        and not path.name.endswith("_rows.py")
    ],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_rules_need_no_server(path: Path) -> None:
    """They import the standard library, the package, and libraries that only compute."""
    for name in imports_of(parsed(path)):
        package = name.partition(".")[0]
        assert package in sys.stdlib_module_names | {
            "goqueue",
            "pydantic",
            "pydantic_core",
            "pydantic_settings",
            "dotenv",
            "orjson",
            "cronsim",
        }

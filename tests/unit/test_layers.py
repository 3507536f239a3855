"""Imports go down the layers, and each library stays where the design puts it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "goqueue"

#: From the ground up: a module may import from its own layer's earlier lines and from below.
LAYERS = [
    ("errors", "example_secrets", "redaction", "redis_url", "forks"),
    ("config",),
    ("jobs",),
    ("rules",),
    ("tracing",),
    ("failpoints", "logging", "metrics", "models"),
    ("alert_rules", "shared_metrics"),
    ("monitoring_server",),
    ("sqlstates", "server_connection"),
    ("db",),
    ("store",),
    ("middleware",),
    ("broker",),
    ("submit",),
    ("declare", "control"),
    ("actors",),
    ("services",),
    ("migrations",),
    ("api",),
    ("dashboard",),
]
RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}

#: A library, and the parts of the package that may import it.
HOMES = {
    "sqlalchemy": {"models", "db", "store", "migrations", "submit", "control"},
    "alembic": {"migrations"},
    "psycopg": {"sqlstates", "server_connection", "db", "store", "embedded"},
    "dramatiq": {
        "middleware",
        "broker",
        "submit",
        "declare",
        "control",
        "actors",
        "worker_command",
    },
    "falcon": {"api", "dashboard"},
    "redis": {"broker", "embedded"},
    "opentelemetry": {"tracing"},
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """The part of the package that a module belongs to: its first name below `goqueue`."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


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


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    """A module of a layer imports from its own part and from layers below, never from above or beside."""
    part = part_of(path)
    if part not in RANKS:
        return
    for name in imports_of(parsed(path)):
        package, _, rest = name.partition(".")
        imported = rest.partition(".")[0]
        if package != "goqueue" or imported == part or imported not in RANKS:
            continue
        assert RANKS[imported] < RANKS[part], f"{part} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_stay_at_home(path: Path) -> None:
    """Each library is imported only where the design puts it."""
    part = part_of(path)
    for name in imports_of(parsed(path)):
        homes = HOMES.get(name.partition(".")[0])
        assert homes is None or part in homes, f"{part} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_configuration_reads_the_environment(path: Path) -> None:
    """Nobody but `config.py` looks at environment variables."""
    if path == PACKAGE / "config.py":
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


def test_the_domain_is_pure() -> None:
    """Errors and jobs import nothing but the standard library and each other."""
    for part in ("errors", "jobs"):
        for name in imports_of(parsed(PACKAGE / f"{part}.py")):
            assert name.partition(".")[0] in sys.stdlib_module_names


@pytest.mark.parametrize("path", sorted((PACKAGE / "rules").rglob("*.py")), ids=lambda path: path.stem)
def test_rules_need_no_server(path: Path) -> None:
    """They import the standard library, each other, the domain, and libraries that only compute."""
    for name in imports_of(parsed(path)):
        package = name.partition(".")[0]
        assert package in sys.stdlib_module_names | {
            "goqueue",
            "pydantic",
            "pydantic_core",
            "orjson",
            "cronsim",
        }

"""Prints what the layout of the package looks like in numbers, to be looked at: `make house`."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[3] / "goqueue"

#: What a part of the package should not exceed without a reason.
ROOT_FILES = 9
PACKAGE_FILES = 25
MODULE_LINES = 300
FUNCTION_LINES = 30
CLASS_METHODS = 15

#: A module of fewer lines that only one other imports is asked why it is one.
SMALL_MODULE_LINES = 60


def main() -> None:
    """Print the numbers, and what exceeds them."""
    texts = {path: path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    lines = {path: len(text.splitlines()) for path, text in texts.items()}
    folders = Counter(path.parent for path in texts if "versions" not in path.parts)
    sections = {
        f"root: at most {ROOT_FILES} files": _over({PACKAGE: folders[PACKAGE]}, ROOT_FILES),
        f"packages: at most {PACKAGE_FILES} files": _over(folders, PACKAGE_FILES),
        f"modules: at most {MODULE_LINES} lines": _over(lines, MODULE_LINES),
        f"functions: at most {FUNCTION_LINES} lines": list(_long_functions(trees)),
        f"classes: at most {CLASS_METHODS} methods": list(_large_classes(trees)),
        f"modules under {SMALL_MODULE_LINES} lines that one other imports": list(_small(trees, lines)),
        "class names that several modules use": list(_repeated_classes(trees)),
    }
    print(f"{len(texts)} files, {sum(lines.values()):,} lines")  # noqa: T201  (this is what it is for)
    for title, found in sections.items():
        print(f"\n{title}: {len(found)} are not", *found, sep="\n  ")  # noqa: T201


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE.parent).as_posix()


def _over(sizes: dict[Path, int] | Counter[Path], most: int) -> list[str]:
    found = sorted(((size, path) for path, size in sizes.items() if size > most), reverse=True)
    return [f"{size:4} {_name(path)}" for size, path in found]


def _long_functions(trees: dict[Path, ast.Module]) -> Iterator[str]:
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1 - _docstring_lines(node)
                if length > FUNCTION_LINES:
                    yield f"{length:4} {_name(path)}:{node.lineno} {node.name}"


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return (first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0


def _large_classes(trees: dict[Path, ast.Module]) -> Iterator[str]:
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                methods = sum(isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) for item in node.body)
                if methods > CLASS_METHODS:
                    yield f"{methods:4} {_name(path)}:{node.lineno} {node.name}"


def _small(trees: dict[Path, ast.Module], lines: dict[Path, int]) -> Iterator[str]:
    importers: dict[str, set[Path]] = defaultdict(set)
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                    importers[name].add(path)
    for path in trees:
        dotted = _name(path).removesuffix(".py").replace("/", ".")
        if path.name != "__init__.py" and lines[path] < SMALL_MODULE_LINES and len(importers[dotted]) == 1:
            yield f"{lines[path]:4} {_name(path)}"


def _repeated_classes(trees: dict[Path, ast.Module]) -> Iterator[str]:
    places: dict[str, list[str]] = defaultdict(list)
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(_name(path))
    for name, paths in sorted(places.items()):
        if len(paths) > 1:
            yield f"{name}: {', '.join(paths)}"


if __name__ == "__main__":
    main()

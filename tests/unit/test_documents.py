"""What the documents point at is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import goqueue
from goqueue.api.operations import OPERATIONS
from goqueue.config.settings import Settings

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "goqueue"

#: Files whose names look like a module's: of an installation, and of deploy/prometheus.
FILES = {"goqueue.env", "goqueue.yml"}

#: What a command of a document writes.
MADE_BY_READERS = {"deploy/prometheus/alerts/objectives.yml"}
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
DEFINED = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_named_test_exists(document: Path) -> None:
    """A test that a document names as its proof is one that runs."""
    named = set(re.findall(r"`(test_\w+)", document.read_text()))
    assert named - DEFINED - {path.stem for path in (ROOT / "tests").rglob("test_*.py")} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_and_path_leads_somewhere(document: Path) -> None:
    """Relative links, and paths in backticks below the source folders, exist."""
    text = document.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    missing = [link for link in links if link and not (document.parent / link).exists()]
    paths = re.findall(r"`((?:goqueue|tests|bench|docs|deploy)/[\w./]+\w)`", text)
    missing += [path for path in paths if not (ROOT / path).exists()]
    assert missing == []


def test_the_commands_of_the_readme_are_targets() -> None:
    """The two commands of the README are targets of the Makefile."""
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake (\w+)", (ROOT / "README.md").read_text()))
    assert {"demo", "test"} <= named
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_of_code_that_is_named_exists(document: Path) -> None:
    """Files that documents name, in backticks or in commands, from the root or below the package, exist."""
    text = document.read_text()
    below_root = re.findall(r"(?<![\w/.-])((?:goqueue|tests|bench|deploy|examples)/[\w./-]*\w)", text)
    missing = [path for path in below_root if not (ROOT / path).exists() and path not in MADE_BY_READERS]
    below_package = re.findall(r"`([a-z][\w/]*(?:\.py|\.lua|/))`", text)
    missing += [
        path for path in below_package if not (PACKAGE / path).exists() and not (ROOT / path).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_dotted_name_leads_somewhere(document: Path) -> None:
    """Modules, what they define and what `goqueue` exports are there under the name that a document uses."""
    names = set(
        re.findall(r"(?<![\w/.-])((?:goqueue|tests|bench|examples)(?:\.[A-Za-z_]+)+)", document.read_text())
    )
    assert [name for name in sorted(names) if not leads_somewhere(name)] == []


def leads_somewhere(name: str) -> bool:
    """Whether a dotted name is a module, something that a module defines, or a text of the code itself."""
    path = ROOT / name.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    parent, _, last = name.rpartition(".")
    if parent == "goqueue" and last in goqueue.__all__:
        return True
    module = (ROOT / parent.replace(".", "/")).with_suffix(".py")
    if module.exists() and last in defined_in(module):
        return True
    # Attributes of spans, and files of a system, look alike.
    return name in FILES or any(f'"{name}"' in path.read_text() for path in PACKAGE.rglob("*.py"))


def defined_in(module: Path) -> set[str]:
    """What the body of a module gives a name to."""
    names = set()
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def test_the_layers_of_the_architecture_are_the_packages() -> None:
    """The list of layers in docs/architecture.md has every package, and no other."""
    layers = (ROOT / "docs" / "architecture.md").read_text().partition("## Layers")[2].split("```")[1]
    beginnings = [re.split(r"\s{2,}", line)[0] for line in layers.splitlines() if line[:1].strip()]
    listed = {name for beginning in beginnings for name in re.findall(r"(\w+)/", beginning)}
    assert listed == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_named_setting_is_one(document: Path) -> None:
    """A variable of the environment that a document names is a setting."""
    named = set(re.findall(r"GOQUEUE_[A-Z_]+[A-Z]", document.read_text()))
    assert named - {f"GOQUEUE_{name.upper()}" for name in Settings.model_fields} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_named_route_is_in_the_openapi_document(document: Path) -> None:
    """A method with a path is an operation of the API, whatever stands where the path has a parameter."""
    named = re.findall(r"\b(GET|POST|PUT|PATCH|DELETE)\s+(/[\w/{}.-]*)", document.read_text())
    patterns = [(method, re.sub(r"\{[^}]*\}", "[^/]+", path)) for method, path in OPERATIONS]
    assert [
        f"{method} {path}"
        for method, path in named
        if not any(
            method == known and re.fullmatch(pattern, path.rstrip("/.") or "/") for known, pattern in patterns
        )
    ] == []

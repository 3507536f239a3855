"""A docstring says what its thing is or does, to somebody who does not see the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from goqueue.api.frame.openapi import request_schemas

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "goqueue"

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function

#: Words that point at something which a hover does not show, or that make a reader put together a question
#: and its answer. A verb, or an article and the thing's noun, say the same at once.
RIDDLES = frozenset({
    "it", "its", "itself", "he", "they", "them", "their", "this", "that", "these", "those", "such", "here",
    "what", "which", "who", "whom", "whose", "why", "how", "when", "where", "whether", "whatever", "wherever",
    "and", "as", "at", "but", "by", "for", "from", "if", "in", "of", "on", "or", "so", "to", "up", "with",
    "also", "not", "nobody", "nothing", "something", "somebody", "everything", "anything", "the same",
})  # fmt: skip

#: A property is read like a value, so "Whether the queue is paused." is its name said in words, as it is
#: in the standard library. A function does something: "Tell whether …".
RIDDLES_OF_PROPERTIES = RIDDLES - {"whether"}

#: A schema of the OpenAPI document has its class's docstring for a description, and stands beside its name
#: there. It is changed where the API is changed.
PUBLISHED = request_schemas().keys() | {"PaymentPayload", "EmailPayload", "WebhookPayload"}

#: Alembic calls these two by name in every migration; what they change is said by the module.
BY_NAME_ALONE = re.compile(r"goqueue/migrations/versions/\d+_\w+\.py (upgrade|downgrade)")

#: What `goqueue worker --help` and `goqueue demo --help` print, below the name of the command.
IN_HELP = {"goqueue/cli.py worker", "goqueue/cli.py demo"}

MODULES = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))


def public_things(tree: ast.Module) -> Iterator[tuple[str, Documented]]:
    """A module, and its public classes, functions and methods, by their names."""
    yield "(module)", tree
    yield from _public_things("", tree)


def _public_things(prefix: str, owner: ast.Module | ast.ClassDef) -> Iterator[tuple[str, Documented]]:
    for node in owner.body:
        if not isinstance(node, ast.ClassDef | Function) or node.name.startswith("_"):
            continue
        if not isinstance(node, ast.ClassDef) and "overload" in _decorators(node):
            continue  # the implementation has the docstring of all
        if node.name not in PUBLISHED:
            yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from _public_things(f"{prefix}{node.name}.", node)


def _decorators(node: Function) -> set[str]:
    return {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}


def fault_of(node: Documented) -> str | None:
    """Tell what is wrong with a docstring, if anything is."""
    text = ast.get_docstring(node)
    if not text:
        return "has none"
    paragraph = " ".join(text.split("\n\n")[0].split())
    sentence = re.match(r".*?(?<!e\.g)(?<!i\.e)[.?](?=\s|$)", paragraph)
    if not sentence:
        return f"has a first sentence without an end: {paragraph!r}"
    words = sentence[0].split()
    if len(words) < 4:
        return f"has a first sentence of less than four words: {sentence[0]!r}"
    is_property = isinstance(node, Function) and bool({"property", "cached_property"} & _decorators(node))
    riddles = RIDDLES_OF_PROPERTIES if is_property else RIDDLES
    bare = [word.strip(",:;.").lower() for word in words]
    if bare[0] in riddles or " ".join(bare[:2]) in riddles:
        return f"begins with a riddle: {sentence[0]!r}"
    return None


def faults_of(module: str) -> list[str]:
    """List the faults of a module's docstrings, each with the line and the thing's name."""
    found = (
        (name, node, fault_of(node))
        for name, node in public_things(ast.parse((ROOT / module).read_text()))
        if f"{module} {name}" not in IN_HELP and not BY_NAME_ALONE.fullmatch(f"{module} {name}")
    )
    return [f"{module}:{getattr(node, 'lineno', 1)} {name} {fault}" for name, node, fault in found if fault]


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_make_sense_with_the_code_hidden(module: str) -> None:
    """A first sentence of four words or more says, without riddles, what its thing is or does."""
    faults = faults_of(module)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("docstring", "fault"),
    [
        pytest.param("Return the connection of a thread.", None, id="verb"),
        pytest.param("The connection of a thread.", None, id="article"),
        pytest.param("A job that waits for others.", None, id="relative clause"),
        pytest.param("Which queue has the most jobs?", "begins with a riddle", id="question"),
        pytest.param("Them, by their own key.", "begins with a riddle", id="pronoun"),
        pytest.param("The same for many jobs.", "begins with a riddle", id="comparison"),
        pytest.param("It does.", "less than four words", id="short"),
        pytest.param("Whether a queue is paused.", "begins with a riddle", id="whether"),
        pytest.param("Return the connection of a thread", "without an end", id="no end"),
        pytest.param("", "has none", id="none"),
    ],
)
def test_faults_are_seen(docstring: str, fault: str | None) -> None:
    """The check itself tells good docstrings from riddles."""
    found = fault_of(ast.parse(f'def thing():\n    """{docstring}"""').body[0])  # type: ignore[arg-type]
    assert found == fault or (found and fault and fault in found)


def test_a_property_may_say_whether() -> None:
    """What is read like a value is named like one."""
    tree = ast.parse('@property\ndef is_paused(self):\n    """Whether the queue is paused."""')
    assert fault_of(tree.body[0]) is None  # type: ignore[arg-type]

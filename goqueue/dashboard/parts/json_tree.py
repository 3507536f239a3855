"""JSON as a tree that can be folded, of a bounded size whatever the document has. Pure."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

__all__ = ["ENTRIES_MAX", "NODES_MAX", "Node", "literal", "pretty", "printable", "tree"]

#: Entries of an object or an array that are shown.
ENTRIES_MAX = 200

#: Values that are shown of a document.
NODES_MAX = 1_500

#: Characters that are shown of a text, and of all texts of a document before every one is cut short.
TEXT_MAX = 2_000
TEXTS_MAX = 100_000
TEXT_SHORT = 60

#: So few values are shown unfolded.
UNFOLDED_NODES = 25


@dataclass(slots=True)
class Node:
    """A value of a document, as a node of its tree.

    Attributes:
        path: names it in its document: the positions on the way to it, "0.3.1".
        name: its name in an object, as a JSON string; its position in an array; None of the whole.
        kind: object, array, string, number, boolean or null.
        text: the value as JSON; of an object or array, nothing.
        cut: characters of the text that are not shown.
        size: entries that it has.
        children: those that are shown.
        is_open: whether it is shown unfolded at first.
    """

    path: str
    name: str | None
    kind: str
    text: str = ""
    cut: int = 0
    size: int = 0
    children: list[Node] = field(default_factory=list)
    is_open: bool = False

    @property
    def hidden(self) -> int:
        """The number of entries that are not shown."""
        return self.size - len(self.children)


def tree(value: Any) -> Node:
    """Make the tree of a JSON value. What is nearer to the root is shown first."""
    shown = _Shown()
    root = shown.node("0", None, value)
    waiting = deque([(root, value)])
    while waiting:
        parent, found = waiting.popleft()
        room = min(ENTRIES_MAX, NODES_MAX - shown.nodes)
        for position, (name, child) in enumerate(islice(_entries(found), room)):
            node = shown.node(f"{parent.path}.{position}", name, child)
            parent.children.append(node)
            if node.size:
                waiting.append((node, child))
    _open(root, everything=shown.nodes <= UNFOLDED_NODES)
    return root


def literal(value: Any) -> str:
    """Write a value as JSON in one line, with what cannot be seen escaped."""
    return printable(json.dumps(value, ensure_ascii=False))


def pretty(value: Any) -> str:
    """Write a JSON value as people write it, in lines."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def printable(text: str) -> str:
    """Escape every character of JSON text that cannot be seen, or that turns others around.

    Such characters are only inside of strings, where an escape means the same.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else _escape(one) for one in text)


@dataclass(slots=True)
class _Shown:
    """What is spent of the bounds."""

    nodes: int = 0
    characters: int = 0

    def node(self, path: str, name: str | None, value: Any) -> Node:
        self.nodes += 1
        if isinstance(value, dict | list):
            kind = "object" if isinstance(value, dict) else "array"
            return Node(path, name, kind, size=len(value))
        if not isinstance(value, str):
            kind = "null" if value is None else "boolean" if isinstance(value, bool) else "number"
            return Node(path, name, kind, literal(value))
        shown = value[: TEXT_MAX if self.characters < TEXTS_MAX else TEXT_SHORT]
        self.characters += len(shown)
        return Node(path, name, "string", literal(shown), cut=len(value) - len(shown))


def _entries(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        return ((_name(name), child) for name, child in value.items())
    return ((str(position), child) for position, child in enumerate(value)) if isinstance(value, list) else ()


def _name(name: str) -> str:
    return literal(name if len(name) <= TEXT_SHORT * 2 else f"{name[: TEXT_SHORT * 2]}…")


def _open(root: Node, *, everything: bool) -> None:
    """Unfold the root, and with few values the others."""
    for node in _walk(root):
        node.is_open = everything or node is root


def _walk(root: Node) -> Iterator[Node]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.children


def _escape(character: str) -> str:
    # As JSON escapes it: two halves beyond the first 65,536 characters.
    halves = character.encode("utf-16-be")
    return "".join(f"\\u{halves[at]:02x}{halves[at + 1]:02x}" for at in range(0, len(halves), 2))

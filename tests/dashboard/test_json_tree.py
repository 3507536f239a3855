"""JSON as a tree: all of a small document, and a bounded part of any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from goqueue.dashboard.parts.json_tree import ENTRIES_MAX, NODES_MAX, TEXT_MAX, Node, literal, tree


def nodes_of(root: Node) -> Iterator[Node]:
    """A node and everything below it."""
    yield root
    for child in root.children:
        yield from nodes_of(child)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (None, "null", "null"),
        (True, "boolean", "true"),
        (1, "number", "1"),
        (1.0, "number", "1.0"),
        (1e308, "number", "1e+308"),
        ('a\n"b', "string", '"a\\n\\"b"'),
    ],
)  # fmt: skip
def test_a_value_is_told_as_json(value: Any, kind: str, text: str) -> None:
    """Each kind is told from the others: 1 is not 1.0."""
    node = tree(value)
    assert (node.kind, node.text, node.size, node.hidden) == (kind, text, 0, 0)


def test_objects_and_arrays_have_their_entries_in_order() -> None:
    """Names are JSON strings, positions are numbers; every node has a path of its own."""
    root = tree({"b": [1, {"x": None}], "a": {}})
    assert [(node.path, node.name, node.kind) for node in nodes_of(root)] == [
        ("0", None, "object"),
        ("0.0", '"b"', "array"),
        ("0.0.0", "0", "number"),
        ("0.0.1", "1", "object"),
        ("0.0.1.0", '"x"', "null"),
        ("0.1", '"a"', "object"),
    ]


def test_a_small_document_is_unfolded() -> None:
    """With few values all are seen at once; with many, those of the first level."""
    assert all(node.is_open for node in nodes_of(tree({"a": [1, 2]})))
    large = tree({"a": list(range(100))})
    assert (large.is_open, large.children[0].is_open) == (True, False)


def test_of_a_wide_level_the_first_entries_are_shown() -> None:
    """The others are counted."""
    root = tree(list(range(1000)))
    assert (len(root.children), root.hidden, root.size) == (ENTRIES_MAX, 1000 - ENTRIES_MAX, 1000)


def test_the_whole_is_bounded_however_it_branches() -> None:
    """Two hundred a level would be millions: what is nearer to the root comes first."""
    root = tree([[[0] * 100] * 100 for _ in range(100)])
    assert len(list(nodes_of(root))) == NODES_MAX
    assert len(root.children) == 100
    assert [len(child.children) for child in root.children[:3]] == [100, 100, 100]


def test_a_deep_document_needs_no_deep_stack() -> None:
    """Each level is one node."""
    value: Any = 1
    for _ in range(5_000):
        value = [value]
    assert len(list(tree(value).path)) == 1


def test_long_texts_are_cut() -> None:
    """What is cut is counted; of many long texts each is cut shorter."""
    node = tree("x" * 1_000_000)
    assert (len(node.text), node.cut) == (TEXT_MAX + 2, 1_000_000 - TEXT_MAX)
    root = tree(["y" * 10_000] * 200)
    assert sum(len(child.text) for child in root.children) < 150_000
    assert all(child.cut for child in root.children)
    assert len(tree({"n" * 100_000: 1}).children[0].name or "") < 200


@pytest.mark.parametrize(
    "text",
    ["\u202edrow", "\x7f", "\x1b[0m", "\u2028", "a\u200bb", "\U000e0001", "\N{PILE OF POO} ok"],
)
def test_what_cannot_be_seen_is_escaped(text: str) -> None:
    """A literal reads as the same text, and has nothing invisible in it."""
    written = literal(text)
    assert written.isprintable()
    assert json.loads(written) == text

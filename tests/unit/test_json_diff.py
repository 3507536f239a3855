"""What changed between two JSON documents."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.engine.json_diff import ABSENT, Change, differences

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.0, 1.0, 1.5])
    | st.text("a~/0", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("a~/0", max_size=2), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("/a", 1, 2)]),
        ({"a": 1}, {}, [("/a", 1, ABSENT)]),
        ({}, {"a": None}, [("/a", ABSENT, None)]),
        ({"a": None}, {"a": 0}, [("/a", None, 0)]),
        ({"a": 1}, {"a": True}, [("/a", 1, True)]),
        ({"a": 1}, {"a": 1.0}, [("/a", 1, 1.0)]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3, 4]}}, [("/a/b/1", 2, 3), ("/a/b/2", ABSENT, 4)]),
        ({"a": [1]}, {"a": {"0": 1}}, [("/a", [1], {"0": 1})]),
        ({"a/b": 1, "c~d": 1}, {"a/b": 2, "c~d": 2}, [("/a~1b", 1, 2), ("/c~0d", 1, 2)]),
        ({"": 1}, {"": 2}, [("/", 1, 2)]),
        ([], {}, [("", [], {})]),
    ],
    ids=[
        "equal",
        "value",
        "removed",
        "added null",
        "null to zero",
        "one is not true",
        "one is not one point nothing",
        "inside",
        "another kind",
        "escaped names",
        "empty name",
        "whole document",
    ],
)
def test_differences(before: Any, after: Any, changes: list[tuple[str, Any, Any]]) -> None:
    """Each innermost value that differs is told once, with its JSON Pointer."""
    found = list(differences(before, after))
    assert found == [Change(*change) for change in changes]
    assert [tuple(map(type, change)) for change in found] == [tuple(map(type, change)) for change in changes]


@given(JSON, JSON)
def test_the_changes_lead_from_one_to_the_other(before: Any, after: Any) -> None:
    """Applied to the first document, the changes make the second; equal documents have none."""
    changes = list(differences(before, after))
    assert repr(applied(before, changes)) == repr(applied(after, []))
    assert list(differences(after, after)) == []
    assert len({change.path for change in changes}) == len(changes)


def applied(document: Any, changes: list[Change]) -> Any:
    """The document with the changes, its names in order."""
    holder = [copy.deepcopy(document)]
    # From the last on, so that a removed item does not move those before it.
    removed = [change for change in reversed(changes) if change.after is ABSENT]
    for change in [*removed, *(change for change in changes if change.after is not ABSENT)]:
        parent: Any = holder
        names = ["0", *change.path.split("/")[1:]]
        for name in names[:-1]:
            parent = parent[int(name)] if isinstance(parent, list) else parent[unescaped(name)]
        put(parent, names[-1], change.after)
    return in_order(holder[0])


def put(parent: Any, name: str, value: Any) -> None:
    """Set, add or remove one value."""
    key: Any = int(name) if isinstance(parent, list) else unescaped(name)
    if value is ABSENT:
        del parent[key]
    elif isinstance(parent, list) and key == len(parent):
        parent.append(value)
    else:
        parent[key] = value


def unescaped(name: str) -> str:
    """A name out of a JSON Pointer."""
    return name.replace("~1", "/").replace("~0", "~")


def in_order(value: Any) -> Any:
    """A document whose names are sorted."""
    if isinstance(value, dict):
        return {name: in_order(value[name]) for name in sorted(value)}
    return [in_order(item) for item in value] if isinstance(value, list) else value

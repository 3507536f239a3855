"""Schema hashes: the same for the same schema in every process, another one for another."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, create_model

from goqueue.engine.options.job_type import JobType
from goqueue.engine.options.known_types import KnownTypes, schema_hash
from goqueue.engine.options.payload_schema import schema_of
from goqueue.jobs import RetryPolicy

ROOT = Path(__file__).parents[2]

FIELDS = st.dictionaries(
    st.from_regex("[a-z]{1,8}", fullmatch=True),
    st.sampled_from([int, str, list[int], set[str], tuple[int, str], tuple[str, int]]),
    max_size=5,
)

#: A schema that is full of what Python keeps in sets, whose order differs by process.
PROGRAM = """
from goqueue.engine.options.known_types import schema_hash
from pydantic import BaseModel, Field
class Payload(BaseModel):
    tags: set[str] = {"alpha", "beta", "gamma", "delta", "epsilon"}
    kinds: frozenset[str] = Field(frozenset("abcdefgh"), examples=[list({"x", "y", "z"})])
    order: int
print(schema_hash("charge", Payload.model_json_schema()))
"""


def hash_of(fields: dict[str, Any]) -> str:
    """The hash of a payload's schema that has these fields, in their order."""
    definitions: dict[str, Any] = {name: (kind, ...) for name, kind in fields.items()}
    model = create_model("Payload", **definitions)
    return schema_hash("charge", TypeAdapter(model).json_schema())


@given(FIELDS, st.randoms(use_true_random=False))
def test_the_order_of_fields_plays_no_part(fields: dict[str, Any], random: Any) -> None:
    """A model whose fields stand in another order has the same hash."""
    names = list(fields)
    random.shuffle(names)
    assert hash_of({name: fields[name] for name in names}) == hash_of(fields)


@given(FIELDS, FIELDS)
def test_other_fields_have_another_hash(fields: dict[str, Any], others: dict[str, Any]) -> None:
    """Two payloads have the same hash exactly if they have the same fields of the same types."""
    assert (hash_of(fields) == hash_of(others)) == (fields == others)


def test_a_hash_is_the_same_in_every_process() -> None:
    """However Python orders its sets: processes with other seeds make the same hash."""
    hashes = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in range(1, 5)
    }
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("name", "schemas"),
    [
        pytest.param("a type more", {"charge": "1", "refund": "2"}, id="a type more"),
        pytest.param("another schema", {"charge": "2"}, id="another schema"),
        pytest.param("another name", {"refund": "1"}, id="another name"),
    ],
)
def test_a_signature_says_what_is_known(name: str, schemas: dict[str, str]) -> None:
    """Processes that know something else have another signature."""
    known = KnownTypes({"charge": "1"})
    assert KnownTypes(schemas).signature != known.signature, name
    assert KnownTypes({"charge": "1"}).signature == known.signature


@given(st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=4))
def test_the_order_of_declaration_plays_no_part(schemas: dict[str, str]) -> None:
    """A process that declares its types in another order knows the same."""
    backwards = dict(reversed(schemas.items()))
    assert KnownTypes(backwards).signature == KnownTypes(schemas).signature


def plain(order):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, D103  (plain Dramatiq code)
    return order


def plain_with_another(order, currency="EUR"):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, D103
    return order, currency


@pytest.mark.parametrize("function", [plain, plain_with_another])
def test_parameters_tell_versions_of_a_plain_actor_apart(function: Callable[..., Any]) -> None:
    """A plain Dramatiq actor has no schema; the names of its parameters are part of the hash."""

    def typed(called: Callable[..., Any]) -> JobType:
        schema, style = schema_of(called)
        return JobType("count", "q", schema, style, RetryPolicy(), 1.0, signature=inspect.signature(called))

    same = function is plain
    assert (typed(function).schema_hash() == typed(plain).schema_hash()) is same
    assert typed(function).takes('{"args": [1, "USD"]}') is not same

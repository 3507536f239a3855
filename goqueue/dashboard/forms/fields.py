"""The fields of a form of a payload. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["Field", "FieldKind", "all_fields"]


class FieldKind(StrEnum):
    """The kinds of fields, by how they are filled in."""

    TEXT = "text"
    #: In lines.
    LONG_TEXT = "long_text"
    DATE = "date"
    INTEGER = "integer"
    NUMBER = "number"
    #: A box: false where it is not checked.
    CHECK = "check"
    #: One of some values, each by its JSON text; so is a truth value that may be left out.
    CHOICE = "choice"
    #: One simple value a line.
    LIST = "list"
    JSON = "json"
    GROUP = "group"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a form, or a group of fields.

    Attributes:
        path: of the value in the payload; of the whole payload, empty.
        required: the payload has to have it, where it has what the field lies in.
        nullable: null is one of its values.
        default: what the schema says it is when it is left out.
        has_default: whether it says so.
        is_prefilled: the form begins with the default; else leaving the field empty means it.
        choices: the JSON texts of the values of a choice.
        item: what a line of a list is.
        limits: what is expected of its value, in words.
        fields: of a group.
    """

    path: tuple[str, ...]
    kind: FieldKind
    required: bool = False
    nullable: bool = False
    description: str = ""
    default: Any = None
    has_default: bool = False
    is_prefilled: bool = False
    choices: tuple[str, ...] = ()
    item: Field | None = None
    limits: str = ""
    fields: tuple[Field, ...] = field(default=())

    @property
    def name(self) -> str:
        """The name of the field in the form: no two fields have the same."""
        return ".".join(("payload", *(step.replace("\\", "\\\\").replace(".", "\\.") for step in self.path)))

    @property
    def key(self) -> str:
        """The path under which the validation of a payload says that the value is wrong."""
        return ".".join(("payload", *self.path))

    @property
    def label(self) -> str:
        """The name of the field in the payload."""
        return self.path[-1] if self.path else "payload"


def all_fields(fields: tuple[Field, ...]) -> Iterator[Field]:
    """Return the fields and those in their groups."""
    for one in fields:
        yield one
        yield from all_fields(one.fields)

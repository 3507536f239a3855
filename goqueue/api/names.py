"""How many names an object of a request may have."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticCustomError

__all__ = ["MAX_NAMES", "expect_few_names"]

MAX_NAMES = 64


def expect_few_names(document: Any) -> Any:
    """The same, where it is no object with more names than any of ours has.

    Each unknown name becomes an error with a place of its own, which costs a hundred times what it says.

    Raises:
        PydanticCustomError: there are too many.
    """
    if isinstance(document, dict) and len(document) > MAX_NAMES:
        raise PydanticCustomError("names", "expected at most {most} names", {"most": MAX_NAMES})
    return document

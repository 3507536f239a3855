"""Who is sent compressed answers."""

from __future__ import annotations

import pytest
from falcon import Request
from falcon.testing import create_environ
from hypothesis import given
from hypothesis import strategies as st

from goqueue.api.frame.compression import accepts_gzip


def asks(header: str) -> bool:
    """Whether a request with this header can be answered with gzip."""
    return accepts_gzip(Request(create_environ(headers={"Accept-Encoding": header})))


@pytest.mark.parametrize(
    ("header", "accepts"),
    [
        ("gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("GZip;Q=0.5", True),
        ("x-gzip", True),
        ("*", True),
        ("br;q=1.0, *;q=0.1", True),
        ("deflate,gzip ; q=0.001", True),
        ("", False),
        ("identity", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("*;q=0", False),
        ("gzip;q=x", False),
        ("gzip;q=nan", False),
        ("notgzip", False),
    ],
)
def test_what_a_browser_accepts_is_read(header: str, accepts: bool) -> None:
    """As RFC 9110 says; what cannot be read is no yes."""
    assert asks(header) is accepts


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=80))
def test_no_header_is_an_error(header: str) -> None:
    """Whatever is sent, it is yes or no."""
    assert asks(header) in {True, False}

"""The bytes of what browsers ask the dashboard for."""

from __future__ import annotations


def get(path: str, *, is_live: bool, cookie: str = "", tag: str = "", is_last: bool = False) -> bytes:
    """A request for a page, or, as its poll asks, for its live part; the last one ends the connection."""
    headers = ["Host: localhost", f"Connection: {'close' if is_last else 'keep-alive'}"]
    headers += ["HX-Request: true", "HX-Target: live"] if is_live else []
    headers += [f"Cookie: {cookie}"] if cookie else []
    headers += [f"If-None-Match: {tag}"] if tag else []
    return "\r\n".join([f"GET {path} HTTP/1.1", *headers, "", ""]).encode()

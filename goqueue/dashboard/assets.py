"""The files of the dashboard: read once, named by what is in them, kept by browsers for a year."""

from __future__ import annotations

import hashlib
import mimetypes
from importlib import resources

import falcon

from goqueue.api.frame.compression import MIN_BYTES, accepts_gzip, compressed

__all__ = ["Assets", "AssetsResource"]

FOREVER = "public, max-age=31536000, immutable"


class Assets:
    """The files under `static`, by name, with their versions."""

    def __init__(self) -> None:
        folder = resources.files("goqueue.dashboard") / "static"
        self._files = {
            name: (folder / name).read_bytes()
            for name in (
                "dashboard.css",
                "dashboard.js",
                "theme.js",
                "icon.svg",
                "vendor/htmx.min.js",
                "vendor/idiomorph-ext.min.js",
                "vendor/uPlot.iife.min.js",
                "vendor/uPlot.min.css",
            )
        }
        # Once for all that ask: as small as it gets.
        self._compressed = {
            name: compressed(content, level=9)
            for name, content in self._files.items()
            if len(content) >= MIN_BYTES
        }
        self._versions = {
            name: hashlib.blake2b(content, digest_size=6).hexdigest() for name, content in self._files.items()
        }

    def url(self, name: str) -> str:
        """Return the URL of a file, which changes with what is in it."""
        return f"/dashboard/static/{name}?v={self._versions[name]}"

    def content(self, name: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            falcon.HTTPNotFound: there is no such file.
        """
        try:
            return self._files[name]
        except KeyError:
            raise falcon.HTTPNotFound from None

    def compressed(self, name: str) -> bytes | None:
        """Return a file as gzip; None of one that is too small for it."""
        return self._compressed.get(name)


class AssetsResource:
    """The resource that hands the files to browsers."""

    def __init__(self, assets: Assets) -> None:
        self._assets = assets

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Answer with one file."""
        response.data = self._assets.content(name)
        response.content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        response.set_header("Cache-Control", FOREVER)
        small = self._assets.compressed(name)
        if small is not None and accepts_gzip(request):
            response.data = small
            response.set_header("Content-Encoding", "gzip")
            response.set_header("Vary", "Accept-Encoding")

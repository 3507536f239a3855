"""A browser without scripts: it keeps its cookies, and sends the forms that it was shown."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

from falcon import testing

from goqueue.dashboard.access.guard import FOLDER

_TOKEN = re.compile(r'name="csrf" value="([0-9a-f]{128})"')


class DashboardClient:
    """Asks for pages, and changes things as their forms do.

    Args:
        client: of the application.
        base: where the dashboard is, under the prefix of a namespace.
    """

    def __init__(self, client: testing.TestClient, base: str = "") -> None:
        self.client = client
        self._base = base
        self.cookies: dict[str, str] = {}

    def get(self, path: str, **headers: str) -> testing.Result:
        """A page; headers are named with _ for -."""
        return self._keeping_cookies(
            self.client.simulate_get(self._base + path, headers=_named(headers), cookies=self.cookies)
        )

    def live(self, path: str, **headers: str) -> testing.Result:
        """The live part of a page, as a poll asks for it."""
        return self.get(path, HX_Request="true", HX_Target="live", **headers)

    def token(self) -> str:
        """The token of this browser's forms."""
        if not any(name.startswith("goqueue_session") for name in self.cookies):
            self.get(f"{FOLDER}/login")
        found = _TOKEN.search(self.get(f"{FOLDER}/login").text)
        assert found, "the login has a form with a token"
        return found[1]

    def post(self, path: str, **fields: Any) -> testing.Result:
        """Send a form, with its token, from a page of ours."""
        body = urlencode({"csrf": self.token()} | fields, doseq=True)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
        return self._keeping_cookies(
            self.client.simulate_post(self._base + path, body=body, headers=headers, cookies=self.cookies)
        )

    def _keeping_cookies(self, result: testing.Result) -> testing.Result:
        for name, cookie in result.cookies.items():
            if cookie.max_age == 0 or not cookie.value:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = cookie.value
        return result


def form_secret(token: str) -> bytes:
    """Return what a token of a form hides behind its mask, which is another one in each answer."""
    mask, masked = bytes.fromhex(token[:64]), bytes.fromhex(token[64:])
    return bytes(one ^ other for one, other in zip(mask, masked, strict=True))


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}

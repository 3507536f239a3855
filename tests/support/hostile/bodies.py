"""Bodies that cost more than they weigh, and a child process in which each of them is sent to the API.

`python -m tests.support.hostile.bodies` sends each in a process of its own, which may take 200 MiB more than
it has and five seconds of CPU, and prints what became of it, as JSON: status and length of the answer, or a
status below zero where the process was ended.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

MIB = 1024 * 1024
MEMORY_BYTES = 200 * MIB
CPU_SECONDS = 5

ONE = "/jobs/create"
MANY = "/jobs/batch"
LOGIN = "/dashboard/login"


def filled(start: bytes, part: bytes, end: bytes, size: int) -> bytes:
    """Repeat a part as often as fits."""
    return start + part * ((size - len(start) - len(end)) // len(part)) + end


def _names(count: int) -> bytes:
    return b",".join(b'"%d":0' % number for number in range(count))


def _jobs(job: bytes, size: int) -> bytes:
    return filled(b'{"jobs":[' + job, b"," + job, b"]}", size)


_LARGE = 32 * MIB
_PAYLOAD = b'{"queue":"email","payload":'

_STRING_OF_PAIRS = b'"' + b"\\ud83d\\ude00" * 80_000 + b'"'
_WIDE_STRING = b'"\xf0\x9f\x98\x80' + b"a" * 1_000_000 + b'"'

#: Path and body; every one of them is refused.
BODIES: Mapping[str, tuple[str, Callable[[], bytes]]] = {
    "unknown names in a job": (ONE, lambda: _PAYLOAD + b"{}," + _names(120_000) + b"}"),
    "unknown names in a batch": (MANY, lambda: b'{"jobs":[' + _PAYLOAD + b"{}," + _names(240_000) + b"}]}"),
    "unknown names in 8,000 jobs": (
        MANY,
        lambda: b'{"jobs":[' + b",".join([_PAYLOAD + b"{}," + _names(28) + b"}"] * 8_000) + b"]}",
    ),
    "unknown names of unique": (ONE, lambda: _PAYLOAD + b'{},"unique":{' + _names(100_000) + b"}}"),
    "unknown names of a payload": (ONE, lambda: _PAYLOAD + b"{" + _names(120_000) + b"}}"),
    "wrong parents": (MANY, lambda: _jobs(_PAYLOAD + b'{},"depends_on":[' + b"-1," * 99 + b"-1]}", 2 * MIB)),
    "wrong tags": (ONE, lambda: filled(_PAYLOAD + b'{},"tags":[0', b",0", b"]}", MIB)),
    "a chain of wrong jobs": (
        ONE,
        lambda: _PAYLOAD + b'{},"then":[' + b",".join([b"{" + _names(60) + b"}"] * 1_000) + b"]}",
    ),
    "objects": (MANY, lambda: filled(b'{"jobs":[{}', b",{}", b"]}", _LARGE)),
    "objects and a NaN": (MANY, lambda: filled(b"[NaN", b",{}", b"]", _LARGE)),
    "few objects and a NaN": (MANY, lambda: filled(b"[NaN", b",{}", b"]", 1_400_000)),
    "objects in objects": (MANY, lambda: filled(b"[", b'{"a":{"b":{}}},', b"0]", _LARGE)),
    "lists": (MANY, lambda: filled(b"[[]", b",[]", b"]", _LARGE)),
    "numbers": (MANY, lambda: filled(b"[0", b",0", b"]", _LARGE)),
    "opening brackets": (MANY, lambda: b"[" * _LARGE),
    "levels": (MANY, lambda: b"[" * 240_000 + b"]" * 240_000),
    "a list of lists of 33 levels": (
        MANY,
        lambda: filled(b"[0", b"," + b"[" * 33 + b"]" * 33, b"]", 800_000),
    ),
    "quotation marks": (MANY, lambda: b"[" * 33 + b'"' * (_LARGE - 40)),
    "empty strings": (MANY, lambda: filled(b'[""', b',""', b"]", _LARGE)),
    "escaped quotation marks": (MANY, lambda: filled(b'["', b'\\"', b'"]', _LARGE)),
    "commas in a string": (MANY, lambda: filled(b'["', b",", b'"]', _LARGE)),
    "backslashes": (MANY, lambda: filled(b'["', b"\\\\", b'"]', _LARGE)),
    "a pair of escapes": (MANY, lambda: filled(b'["\\ud83d\\ude00', b"a", b'"]', _LARGE)),
    "a half of a pair": (MANY, lambda: filled(b'["\\ud83d', b"a", b'"]', _LARGE)),
    "values and a half of a pair": (MANY, lambda: filled(b'["\\ud83d"', b",[]", b"]", 1_400_000)),
    "pairs of escapes in many strings": (MANY, lambda: filled(b"[0", b"," + _STRING_OF_PAIRS, b"]", _LARGE)),
    "wide characters in many strings": (MANY, lambda: filled(b"[0", b"," + _WIDE_STRING, b"]", _LARGE)),
    "pairs of escapes": (MANY, lambda: filled(b'["', b"\\ud83d\\ude00", b'"]', _LARGE)),
    "halves of pairs": (MANY, lambda: filled(b'["', b"\\ud83d", b'"]', _LARGE)),
    "a NUL": (MANY, lambda: filled(b'["\\u0000', b"a", b'"]', _LARGE)),
    "a wide character": (MANY, lambda: filled(b'["\xf0\x9f\x98\x80', b"a", b'"]', _LARGE)),
    "wide characters": (MANY, lambda: filled(b'["', b"\xf0\x9f\x98\x80", b'"]', _LARGE)),
    "wide and narrow characters": (MANY, lambda: filled(b'["', b"\xf0\x9f\x98\x80aaaa", b'"]', _LARGE)),
    "hardly a wide character": (MANY, lambda: filled(b'["', b"\xf0\x9f\x98\x80" + b"a" * 30, b'"]', _LARGE)),
    "two bytes wide": (MANY, lambda: filled(b'["\xe2\x82\xac', b"a", b'"]', _LARGE)),
    "no UTF-8 at the end": (MANY, lambda: filled(b'["\xf0\x9f\x98\x80', b"a", b'\xff"]', _LARGE)),
    "spaces": (MANY, lambda: b" " * _LARGE),
    "lines": (MANY, lambda: b"\n" * _LARGE),
    "a long integer": (MANY, lambda: b"9" * _LARGE),
    "long integers": (MANY, lambda: filled(b"[0", b"," + b"9" * 4_000, b"]", _LARGE)),
    "a long fraction": (MANY, lambda: b"0." + b"1" * (_LARGE - 2)),
    "a long exponent": (MANY, lambda: b"1e" + b"9" * (_LARGE - 2)),
    "fractions": (MANY, lambda: filled(b"[0", b"," + b"0." + b"1" * 70, b"]", _LARGE)),
    "names": (MANY, lambda: b"{" + _names(240_000) + b"}"),
    "the same name": (MANY, lambda: filled(b'{"a":0', b',"a":0', b"}", 1_400_000)),
    "long names": (
        MANY,
        lambda: b"{" + b",".join(b'"%d%s":0' % (n, b"a" * 8_000) for n in range(4_000)) + b"}",
    ),
    "long names in a job": (ONE, lambda: _PAYLOAD + b"{}," + b'"' + b"\xc3\xa9" * 400_000 + b'":0}'),
    "fields of a form": (LOGIN, lambda: filled(b"a=b", b"&a=b", b"", 4 * MIB)),
    "names of a JSON form": (LOGIN, lambda: b"{" + _names(240_000) + b"}"),
    "levels of a JSON form": (LOGIN, lambda: b"[" * 100_000 + b"]" * 100_000),
}


def main() -> None:
    """Send every body; what became of each is printed."""
    from pydantic import SecretStr  # noqa: PLC0415

    from goqueue.api.app import create_app  # noqa: PLC0415  (only this process is measured)
    from goqueue.config.settings import Settings  # noqa: PLC0415
    from goqueue.dashboard.site import DASHBOARD  # noqa: PLC0415

    # With a secret of its own, a login asks no database; the host is the one that falcon.testing names.
    common: dict[str, Any] = {
        "allowed_hosts": ("falconframework.org",),
        "session_secret": SecretStr("x" * 32),
    }
    app = create_app(Settings(api_keys=("0" * 64,), **common), site=DASHBOARD)
    open_app = create_app(Settings(**common), site=DASHBOARD)
    wanted = sys.argv[1:] or list(BODIES)
    json.dump(
        {name: _sent(app if BODIES[name][0] == LOGIN else open_app, name) for name in wanted}, sys.stdout
    )


def _sent(app: Any, name: str) -> tuple[int, int]:
    """Status and length of the answer, from a child process."""
    path, make = BODIES[name]
    body = make()
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        try:
            _limit()
            os.write(writes, json.dumps(_ask(app, path, body)).encode())
        except BaseException:  # noqa: BLE001  (the child ends here, whatever happened)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writes)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reads, "rb") as pipe:
        told = pipe.read()
    return tuple(json.loads(told)) if told else (-status, 0)


def _limit() -> None:
    with open("/proc/self/statm") as statm:  # noqa: PTH123  (two system calls, and no objects)
        pages = int(statm.read().split()[0])
    memory = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))


def _ask(app: Any, path: str, body: bytes) -> tuple[int, int]:
    import io  # noqa: PLC0415

    from falcon import testing  # noqa: PLC0415

    is_form = path == LOGIN and not body.startswith((b"{", b"["))
    kind = "application/x-www-form-urlencoded" if is_form else "application/json"
    headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Sec-Fetch-Site": "same-origin"}
    environ = testing.create_environ(path=path, method="POST", headers=headers)
    environ["wsgi.input"] = io.BytesIO(body)
    statuses: list[str] = []
    answer = b"".join(app(environ, lambda status, _headers: statuses.append(status)))
    return int(statuses[0][:3]), len(answer)


if __name__ == "__main__":
    main()

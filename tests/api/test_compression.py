"""Answers are compressed on their way, and say the same."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from typing import Any

import pytest
from falcon import testing

from goqueue.api.frame.compression import MIN_BYTES
from tests.support.dashboard.client import DashboardClient
from tests.support.factories import JobFactory

Create = Callable[..., dict[str, Any]]

GZIP = {"Accept_Encoding": "gzip, deflate, br"}

#: What is another one in each answer.
TOKEN = re.compile(rb"[0-9a-f]{128}")


def opened(answer: testing.Result) -> bytes:
    """What a browser reads."""
    assert answer.headers["Content-Encoding"] == "gzip"
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    return gzip.decompress(answer.content)


@pytest.mark.parametrize(
    "place",
    ["/dashboard", "/dashboard/jobs", "/dashboard/queues", "/openapi.json", "/dashboard/nothing"],
)
def test_pages_and_charts_are_compressed(
    dashboard: DashboardClient, make_job: JobFactory, place: str
) -> None:
    """They are a fraction of their size, the same when they are opened, and say what they vary by."""
    for _ in range(30):
        make_job(queue="noop")
    plain, small = dashboard.get(place), dashboard.get(place, **GZIP)
    assert "Content-Encoding" not in plain.headers
    assert opened(small)[:500] == plain.content[:500]
    assert len(opened(small)) == len(plain.content)
    assert len(small.content) < len(plain.content) / 2
    for answer in (plain, small):
        assert "Accept-Encoding" in answer.headers["Vary"]


def test_a_list_of_many_rows_is_a_tenth(dashboard: DashboardClient, make_job: JobFactory) -> None:
    """A page of fifty jobs is sent in some kilobytes."""
    for _ in range(50):
        make_job(queue="noop")
    small = dashboard.get("/dashboard/jobs", **GZIP)
    assert len(small.content) * 8 < len(opened(small))


def test_a_poll_is_compressed_and_its_tag_stays_good(
    dashboard: DashboardClient, make_job: JobFactory
) -> None:
    """The tag is weak, the same for both forms, and a 304 has no body."""
    for _ in range(20):
        make_job(queue="noop")
    plain, small = dashboard.live("/dashboard/jobs"), dashboard.live("/dashboard/jobs", **GZIP)
    assert opened(small) == plain.content
    assert small.headers["ETag"] == plain.headers["ETag"]
    assert small.headers["ETag"].startswith('W/"')
    for headers in ({}, GZIP):
        known = dashboard.live("/dashboard/jobs", If_None_Match=small.headers["ETag"], **headers)
        assert (known.status_code, known.content) == (304, b"")
        assert "Content-Encoding" not in known.headers
        assert "Accept-Encoding" in known.headers["Vary"]


def test_files_are_compressed(dashboard: DashboardClient) -> None:
    """Scripts and styles as well, once for all; a small one is sent as it is."""
    page = dashboard.get("/dashboard").text
    for place in set(re.findall(r'"(/dashboard/static/[^"]+)"', page)):
        plain, small = dashboard.get(place), dashboard.get(place, **GZIP)
        if len(plain.content) < MIN_BYTES:
            assert small.content == plain.content
            continue
        assert opened(small) == plain.content
        assert len(small.content) < len(plain.content) / 2
        assert small.headers["Content-Type"] == plain.headers["Content-Type"]
        for answer in (plain, small):
            assert "Accept-Encoding" in answer.headers["Vary"]


def test_json_is_compressed(client: testing.TestClient, create: Create) -> None:
    """What REST answers at length, not what fits into a packet; problems of any length can be read."""
    job = create(payload={})
    for _ in range(20):
        create()
    headers = {"Accept-Encoding": "gzip"}
    small = client.simulate_get("/jobs?queue=noop", headers=headers)
    assert opened(small) == client.simulate_get("/jobs?queue=noop").content
    one = client.simulate_get(f"/jobs/{job['id']}/progress", headers=headers)
    assert "Content-Encoding" not in one.headers
    assert "Content-Encoding" not in client.simulate_get("/jobs/77777", headers=headers).headers


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
def test_what_another_site_asked_for_is_not_compressed(
    dashboard: DashboardClient, make_job: JobFactory, site: str
) -> None:
    """Nobody learns from a length what stands beside words that they chose."""
    for _ in range(20):
        make_job(queue="noop")
    answer = dashboard.get("/dashboard/jobs?tag=guess", Sec_Fetch_Site=site, **GZIP)
    assert "Content-Encoding" not in answer.headers
    assert "Sec-Fetch-Site" in answer.headers["Vary"]


def test_no_two_answers_have_the_same_token(dashboard: DashboardClient, make_job: JobFactory) -> None:
    """The token of a form is masked anew, in pages and in live parts, and each of them is accepted."""
    job = make_job("failed")
    place = f"/dashboard/jobs/{job.id}"
    answers = [dashboard.get(place), dashboard.get(place), dashboard.live(place), dashboard.live(place)]
    tokens = [set(TOKEN.findall(answer.content)) for answer in answers]
    assert all(len(found) == 1 for found in tokens)
    assert len(set.union(*tokens)) == 4
    assert len({answer.headers["ETag"] for answer in answers[:2]}) == 1
    token = TOKEN.findall(answers[0].content)[0].decode()
    result = dashboard.client.simulate_post(
        f"{place}/retry",
        body=f"csrf={token}",
        headers={"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"},
        cookies=dashboard.cookies,
    )
    assert result.status_code == 303

"""Dependencies over REST: depends_on, chains, batches with refs, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from falcon import testing

from goqueue.api.dependencies import CreatedDocument, DependenciesDocument
from goqueue.jobs import MAX_JOB_ID
from tests.api.conftest import NOOP
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

Create = Callable[..., dict[str, Any]]
Rows = Callable[[], int]


def status(client: testing.TestClient, job_id: int) -> str:
    """The status of a job."""
    found: str = client.simulate_get(f"/jobs/{job_id}").json["status"]
    return found


def complete(client: testing.TestClient, job_id: int, wanted: str = "completed") -> None:
    """Run a job as a client that runs it itself."""
    for step in ("running", wanted):
        result = client.simulate_put(f"/jobs/{job_id}/status", json={"status": step})
        assert result.status_code == 204, result.text


def batch(client: testing.TestClient, *jobs: dict[str, Any], **headers: str) -> testing.Result:
    """Post a batch of no-op jobs."""
    return client.simulate_post("/jobs/batch", json={"jobs": [NOOP | job for job in jobs]}, headers=headers)


def test_a_job_is_blocked_until_its_parents_complete(client: testing.TestClient, create: Create) -> None:
    """A create with depends_on answers a blocked job, which is queued when the last parent completes."""
    first, second = create(), create()
    child = create(depends_on=[first["id"], second["id"]])
    assert child["status"] == "blocked"
    complete(client, first["id"])
    assert status(client, child["id"]) == "blocked"
    complete(client, second["id"])
    assert status(client, child["id"]) == "queued"


@pytest.mark.parametrize(
    ("policy", "becomes"),
    [
        pytest.param({}, "failed", id="default"),
        pytest.param({"on_parent_failure": "fail"}, "failed", id="fail"),
        pytest.param({"on_parent_failure": "cancel"}, "cancelled", id="cancel"),
        pytest.param({"on_parent_failure": "run"}, "queued", id="run"),
    ],
)
@pytest.mark.parametrize("end", ["status", "cancel"])
def test_a_policy_is_kept(
    client: testing.TestClient, create: Create, policy: dict[str, str], becomes: str, end: str
) -> None:
    """What the create says of a failed parent happens, whether it fails or is cancelled."""
    parent = create()
    child = create(depends_on=[parent["id"]], **policy)
    if end == "status":
        complete(client, parent["id"], "failed")
    else:
        assert client.simulate_post(f"/jobs/{parent['id']}/cancel").status_code == 200
    assert status(client, child["id"]) == becomes


def test_a_blocked_job_is_not_released_by_a_client(client: testing.TestClient, create: Create) -> None:
    """A client may cancel a blocked job, and move it nowhere else."""
    child = create(depends_on=[create()["id"]])
    for wanted in ("queued", "running", "completed", "failed", "expired"):
        result = client.simulate_put(f"/jobs/{child['id']}/status", json={"status": wanted})
        assert result.status_code == 409, wanted
    assert client.simulate_post(f"/jobs/{child['id']}/cancel").json["status"] == "cancelled"


def test_a_chain_is_created_in_one_call(client: testing.TestClient) -> None:
    """`then` creates jobs that each wait for the one before; the answer is the first, and their ids."""
    result = client.simulate_post(
        "/jobs/create", json=NOOP | {"then": [NOOP | {"priority": 3}, NOOP | {"max_retries": 0}]}
    )
    assert result.status_code == 201
    CreatedDocument.model_validate(result.json)
    first, (second, third) = result.json["id"], result.json["then"]
    assert result.headers["location"] == f"/jobs/{first}"
    assert [status(client, job) for job in (first, second, third)] == ["queued", "blocked", "blocked"]
    assert client.simulate_get(f"/jobs/{second}").json["priority"] == 3
    complete(client, first)
    assert [status(client, job) for job in (second, third)] == ["queued", "blocked"]
    complete(client, second)
    assert status(client, third) == "queued"


def test_a_chain_may_wait_itself(client: testing.TestClient, create: Create) -> None:
    """The first job of a chain may have parents; when they fail, the policies decide down the chain."""
    parent = create()
    members = {
        "depends_on": [parent["id"]],
        "on_parent_failure": "cancel",
        "then": [NOOP, NOOP | {"on_parent_failure": "run"}],
    }
    chain = client.simulate_post("/jobs", json=NOOP | members).json
    assert chain["status"] == "blocked"
    complete(client, parent["id"], "failed")
    assert [status(client, job) for job in (chain["id"], *chain["then"])] == ["cancelled", "failed", "queued"]


def test_a_chain_of_a_unique_head_waits_for_the_one_that_is_there(
    client: testing.TestClient, create: Create
) -> None:
    """A suppressed first job is the holder of its key; what follows waits for that one."""
    holder = create(unique={"key": "one"})
    result = client.simulate_post("/jobs/create", json=NOOP | {"unique": {"key": "one"}, "then": [NOOP]})
    assert result.status_code == 201
    CreatedDocument.model_validate(result.json)
    assert (result.json["id"], result.json["deduplicated"]) == (holder["id"], True)
    complete(client, holder["id"])
    assert status(client, result.json["then"][0]) == "queued"


@pytest.mark.parametrize("what", ["one", "chain", "batch"])
def test_a_repeat_with_the_same_key_creates_nothing(
    client: testing.TestClient, create: Create, rows: Rows, what: str
) -> None:
    """Jobs with dependencies are created once per Idempotency-Key, edges and all."""
    parent = create()["id"]
    path, body = {
        "one": ("/jobs/create", NOOP | {"depends_on": [parent]}),
        "chain": ("/jobs/create", NOOP | {"depends_on": [parent], "then": [NOOP]}),
        "batch": (
            "/jobs/batch",
            {"jobs": [NOOP | {"ref": "a", "depends_on": [parent]}, NOOP | {"depends_on": ["a"]}]},
        ),
    }[what]
    answers = [client.simulate_post(path, json=body, headers={"Idempotency-Key": what}) for _ in range(2)]
    assert answers[0].status_code == answers[1].status_code == 201
    assert answers[0].json == answers[1].json
    assert rows() == (2 if what == "one" else 3)
    assert len(client.simulate_get(f"/jobs/{parent}/dependencies").json["children"]) == 1


def test_a_batch_is_a_graph(client: testing.TestClient, create: Create) -> None:
    """Jobs of a batch name each other by ref, forwards and backwards, and jobs that exist by id."""
    old = create()["id"]
    result = batch(
        client,
        {"ref": "d", "depends_on": ["b", "c"]},
        {"ref": "b", "depends_on": ["a"]},
        {"ref": "c", "depends_on": ["a", old]},
        {"ref": "a"},
    )
    assert result.status_code == 201
    d, b, c, a = result.json["ids"]
    assert [status(client, job) for job in (a, b, c, d)] == ["queued", "blocked", "blocked", "blocked"]
    complete(client, a)
    assert [status(client, job) for job in (b, c, d)] == ["queued", "blocked", "blocked"]
    complete(client, old)
    complete(client, b)
    complete(client, c)
    assert status(client, d) == "queued"


def test_the_dependencies_of_a_job_are_told(client: testing.TestClient, create: Create) -> None:
    """GET /jobs/{id}/dependencies lists parents and children with their states."""
    done, open_ = create(), create()
    complete(client, done["id"])
    job = create(depends_on=[done["id"], open_["id"]], on_parent_failure="run")
    child = create(depends_on=[job["id"]])
    result = client.simulate_get(f"/jobs/{job['id']}/dependencies")
    assert result.status_code == 200
    DependenciesDocument.model_validate(result.json)
    link = {"queue": "noop", "type": "noop", "on_parent_failure": "run"}
    assert result.json == {
        "parents": [
            link | {"id": done["id"], "status": "completed", "parent_outcome": "completed"},
            link | {"id": open_["id"], "status": "queued", "parent_outcome": None},
        ],
        "children": [
            link
            | {
                "id": child["id"],
                "status": "blocked",
                "on_parent_failure": "fail",
                "parent_outcome": None,
            }
        ],
        "more_children": False,
    }
    assert client.simulate_get(f"/jobs/{MAX_JOB_ID}/dependencies").status_code == 404


def test_more_children_than_are_listed(client: testing.TestClient, create: Create) -> None:
    """The first 1,000 children are listed, and that there are more is said."""
    parent = create()["id"]
    assert batch(client, *[{"depends_on": [parent]}] * 1001).status_code == 201
    document = client.simulate_get(f"/jobs/{parent}/dependencies").json
    assert (len(document["children"]), document["more_children"]) == (1000, True)


WRONG_CREATES: list[Any] = [
    pytest.param({"depends_on": 5}, "depends_on", id="no list"),
    pytest.param({"depends_on": ["a"]}, "depends_on[0]", id="a ref"),
    pytest.param({"depends_on": [True]}, "depends_on[0]", id="a boolean"),
    pytest.param({"depends_on": [1.5]}, "depends_on[0]", id="a fraction"),
    pytest.param({"depends_on": [0]}, "depends_on[0]", id="zero"),
    pytest.param({"depends_on": [-1]}, "depends_on[0]", id="negative"),
    pytest.param({"depends_on": [None]}, "depends_on[0]", id="null"),
    pytest.param({"depends_on": [MAX_JOB_ID]}, "depends_on[0]", id="no such job"),
    pytest.param({"depends_on": [7, 7]}, "depends_on[1]", id="twice"),
    pytest.param({"depends_on": list(range(1, 1002))}, "depends_on", id="too many"),
    pytest.param({"on_parent_failure": "explode"}, "on_parent_failure", id="unknown policy"),
    pytest.param({"on_parent_failure": 1}, "on_parent_failure", id="policy is a number"),
    pytest.param({"ref": "a"}, "ref", id="ref outside of a batch"),
    pytest.param({"then": []}, "then", id="empty chain"),
    pytest.param({"then": NOOP}, "then", id="chain is no list"),
    pytest.param({"then": [5]}, "then[0]", id="number in a chain"),
    pytest.param({"then": [NOOP, {"queue": "noop"}]}, "then[1].payload", id="no payload in a chain"),
    pytest.param(
        {"then": [NOOP, NOOP | {"payload": {"number": "x"}}]}, "then[1].payload.number", id="wrong payload"
    ),
    pytest.param({"then": [NOOP | {"queue": "nosuch"}]}, "then[0].queue", id="unknown queue in a chain"),
    pytest.param({"then": [NOOP | {"depends_on": [1]}]}, "then[0].depends_on", id="depends_on in a chain"),
    pytest.param({"then": [NOOP | {"then": [NOOP]}]}, "then[0].then", id="a chain in a chain"),
    pytest.param({"then": [NOOP] * 1001}, "then", id="too long a chain"),
    pytest.param({"depends_on": [MAX_JOB_ID], "then": [NOOP]}, "depends_on[0]", id="chain, no such job"),
]


@pytest.mark.parametrize(("members", "field"), WRONG_CREATES)
def test_a_wrong_create_says_what(
    client: testing.TestClient, rows: Rows, members: dict[str, Any], field: str
) -> None:
    """A create that cannot be is a 400 that names the field, and creates nothing."""
    result = client.simulate_post("/jobs/create", json=NOOP | members)
    assert result.status_code == 400, result.text
    assert list(result.json["fields"]) == [field]
    assert rows() == 0


WRONG_BATCHES: list[Any] = [
    pytest.param([{"ref": 5}], "jobs[0].ref", id="ref is a number"),
    pytest.param([{"ref": ""}], "jobs[0].ref", id="empty ref"),
    pytest.param([{"ref": "a\n"}], "jobs[0].ref", id="control character"),
    pytest.param([{"ref": "a"}, {"ref": "a"}], "jobs[1].ref", id="ref twice"),
    pytest.param([{"depends_on": ["b"]}], "jobs[0].depends_on[0]", id="unknown ref"),
    pytest.param([{"depends_on": [{}]}], "jobs[0].depends_on[0]", id="an object"),
    pytest.param([{"depends_on": [True]}], "jobs[0].depends_on[0]", id="a boolean"),
    pytest.param([{}, {"depends_on": [MAX_JOB_ID]}], "jobs[1].depends_on[0]", id="no such job"),
    pytest.param([{"ref": "a"}, {"depends_on": ["a", "a"]}], "jobs[1].depends_on[1]", id="ref waited twice"),
    pytest.param([{"ref": "a", "depends_on": ["a"]}], "jobs[0].depends_on", id="itself"),
    pytest.param(
        [{"ref": "a", "depends_on": ["b"]}, {"ref": "b", "depends_on": ["a"]}],
        "jobs[0].depends_on",
        id="a cycle",
    ),
    pytest.param([{"then": [NOOP]}], "jobs[0].then", id="a chain in a batch"),
    pytest.param([{"on_parent_failure": "x"}], "jobs[0].on_parent_failure", id="unknown policy"),
    pytest.param(
        [{"ref": "a"}, *[{"depends_on": ["a", *range(1, 1000)]}] * 101], "jobs", id="too many dependencies"
    ),
]


@pytest.mark.parametrize(("jobs", "field"), WRONG_BATCHES)
def test_a_wrong_batch_says_what(
    client: testing.TestClient, rows: Rows, jobs: list[dict[str, Any]], field: str
) -> None:
    """A batch whose jobs cannot wait for each other as they say is a 400, and creates nothing."""
    result = batch(client, *jobs)
    assert result.status_code == 400, result.text
    assert list(result.json["fields"]) == [field]
    assert rows() == 0


def test_a_cycle_is_told_in_its_order(client: testing.TestClient) -> None:
    """The problem of a cycle says who waits for whom."""
    result = batch(
        client,
        {"ref": "apart"},
        {"ref": "a", "depends_on": ["b", "apart"]},
        {"ref": "b", "depends_on": ["c"]},
        {"ref": "c", "depends_on": ["a"]},
    )
    (told,) = result.json["fields"].values()
    cycle = ["'a'", "'b'", "'c'", "'a'"]
    turns = [cycle[start:-1] + cycle[: start + 1] for start in range(3)]
    assert told.split(": ")[1].split(" → ") in turns


def test_an_error_in_a_late_job_creates_nothing(
    client: testing.TestClient, make_job: JobFactory, rows: Rows
) -> None:
    """All jobs of a batch exist or none, and a parent that was to be waited for is left as it was."""
    parent = make_job(queue="noop")
    result = batch(client, {"depends_on": [parent.id]}, {"depends_on": [parent.id + 10]})
    assert result.json["fields"] == {"jobs[1].depends_on[0]": f"there is no job {parent.id + 10}"}
    assert rows() == 1
    assert client.simulate_get(f"/jobs/{parent.id}/dependencies").json["children"] == []

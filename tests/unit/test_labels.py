"""Labels: how they are written, by operators and by those who create jobs."""

from __future__ import annotations

from typing import Any

import pytest

from goqueue.config.labels import (
    by_name,
    common_to,
    entries_of,
    labels_of,
    satisfies,
    version_of,
    with_version,
    without_version,
)
from goqueue.config.settings import Settings, environment_of, load_settings
from goqueue.engine.options.dramatiq_options import refuse_message
from goqueue.engine.options.job_options import JobOptions, refuse_wrong
from goqueue.engine.options.request_models import validate
from goqueue.errors import ConfigurationError, InvalidJobError


@pytest.mark.parametrize(
    "said",
    [
        pytest.param("gpu=true,region=eu,cores=8", id="as a list"),
        pytest.param(" gpu , region = eu, cores=8,", id="by hand"),
        pytest.param('{"gpu": true, "region": "eu", "cores": 8}', id="as JSON"),
        pytest.param({"gpu": True, "region": "eu", "cores": 8}, id="in Python"),
    ],
)
def test_labels_are_texts_however_they_are_written(said: Any) -> None:
    """True is "true", a number its digits; the setting goes to a child process as it is."""
    labels = {"gpu": "true", "region": "eu", "cores": "8"}
    assert labels_of(said) == labels
    settings = Settings(worker_labels=said)
    assert settings.worker_labels == labels
    assert labels_of(environment_of(settings)["GOQUEUE_WORKER_LABELS"]) == labels
    assert entries_of(labels) == ("cores=8", "gpu=true", "region=eu")
    assert by_name(entries_of(labels)) == labels


@pytest.mark.parametrize(
    "said",
    [
        pytest.param("gpu=", id="no value"),
        pytest.param("=true", id="no name"),
        pytest.param("a b=c", id="a space"),
        pytest.param('{"gpu": 1.5}', id="a fraction"),
        pytest.param('{"gpu": null}', id="null"),
        pytest.param('{"gpu"', id="no JSON"),
        pytest.param("[1]", id="no object"),
        pytest.param(",".join(f"l{number}" for number in range(21)), id="too many"),
    ],
)
def test_what_is_no_label_ends_the_start(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose labels are wrong says so, and which setting it is."""
    monkeypatch.setenv("GOQUEUE_WORKER_LABELS", said)
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    assert "GOQUEUE_WORKER_LABELS" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("requires", {"gpu": None}),
        ("requires", {"gpu": 1.5}),
        ("requires", {"a=b": "c"}),
        ("requires", {"gpu": "a,b"}),
        ("requires", {f"l{number}": True for number in range(21)}),
        ("requires", ["gpu"]),
        ("slots", 0),
        ("slots", 1001),
        ("slots", "2"),
        ("slots", True),
        ("min_version", -1),
        ("min_version", 1_000_000_000),
        ("min_version", "2"),
        ("min_version", True),
        ("limit_cost", 0),
        ("limit_cost", 10_001),
    ],
)
def test_what_a_job_cannot_require_is_refused(name: str, value: Any) -> None:
    """Over REST and from Python alike, with the name of what is wrong."""
    for refuse in (lambda: validate(JobOptions, {name: value}), lambda: refuse_wrong({name: value})):  # type: ignore[misc]  # that it is wrong is the point
        with pytest.raises(InvalidJobError) as raised:
            refuse()
        assert all(field.partition(".")[0].partition("[")[0] == name for field in raised.value.fields)


@pytest.mark.parametrize("name", ["requires", "slots", "min_version"])
def test_a_message_of_dramatiq_does_not_say_it(name: str) -> None:
    """It is an option of the actor, or of `goqueue.enqueue`."""
    with pytest.raises(InvalidJobError):
        refuse_message({name: 2})


def test_versions_stand_among_labels_as_an_entry_of_their_own() -> None:
    """The first one, which no label can be, and which compares as the number does."""
    entries = with_version(("region=eu", "gpu=true"), 7)
    assert entries == ("!version=0000000007", "gpu=true", "region=eu")
    assert (version_of(entries), without_version(entries)) == (7, ("gpu=true", "region=eu"))
    assert by_name(entries) == {"gpu": "true", "region": "eu"}
    assert with_version(entries, 0) == ("gpu=true", "region=eu")
    assert version_of(()) == 0
    with pytest.raises(ValueError, match="expected names"):
        labels_of({"!version": "7"})


@pytest.mark.parametrize(
    ("labels", "requires", "fits"),
    [
        ((3,), (3,), True),
        ((10,), (9,), True),
        ((3,), (4,), False),
        ((0,), (1,), False),
        ((4, "a=b"), (3, "a=b"), True),
        ((4,), (3, "a=b"), False),
        ((2, "a=b"), (3, "a=b"), False),
        ((2, "a=b"), (0, "a=b"), True),
        ((0,), (0,), True),
    ],
)
def test_a_worker_satisfies_what_needs_no_more(labels: Any, requires: Any, fits: bool) -> None:
    """All labels, and a version that is as high."""
    assert satisfies(with_version(labels[1:], labels[0]), with_version(requires[1:], requires[0])) == fits


def test_workers_have_in_common_the_lowest_version() -> None:
    """And the labels that each of them has; of none there is nothing."""
    sets = [with_version(("a=b", "c=d"), 4), with_version(("a=b",), 10)]
    assert common_to(sets) == with_version(("a=b",), 4)
    assert common_to([*sets, ("a=b",)]) == ("a=b",)
    assert common_to([]) == ()

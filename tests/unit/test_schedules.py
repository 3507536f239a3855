"""What is decided about ticks: jitter, blackouts, catching up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from goqueue.jobs import NewJob
from goqueue.schedules.blackouts import Blackout, DailyBlackout, DatedBlackout, end_of_blackout
from goqueue.schedules.cron_expression import zone_of
from goqueue.schedules.rules import (
    MAX_RECORDED,
    CatchUp,
    ScheduleDefinition,
    Source,
    TickOutcome,
    decide,
    preview,
    ticks,
)
from goqueue.schedules.settings import ScheduleSettings

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)  # a Monday
MINUTE = timedelta(minutes=1)
LATE = 30.0


def schedule(cron: str = "* * * * *", **settings: Any) -> ScheduleDefinition:
    """A definition with these settings, validated as the API does."""
    job = NewJob(queue="noop", type="noop", payload="{}")
    return ScheduleSettings.model_validate({"cron": cron, **settings}).definition("s", job, Source.API)


def fired(definition: ScheduleDefinition, next_at: datetime, now: datetime) -> list[int]:
    """Minutes after noon of the ticks that fire."""
    decision = decide(definition, next_at, now, late_seconds=LATE)
    return [
        int((tick.fire.at - NOON) / MINUTE)
        for tick, outcome in decision.ticks
        if outcome is TickOutcome.FIRED
    ]


@pytest.mark.parametrize("policy", list(CatchUp))
def test_a_tick_on_time_fires_by_any_policy(policy: CatchUp) -> None:
    """A tick that is decided within the slack fires, and the next one is a minute later."""
    decision = decide(schedule(catch_up=policy), NOON, NOON + timedelta(seconds=LATE), late_seconds=LATE)
    assert [outcome for _, outcome in decision.ticks] == [TickOutcome.FIRED]
    assert decision.following is not None
    assert decision.following.fire.at == NOON + MINUTE


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"catch_up": "skip"}, [], id="skip"),
        pytest.param({"catch_up": "once"}, [9], id="once"),
        pytest.param({"catch_up": "all"}, list(range(10)), id="all"),
        pytest.param({"catch_up": "all", "catch_up_max": 3}, [7, 8, 9], id="the newest three"),
        pytest.param({"catch_up": "all", "catch_up_window_seconds": 200}, [7, 8, 9], id="of a window"),
        pytest.param({"catch_up": "once", "catch_up_window_seconds": 20}, [], id="none in the window"),
    ],
)
def test_missed_ticks_follow_the_policy(settings: dict[str, Any], expected: list[int]) -> None:
    """After ten minutes without a scheduler, the policy says which of the ten ticks fire."""
    now = NOON + 10 * MINUTE - timedelta(seconds=20)
    definition = schedule(**settings)
    decision = decide(definition, NOON, now, late_seconds=LATE)
    assert fired(definition, NOON, now) == expected
    assert {outcome for _, outcome in decision.ticks} <= {TickOutcome.FIRED, TickOutcome.MISSED}
    assert decision.following is not None
    assert decision.following.fire.at == NOON + 10 * MINUTE


@pytest.mark.parametrize(("policy", "expected"), [("skip", [10]), ("once", [10]), ("all", list(range(11)))])
def test_a_tick_on_time_stands_for_the_missed(policy: str, expected: list[int]) -> None:
    """By `once`, nothing is made up for when a tick that is on time fires anyway."""
    assert fired(schedule(catch_up=policy), NOON, NOON + 10 * MINUTE + timedelta(seconds=5)) == expected


def test_a_year_away_is_decided_quickly() -> None:
    """However long nobody was there, only the ticks of the window are looked at, and few are recorded."""
    definition = schedule(catch_up="all", catch_up_max=5, catch_up_window_seconds=3600)
    decision = decide(definition, NOON - timedelta(days=365), NOON, late_seconds=LATE)
    outcomes = [outcome for _, outcome in decision.ticks]
    assert outcomes.count(TickOutcome.FIRED) == 6, "five, and the one that is on time"
    assert len(decision.ticks) <= MAX_RECORDED + 7
    assert decision.ticks[0][0].fire.at == NOON - timedelta(days=365), "it tells from when they were missed"


def test_jitter_is_the_same_for_everyone_and_spread() -> None:
    """The delay depends on the schedule's name and the nominal time alone, and fills its range."""
    definition = schedule(jitter_seconds=60)
    due = [tick.due_at - tick.fire.at for tick in islice(ticks(definition, NOON), 500)]
    assert due == [tick.due_at - tick.fire.at for tick in islice(ticks(definition, NOON), 500)]
    assert all(timedelta() <= delay < timedelta(seconds=60) for delay in due)
    assert min(due) < timedelta(seconds=2)
    assert max(due) > timedelta(seconds=58)
    assert timedelta(seconds=25) < sum(due, timedelta()) / len(due) < timedelta(seconds=35)
    other = [tick.due_at - tick.fire.at for tick in islice(ticks(replace(definition, name="t"), NOON), 500)]
    assert other != due


def test_a_tick_waits_for_its_jitter_and_is_not_late_by_it() -> None:
    """Nothing is decided before the jitter has passed; and what comes by then is on time."""
    definition = schedule("0 * * * *", jitter_seconds=1800, catch_up="skip")
    first = next(ticks(definition, NOON))
    before = decide(definition, first.fire.at, first.due_at - timedelta(seconds=1), late_seconds=LATE)
    assert before.ticks == []
    after = decide(definition, first.fire.at, first.due_at, late_seconds=LATE)
    assert [outcome for _, outcome in after.ticks] == [TickOutcome.FIRED]


def blacked(policy: str, *, cron: str = "*/10 * * * *", **window: Any) -> list[tuple[str, str, bool]]:
    """(nominal time, due time, fires) of the ticks of the hour from noon on."""
    definition = schedule(cron, blackouts=[window], blackout_policy=policy)
    return [
        (f"{tick.fire.at:%H:%M}", f"{tick.due_at:%H:%M}", tick.fires)
        for tick in islice(ticks(definition, NOON - MINUTE), 6)
    ]


@pytest.mark.parametrize(
    "window",
    [
        pytest.param({"start": "12:10", "end": "12:35"}, id="daily"),
        pytest.param({"start": "12:10", "end": "12:35", "days": ["mon"]}, id="on Mondays"),
        pytest.param({"from": "2026-06-01T12:10:00Z", "until": "2026-06-01T12:35:00Z"}, id="once"),
    ],
)
def test_ticks_in_a_blackout_do_not_fire(window: dict[str, Any]) -> None:
    """From the start of a window, up to but not including its end, nothing fires."""
    assert blacked("skip", **window) == [
        ("12:00", "12:00", True),
        ("12:10", "12:10", False),
        ("12:20", "12:20", False),
        ("12:30", "12:30", False),
        ("12:40", "12:40", True),
        ("12:50", "12:50", True),
    ]


def test_after_a_blackout_one_fires() -> None:
    """By `after`, the last tick of the window fires at its end, and only that."""
    assert blacked("after", start="12:10", end="12:35") == [
        ("12:00", "12:00", True),
        ("12:10", "12:10", False),
        ("12:20", "12:20", False),
        ("12:30", "12:35", True),
        ("12:40", "12:40", True),
        ("12:50", "12:50", True),
    ]


def test_a_tick_at_the_end_of_a_blackout_stands_for_it() -> None:
    """By `after`, where a tick comes right at the end anyway, nothing is added."""
    assert [fires for _, _, fires in blacked("after", start="12:10", end="12:40")] == [
        True, False, False, False, True, True,
    ]  # fmt: skip


def test_a_blackout_on_another_day_does_not_matter() -> None:
    """A window with weekdays holds nothing on other days."""
    assert all(fires for _, _, fires in blacked("skip", start="12:10", end="12:35", days=["tue"]))


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        pytest.param("2026-06-05T22:30:00+02:00", "2026-06-06T06:00:00+02:00", id="in the evening"),
        pytest.param("2026-06-06T05:59:00+02:00", "2026-06-06T06:00:00+02:00", id="the morning after"),
        pytest.param("2026-06-06T06:00:00+02:00", "2026-06-06T06:00:00+02:00", id="its end is no part of it"),
        pytest.param("2026-06-06T22:30:00+02:00", "2026-06-06T22:30:00+02:00", id="the evening after"),
    ],
)
def test_a_blackout_over_midnight_belongs_to_the_day_it_starts(moment: str, end: str) -> None:
    """A window that ends on the next day does so, and its weekday is that of the start."""
    window = DailyBlackout(timedelta(hours=22), timedelta(hours=6), frozenset({4}))
    found = end_of_blackout(datetime.fromisoformat(moment), [window], zone_of("Europe/Berlin"))
    assert found == datetime.fromisoformat(end)


def test_a_blackout_follows_the_clock_of_its_zone() -> None:
    """In the night of the autumn change, a window from two to three lasts two hours."""
    zone, window = zone_of("Europe/Berlin"), DailyBlackout(timedelta(hours=2), timedelta(hours=3))
    start = datetime(2026, 10, 25, 0, tzinfo=UTC)
    assert end_of_blackout(start, [window], zone) == start + timedelta(hours=2)
    assert end_of_blackout(start - MINUTE, [window], zone) == start - MINUTE


def test_a_skipped_edge_is_the_change() -> None:
    """In the night of the spring change, a window from half past two ends and begins with the clock."""
    zone = zone_of("Europe/Berlin")
    change = datetime(2026, 3, 29, 1, tzinfo=UTC)
    begins = DailyBlackout(timedelta(hours=2.5), timedelta(hours=4))
    assert end_of_blackout(change, [begins], zone) == change + timedelta(hours=1)
    assert end_of_blackout(change - MINUTE, [begins], zone) == change - MINUTE
    ends = DailyBlackout(timedelta(hours=1), timedelta(hours=2.5))
    assert end_of_blackout(change - MINUTE, [ends], zone) == change


def test_blackouts_join() -> None:
    """Where one window ends inside another, the end is that of the last; one without an end is None."""
    zone = zone_of("UTC")
    windows: list[Blackout] = [
        DailyBlackout(timedelta(hours=11), timedelta(hours=13)),
        DatedBlackout(NOON, NOON + timedelta(hours=3)),
        DatedBlackout(NOON + timedelta(hours=3), NOON + timedelta(hours=4)),
    ]
    assert end_of_blackout(NOON, windows, zone) == NOON + timedelta(hours=4)
    always = [DailyBlackout(timedelta(), timedelta(hours=24))]
    assert end_of_blackout(NOON, always, zone) is None


@given(
    steps=st.lists(st.integers(1, 4000), min_size=1, max_size=30),
    cron=st.sampled_from(["* * * * *", "*/7 * * * *", "30 * * * *"]),
    policy=st.sampled_from(["skip", "after"]),
    jitter=st.sampled_from([0, 45, 600]),
)
@hypothesis_settings(max_examples=60)
def test_every_tick_is_decided_once(steps: list[int], cron: str, policy: str, jitter: int) -> None:
    """However often and however late a scheduler looks, each nominal time is decided once, in order."""
    definition = schedule(
        cron,
        catch_up="all",
        catch_up_max=1000,
        jitter_seconds=jitter,
        blackouts=[{"start": "12:10", "end": "12:33"}],
        blackout_policy=policy,
    )
    now, next_at, seen = NOON, next(ticks(definition, NOON)).fire.at, []
    for step in steps:
        now += timedelta(seconds=step)
        decision = decide(definition, next_at, now, late_seconds=LATE)
        seen += [tick.fire.at for tick, _ in decision.ticks]
        assert decision.following is not None
        assert decision.following.due_at > now
        next_at = decision.following.fire.at
    silent = sum(1 for at in seen if "12:10" <= f"{at:%H:%M}" < "12:33")
    expected = [tick.fire.at for tick in islice(ticks(definition, NOON), len(seen))]
    assert silent > MAX_RECORDED or seen == expected


def test_a_preview_looks_no_further_than_anybody_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that fires every 28 years is looked for in one century, on the days that it could be."""
    looked = 0
    match_day = CronSim.match_day

    def counted(line: CronSim, day: date) -> bool:
        nonlocal looked
        looked += 1
        return match_day(line, day)

    monkeypatch.setattr(CronSim, "match_day", counted)
    definition = schedule("0 0 29 2 */7")
    found = preview(definition, datetime(2026, 1, 1, tzinfo=UTC), 1000)
    assert [tick.fire.at.year for tick in found] == [2032, 2060, 2088, 2116][: len(found)]
    assert len(found) >= 3
    assert looked < 500

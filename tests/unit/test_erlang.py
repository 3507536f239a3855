"""Erlang's delay formula, held against published values, a known limit, and a simulation."""

from __future__ import annotations

import heapq
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.insight.erlang import (
    SERVERS_MAX,
    blocking_probability,
    servers_needed,
    wait_exceeds,
    waiting_probability,
)

#: Servers, load in Erlang, the part that waits: as printed, and to how many digits.
PUBLISHED = {
    # The example in the README of the R package ErlangC 0.1.0 (rdocumentation.org/packages/ErlangC).
    "R package ErlangC": (14, 10.0, 0.1741319, 7),
    # The worked example of "The Erlang-C formula" by Mitan Ltd: 360 calls in half an hour, four minutes each.
    "Mitan": (55, 48.0, 0.239, 3),
    # The Erlang C table of a textbook on trunked radio (TETRA), in its example of 8 and of 10 channels.
    "TETRA, 8 channels": (8, 3.87, 0.05, 3),
    "TETRA, 10 channels": (10, 4.08, 0.01, 3),
    # One server: the utilisation, by hand.
    "one server": (1, 0.7, 0.7, 12),
    # Two servers: 2 r² / (1 + r) with the utilisation r, by hand.
    "two servers": (2, 1.0, 1 / 3, 12),
}


def simulated_waits(servers: int, *, arrivals: float, service: float, count: int) -> list[float]:
    """How long so many arrivals wait for the first server that is free, from a line that has settled."""
    chance = random.Random(20_251_124)
    free_at = [0.0] * servers
    now, waits = 0.0, []
    for _ in range(count):
        now += chance.expovariate(arrivals)
        start = max(now, free_at[0])
        heapq.heapreplace(free_at, start + chance.expovariate(service))
        waits.append(start - now)
    return waits[count // 10 :]


def part_above(waits: list[float], seconds: float) -> float:
    """The part of waits that are longer than this."""
    return sum(wait > seconds for wait in waits) / len(waits)


@pytest.mark.parametrize("source", PUBLISHED)
def test_the_waiting_probability_is_what_tables_print(source: str) -> None:
    """Erlang C agrees with published values to the digits that they have."""
    servers, load, printed, digits = PUBLISHED[source]
    assert round(waiting_probability(servers, load), digits) == pytest.approx(printed, abs=1e-12)


def test_the_kept_part_is_what_is_published() -> None:
    """The same sources print the part that waits no longer than 20 s (88.835 %) and 15 s (84.6 %)."""
    kept = 1 - wait_exceeds(14, arrivals=100 / 1800, service=1 / 180, seconds=20)
    assert round(kept, 5) == 0.88835
    kept = 1 - wait_exceeds(55, arrivals=360 / 1800, service=1 / 240, seconds=15)
    assert round(kept, 3) == 0.846


@pytest.mark.parametrize(("servers", "load", "printed"), [(8, 3.87, 0.016), (10, 3.87, 0.0022)], ids=[8, 10])
def test_the_tail_of_the_wait_is_what_is_published(servers: int, load: float, printed: float) -> None:
    """Of those that wait, the part that waits for longer than a mean service, as the TETRA example has it."""
    tail = wait_exceeds(servers, arrivals=load, service=1, seconds=1) / waiting_probability(servers, load)
    assert tail == pytest.approx(printed, rel=0.02)


def test_the_number_of_servers_is_what_is_published() -> None:
    """The R package's example needs 14 agents for 80 % within 20 s."""
    assert servers_needed(arrivals=100 / 1800, service=1 / 180, seconds=20, objective=0.8) == 14


@pytest.mark.parametrize("servers", [1_000, 5_000, SERVERS_MAX])
def test_many_servers_approach_their_limit(servers: int) -> None:
    """With load c - √c the part that waits goes to 1 / (1 + Φ(1) / φ(1)) = 0.2234 (Halfin, Whitt 1981)."""
    limit = 1 / (1 + (0.5 * (1 + math.erf(1 / math.sqrt(2)))) / (math.exp(-0.5) / math.sqrt(2 * math.pi)))
    found = waiting_probability(servers, servers - math.sqrt(servers))
    assert found == pytest.approx(limit, rel=1 / math.sqrt(servers))


@pytest.mark.parametrize(
    ("servers", "arrivals", "service", "seconds"),
    [(1, 0.7, 1.0, 1.0), (4, 3.2, 1.0, 0.5), (20, 170.0, 10.0, 0.05), (60, 11.0, 0.2, 2.0)],
    ids=lambda value: f"{value:g}",
)
def test_a_simulated_line_waits_as_the_formula_says(
    servers: int, arrivals: float, service: float, seconds: float
) -> None:
    """In a simulation of single arrivals, servers and starts the same parts wait at all, and for too long."""
    waits = simulated_waits(servers, arrivals=arrivals, service=service, count=150_000)
    expected = wait_exceeds(servers, arrivals=arrivals, service=service, seconds=seconds)
    assert part_above(waits, 0) == pytest.approx(waiting_probability(servers, arrivals / service), abs=0.02)
    assert part_above(waits, seconds) == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize(
    ("arrivals", "service", "seconds", "objective"),
    [(2.0, 0.5, 1.0, 0.95), (40.0, 2.0, 0.2, 0.9), (1.0, 0.1, 5.0, 0.9)],
    ids=["few", "short", "long"],
)
def test_the_servers_that_are_needed_are_enough_and_fewer_are_not(
    arrivals: float, service: float, seconds: float, objective: float
) -> None:
    """Simulated with that number the objective is kept; simulated with one less it is missed."""
    needed = servers_needed(arrivals=arrivals, service=service, seconds=seconds, objective=objective)
    enough = simulated_waits(needed, arrivals=arrivals, service=service, count=150_000)
    fewer = simulated_waits(needed - 1, arrivals=arrivals, service=service, count=150_000)
    assert part_above(enough, seconds) <= 1 - objective
    assert part_above(fewer, seconds) > 1 - objective


def test_nothing_that_arrives_needs_nobody() -> None:
    """Without arrivals no server is needed, and nobody waits."""
    assert servers_needed(arrivals=0, service=1, seconds=1, objective=0.99) == 0
    assert wait_exceeds(1, arrivals=0, service=1, seconds=0) == 0


def test_servers_that_cannot_keep_up_let_everybody_wait() -> None:
    """With no more servers than load the line grows without end."""
    assert waiting_probability(3, 3.0) == waiting_probability(0, 1.0) == 1
    assert wait_exceeds(3, arrivals=3, service=1, seconds=1e9) == 1
    assert blocking_probability(0, 5.0) == 1


def test_the_search_ends() -> None:
    """A load beyond all bounds is answered with the most servers, not with an endless search."""
    assert servers_needed(arrivals=1e300, service=1e-3, seconds=1, objective=0.99) == SERVERS_MAX


@given(st.floats(1e-6, 5_000), st.floats(1e-4, 500), st.floats(0.01, 600_000), st.floats(0.5, 0.9999))
def test_the_number_is_the_smallest_that_keeps_the_objective(
    load: float, service: float, seconds: float, objective: float
) -> None:
    """Whatever is asked: the number keeps the objective, and one server less does not."""
    arrivals = load * service
    needed = servers_needed(arrivals=arrivals, service=service, seconds=seconds, objective=objective)
    assert wait_exceeds(needed, arrivals=arrivals, service=service, seconds=seconds) <= 1 - objective
    if needed > 1:
        assert wait_exceeds(needed - 1, arrivals=arrivals, service=service, seconds=seconds) > 1 - objective


@given(st.integers(1, 5_000), st.floats(0.001, 0.999))
def test_probabilities_are_probabilities(servers: int, utilisation: float) -> None:
    """At any number of servers both formulas stay between 0 and 1, and more wait than are blocked."""
    load = servers * utilisation
    assert 0 <= blocking_probability(servers, load) <= waiting_probability(servers, load) <= 1

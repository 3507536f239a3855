"""Erlang's delay formula (Erlang C, the M/M/c queue): how many servers a waiting line needs. Pure Python.

Arrivals are random (Poisson) at `arrivals` a second, each server ends `service` jobs a second (exponential
times), whoever waits is served in turn. `load`, in Erlang, is their quotient: how many servers are busy on
average. More servers than load are needed, else the line grows without end.

Erlang C is computed from Erlang B, and that by its recurrence over the number of servers: every step is a
quotient of positive numbers between 0 and 1, so there is no factorial or power that could overflow, and no
difference that could lose digits, at any number of servers.
"""

from __future__ import annotations

import math

__all__ = ["SERVERS_MAX", "blocking_probability", "servers_needed", "wait_exceeds", "waiting_probability"]

#: Nobody needs more; the search ends here, after some hundredths of a second.
SERVERS_MAX = 20_000


def blocking_probability(servers: int, load: float) -> float:
    """Erlang B: the part of arrivals that find all servers busy where nobody waits. 1 without servers."""
    blocking = 1.0
    for number in range(1, servers + 1):
        blocking = _one_more(blocking, number, load)
    return blocking


def waiting_probability(servers: int, load: float) -> float:
    """Erlang C: the part of arrivals that have to wait at all; 1 where the servers cannot keep up."""
    return _waiting(blocking_probability(servers, load), servers, load)


def wait_exceeds(servers: int, *, arrivals: float, service: float, seconds: float) -> float:
    """The part of arrivals that wait for longer than this; 1 where the servers cannot keep up.

    Args:
        servers: how many serve.
        arrivals: arrivals a second.
        service: jobs that one busy server ends a second, above 0.
        seconds: the wait.
    """
    load = arrivals / service
    return _exceeding(waiting_probability(servers, load), servers, load, service * seconds)


def servers_needed(*, arrivals: float, service: float, seconds: float, objective: float) -> int:
    """The fewest servers with which this part of arrivals waits no longer than `seconds`.

    0 where nothing arrives; SERVERS_MAX where not even those suffice.

    Args:
        arrivals: arrivals a second.
        service: jobs that one busy server ends a second, above 0.
        seconds: the wait that is to be kept.
        objective: by this part of arrivals, 0 to 1.
    """
    load = arrivals / service
    if load <= 0:
        return 0
    blocking = 1.0
    for servers in range(1, SERVERS_MAX):
        blocking = _one_more(blocking, servers, load)
        waiting = _waiting(blocking, servers, load)
        if _exceeding(waiting, servers, load, service * seconds) <= 1 - objective:
            return servers
    return SERVERS_MAX


def _one_more(blocking: float, servers: int, load: float) -> float:
    """Erlang B of so many servers, from that of one less."""
    return load * blocking / (servers + load * blocking)


def _waiting(blocking: float, servers: int, load: float) -> float:
    if servers <= load:
        return 1.0
    return blocking / (1 - load / servers * (1 - blocking))


def _exceeding(waiting: float, servers: int, load: float, services: float) -> float:
    """`services`: the time waited, in mean times of service."""
    if servers <= load:
        return 1.0
    return waiting * math.exp(-(servers - load) * services)

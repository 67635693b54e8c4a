"""When coroutines move to even out the load, and how many: pure functions over what is known of hosts.

A move costs two commits and a stretch of waiting, so moves are few. Nothing moves while every host is near its share;
an imbalance must last, so that hosts which start one after the other are dealt with together; and after one round of
moves there is none for a while. What moves at last brings all hosts to the mean, so that a new node has its share in
one round, and nothing comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ray_durable.actors.placement import HostView

__all__ = ["Calm", "Move", "is_uneven", "look", "moves_to_mean"]

SLACK = 0.5  # a host may be so far off the mean, as a share of it
LEAST = 4  # and always so many coroutines
LASTS_S = 2.0
REST_S = 8.0


@dataclass(frozen=True, slots=True)
class Move:
    """So many coroutines from one host to another."""

    source: str
    target: str
    count: int


@dataclass(frozen=True, slots=True)
class Calm:
    """What was seen before. `uneven_since`: since when the load has been uneven, None while it is even; `rest_until`:
    no moves before. In monotonic seconds."""

    uneven_since: float | None = None
    rest_until: float = 0.0


def look(before: Calm, hosts: Sequence[HostView], now: float, moving: bool) -> tuple[Calm, list[Move]]:
    """What to move now. `moving`: an earlier round is not over yet."""
    if not is_uneven(hosts):
        return Calm(None, before.rest_until), []
    since = now if before.uneven_since is None else before.uneven_since
    if moving or now - since < LASTS_S or now < before.rest_until:
        return Calm(since, before.rest_until), []
    return Calm(None, now + REST_S), moves_to_mean(hosts)


def is_uneven(hosts: Sequence[HostView]) -> bool:
    """Whether a usable host has clearly more or less than its share."""
    return bool(uneven(hosts))


def moves_to_mean(hosts: Sequence[HostView]) -> list[Move]:
    """Moves that bring the hosts of each uneven environment to its mean, give or take one."""
    return [move for loads in uneven(hosts) for move in level(loads, sum(loads.values()) / len(loads))]


def uneven(hosts: Sequence[HostView]) -> list[dict[str, int]]:
    """The environments in which a host is far off the mean, as loads by host."""
    found = []
    for loads in by_environment(hosts):
        mean = sum(loads.values()) / len(loads)
        margin = max(LEAST, SLACK * mean)
        if max(loads.values()) > mean + margin or min(loads.values()) < mean - margin:
            found.append(loads)
    return found


def by_environment(hosts: Sequence[HostView]) -> list[dict[str, int]]:
    """Loads of the usable hosts that may take from each other."""
    found: dict[str, dict[str, int]] = {}
    for host in hosts:
        if host.usable:
            found.setdefault(host.environment, {})[host.host] = host.load
    return [found[environment] for environment in sorted(found)]


def level(loads: dict[str, int], mean: float) -> list[Move]:
    """Fill the emptiest from the fullest until both are at the mean, give or take one."""
    moves: list[Move] = []
    while True:
        source = max(loads, key=lambda host: (loads[host], host))
        target = min(loads, key=lambda host: (loads[host], host))
        count = min(int(loads[source] - mean), int(mean - loads[target]))
        if count < 1:
            return moves
        moves.append(Move(source, target, count))
        loads[source] -= count
        loads[target] += count

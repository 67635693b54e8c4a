"""Which host for which coroutine: pure functions over what is known of hosts and nodes.

Shared hosts take coroutines that ask for no resources, the least loaded first. A coroutine that asks for resources gets
a host of its own, which Ray places. Rebalancing moves few, and only when a host carries clearly more than its share:
a new node attracts load, and two nearly equal hosts do not pass coroutines to and fro.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ray_durable.actors.transfer import Demands

__all__ = ["HostView", "Move", "choose", "drain_moves", "environment_key", "matches_labels", "rebalance"]


@dataclass(frozen=True, slots=True)
class HostView:
    """A shared host, as placement sees it. `load` counts coroutines on it and on their way to it."""

    host: str
    node: str
    load: int
    usable: bool = True
    environment: str = ""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Move:
    """So many coroutines from one host to another."""

    source: str
    target: str
    count: int


def environment_key(runtime_env: dict[str, object] | None) -> str:
    """Coroutines share a host only with those of the same runtime environment."""
    return repr(sorted(runtime_env.items())) if runtime_env else ""


def matches_labels(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Ray's label selectors: `value`, `!value`, `in(a, b)`, `!in(a, b)`; all must hold."""
    for key, wanted in selector.items():
        negated = wanted.startswith("!")
        wanted = wanted.removeprefix("!")
        values = {value.strip() for value in wanted[3:-1].split(",")} if wanted.startswith("in(") else {wanted}
        if (labels.get(key) in values) == negated:
            return False
    return True


def choose(demands: Demands, hosts: Iterable[HostView], extra: Counter[str] | None = None) -> str | None:
    """The shared host for a coroutine, or None when no usable one fits: it then waits, suspended.

    `extra`: coroutines already promised in the same batch, by host."""
    extra = extra if extra is not None else Counter()
    environment = environment_key(demands.runtime_env)
    fitting = [
        host
        for host in hosts
        if host.usable and host.environment == environment and matches_labels(demands.label_selector, host.labels)
    ]
    if demands.node_id is not None:
        there = [host for host in fitting if host.node == demands.node_id]
        if there or not demands.soft:
            fitting = there
    if not fitting:
        return None
    best = min(fitting, key=lambda host: (host.load + extra[host.host], host.host))
    extra[best.host] += 1
    return best.host


def rebalance(hosts: Sequence[HostView], *, slack: float = 0.5, least: int = 4) -> list[Move]:
    """Moves that bring overloaded hosts down to the mean of their environment.

    Nothing moves while every host is within `slack` (a share) and `least` (coroutines) of that mean."""
    moves: list[Move] = []
    for environment in sorted({host.environment for host in hosts}):
        usable = sorted((h for h in hosts if h.usable and h.environment == environment), key=lambda h: h.load)
        if len(usable) < 2:
            continue
        mean = sum(host.load for host in usable) / len(usable)
        margin = max(least, slack * mean)
        if usable[-1].load <= mean + margin and usable[0].load >= mean - margin:
            continue
        moves.extend(level({host.host: host.load for host in usable}, mean))
    return moves


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


def drain_moves(source: HostView, hosts: Sequence[HostView]) -> list[Move]:
    """Spread all of `source`'s coroutines over the other usable hosts of its environment, the emptiest first."""
    extra: Counter[str] = Counter()
    others = [h for h in hosts if h.host != source.host and h.usable and h.environment == source.environment]
    if not others:
        return []
    for _ in range(source.load):
        best = min(others, key=lambda host: (host.load + extra[host.host], host.host))
        extra[best.host] += 1
    return [Move(source.host, target, count) for target, count in sorted(extra.items())]

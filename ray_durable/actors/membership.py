"""Who lives: decisions from what was heard of each host and node, over plain data. The time is an argument.

Three signs count. The failure of the call that the controller keeps open to every host says that its process is dead.
A host's heartbeat tells a busy host from a dead one, and says when the host's raylet is gone. Silence alone first makes
a host suspect (it is given nothing new), and after the lease lets its log be sealed: by then the host itself has
stopped resuming coroutines (PROTOCOL.md, rule 13).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Heard", "Limits", "Verdict", "judge", "lease_held"]

State = Literal["alive", "suspect", "draining", "dead"]
Sign = Literal["", "call_failed", "silence", "node_gone", "host_said"]


@dataclass(frozen=True, slots=True)
class Limits:
    """`silence_s` without a heartbeat makes a host suspect, `lease_s` dead. Both in seconds."""

    silence_s: float = 1.5
    lease_s: float = 4.0


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of one host. `last` is when it was last heard, on the listener's monotonic clock."""

    host: str
    node: str
    last: float
    call_failed: bool = False
    raylet_gone: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to take a host for, and the sign that showed it. `process_dead`: nothing of it can run any more."""

    host: str
    state: State
    sign: Sign = ""
    process_dead: bool = False


def judge(
    heard: Iterable[Heard],
    now: float,
    limits: Limits,
    alive_nodes: Iterable[str] | None = None,
    draining: Mapping[str, float] | None = None,
) -> list[Verdict]:
    """One verdict per host. `alive_nodes`: what Ray last said, None when it has not been heard lately.

    Ray's own word that a node is gone counts only together with a host's silence: it is not asked in lockstep."""
    nodes = None if alive_nodes is None else set(alive_nodes)
    return [judge_one(host, now, limits, nodes, draining or {}) for host in heard]


def judge_one(
    host: Heard, now: float, limits: Limits, nodes: set[str] | None, draining: Mapping[str, float]
) -> Verdict:
    silence = now - host.last
    if host.call_failed:
        return Verdict(host.host, "dead", "call_failed", process_dead=True)
    if host.raylet_gone:
        return Verdict(host.host, "dead", "host_said")
    if silence >= limits.lease_s:
        return Verdict(host.host, "dead", "silence")
    if nodes is not None and host.node not in nodes and silence >= limits.silence_s:
        return Verdict(host.host, "dead", "node_gone")
    if silence >= limits.silence_s:
        return Verdict(host.host, "suspect", "silence")
    if host.node in draining:
        return Verdict(host.host, "draining")
    return Verdict(host.host, "alive")


def lease_held(now: float, last_renewed: float, lease_s: float) -> bool:
    """Whether a host may go on resuming coroutines: it committed or was heard less than half a lease ago."""
    return now - last_renewed < lease_s / 2

"""Which host for which coroutine: pure functions over what is known of hosts and nodes.

Shared hosts take coroutines that ask for no resources, the least loaded first. A coroutine that asks for resources gets
a host of its own, which Ray places. When those that have a place should move is `balancing`'s to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ray_durable.actors.transfer import Demands

__all__ = ["HostView", "choose", "environment_key", "matches_labels"]


@dataclass(frozen=True, slots=True)
class HostView:
    """A shared host, as placement sees it. `load` counts coroutines on it and on their way to it; `expected`: it is one
    of those that a new cluster begins with, and about to be ready."""

    host: str
    node: str
    load: int
    usable: bool = True
    expected: bool = False
    environment: str = ""
    labels: dict[str, str] = field(default_factory=dict)


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
    """The shared host for a coroutine, or None when no usable one fits, or a better one is about to be ready: it then
    waits, suspended.

    `extra`: coroutines already promised in the same batch, by host."""
    extra = extra if extra is not None else Counter()
    environment = environment_key(demands.runtime_env)
    fitting = [
        host
        for host in hosts
        if (host.usable or host.expected)
        and host.environment == environment
        and matches_labels(demands.label_selector, host.labels)
    ]
    if demands.node_id is not None:
        there = [host for host in fitting if host.node == demands.node_id]
        if there or not demands.soft:
            fitting = there
    if not fitting:
        return None
    best = min(fitting, key=lambda host: (host.load + extra[host.host], host.host))
    extra[best.host] += 1
    return best.host if best.usable else None

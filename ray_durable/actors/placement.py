"""Which host for which coroutine: pure functions over what is known of hosts and nodes.

Shared hosts take coroutines that ask for no resources, the least loaded first. A coroutine that asks for resources gets
a host of its own, which Ray places. When those that have a place should move is `balancing`'s to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ray_durable.actors.transfer import Demands

if TYPE_CHECKING:
    from ray_durable.actors.cluster import Node

__all__ = ["HostView", "choose", "environment_key", "lacking", "matches_labels"]


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


def lacking(demands: Demands, nodes: Iterable[Node]) -> str | None:
    """Why no host can be had for a coroutine, as far as the nodes tell; None when it just has to wait a little."""
    nodes = list(nodes)
    if not nodes:
        return None  # Ray has not been asked yet
    if demands.node_id is not None and not demands.soft and all(node.id != demands.node_id for node in nodes):
        return f"its node {demands.node_id} is not in the cluster"
    labelled = [node for node in nodes if matches_labels(demands.label_selector, node.labels)]
    if not labelled:
        return f"no node has the labels {demands.label_selector!r}"
    asked = {
        option: (resource, amount)
        for option, resource, amount in (
            ("num_cpus", "CPU", demands.num_cpus),
            ("num_gpus", "GPU", demands.num_gpus),
            ("memory", "memory", demands.memory),
            *((f"resource {name!r}", name, amount) for name, amount in demands.resources.items()),
        )
        if amount
    }
    for option, (resource, amount) in asked.items():
        most = max(node.resources.get(resource, 0) for node in labelled)
        if amount > most:
            return f"no node has {option}={amount:g}: the most is {most:g}"
    if asked:
        told = ", ".join(f"{option}={amount:g}" for option, (_, amount) in asked.items())
        return f"its own host has not started: no node has {told} free just now, or it is about to start"
    return None

"""What a controller shows of figures that it keeps anyway: hosts, coroutines without a place, addresses to scrape.

All is read in the exporter's thread, so what may change meanwhile is copied first.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ray_durable.actors.events import Events
from ray_durable.actors.exporter import Target
from ray_durable.actors.fleet import Fleet
from ray_durable.actors.ledger import Ledger
from ray_durable.metrics import HOST_STATE, Metrics

__all__ = ["follow", "pending", "targets"]


def follow(metrics: Metrics, ledger: Ledger, fleet: Fleet, events: Events) -> None:
    """Let the gauges follow the map and the fleet."""

    def hosts_in(state: str) -> int:
        return sum(host.state == state for host in list(fleet.hosts.values()))

    metrics.coroutines.follow(lambda: pending(ledger, fleet), "pending")
    metrics.coroutines.follow(lambda: sum(map(len, list(events.recovering.values()))), "moving")
    for state in HOST_STATE.values or ():
        metrics.hosts.follow(partial(hosts_in, state), state)
    metrics.fenced_writers.follow(lambda: fleet.listener.fenced, "host")


def pending(ledger: Ledger, fleet: Fleet) -> int:
    """How many coroutines have no host: none is planned, or it is one of their own that has not started."""
    starting = sum(host.state == "starting" and host.dedicated_to is not None for host in list(fleet.hosts.values()))
    return len(ledger.owned.get("", ())) + starting


def targets(own: str | None, hosts: dict[str, Any]) -> list[Target]:
    """What Prometheus is to scrape: the controller and every host that serves `/metrics`."""
    found = [Target(own, {"role": "controller"})] if own else []
    return found + [Target(host.metrics, {"role": "host"}) for host in list(hosts.values()) if host.metrics]

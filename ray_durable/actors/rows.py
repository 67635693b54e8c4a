"""A coroutine as `ray_durable.list()`, a handle's `status()` and the command line show it."""

from __future__ import annotations

from typing import Any

from ray_durable.actors.fleet import Fleet
from ray_durable.actors.ledger import Entry
from ray_durable.actors.placement import lacking

__all__ = ["row"]


def row(entry: Entry, fleet: Fleet) -> dict[str, Any]:
    record, header = fleet.hosts.get(entry.owner), entry.header
    return {
        "id": header.id,
        "name": header.name,
        "namespace": header.namespace,
        "function": header.function,
        "kind": header.kind,
        "state": state(entry, fleet),
        "host": entry.owner or None,
        "node": record.node if record is not None else None,
        "epoch": entry.epoch,
        "created": header.created,
        "trouble": trouble(entry, fleet),
    }


def state(entry: Entry, fleet: Fleet) -> str:
    """In the words of the command line. One whose own host has not started, as no node has room, is pending."""
    record = fleet.hosts.get(entry.owner)
    waits = entry.state == "moving" and record is not None and record.state == "starting"
    return "pending" if waits else entry.state


def trouble(entry: Entry, fleet: Fleet) -> str | None:
    """Why a coroutine waits for a host: hosts die of it, none starts, or the nodes have no place for it."""
    now, demands = state(entry, fleet), entry.header.demands
    if now not in ("pending", "moving"):
        return None
    if times := entry.crashes.times:
        return f"{times} host processes in a row have ended while they ran it"
    tries = fleet.trouble(entry.header.id, demands)
    if tries is not None:
        return f"no host starts ({tries.failures} failures in a row): {tries.reason}"
    return lacking(demands, fleet.nodes.values()) if now == "pending" else None

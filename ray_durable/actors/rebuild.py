"""From the logs to the map: what a controller's new term finds, and what it has to finish.

The logs of earlier terms are sealed first, so that no old controller can admit or place any more; then every log is
read and folded. A coroutine that was admitted and never planned is placed, one whose plan was not carried out is handed
over, one whose host is gone is taken over like those of any dead host.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ray_durable.actors.facts import facts_in, finished_in, newest_transfer
from ray_durable.actors.ledger import Entry, Ledger
from ray_durable.actors.ownership import Fact, fold
from ray_durable.checkpoint.keys import NO_KEYS, Keys
from ray_durable.checkpoint.names import writers
from ray_durable.checkpoint.recovery import Recovery, recover
from ray_durable.checkpoint.sealing import seal
from ray_durable.checkpoint.stores import Store

__all__ = ["Rebuilt", "controller_writer", "read_logs", "rebuild"]

CONTROLLER_PREFIX = "controller-"
PARALLEL = 8


def controller_writer(term: int) -> str:
    return f"{CONTROLLER_PREFIX}{term}"


@dataclass(slots=True)
class Rebuilt:
    """The map, and what must follow. `unsealed`: host logs that have no end yet; `damage`: what could not be read."""

    ledger: Ledger
    unsealed: set[str] = field(default_factory=set)
    damage: list[str] = field(default_factory=list)


def read_logs(store: Store, term: int, keys: Keys = NO_KEYS) -> dict[str, Recovery]:
    """Seal the logs of earlier terms, then read every log."""

    def read(writer: str) -> Recovery:
        if writer.startswith(CONTROLLER_PREFIX):
            return seal(store, writer, controller_writer(term), b"{}", keys=keys).recovery
        return recover(store, writer, keys=keys)

    names = [writer for writer in writers(store) if writer != controller_writer(term)]
    with ThreadPoolExecutor(PARALLEL) as pool:
        return dict(zip(names, pool.map(read, names), strict=True))


def rebuild(recoveries: Mapping[str, Recovery]) -> Rebuilt:
    """Fold all logs into the map. Pure but for building it."""
    ledger = Ledger()
    rebuilt = Rebuilt(ledger)
    finished = {}
    facts: list[Fact] = []
    for writer, recovery in recoveries.items():
        facts.extend(facts_in(recovery))
        finished.update({outcome.coroutine: outcome for outcome in finished_in(recovery)})
        rebuilt.damage.extend(str(damage) for damage in recovery.damage)
        if recovery.sealed is None and not writer.startswith(CONTROLLER_PREFIX):
            rebuilt.unsealed.add(writer)
    for id, owned in fold(facts).items():
        transfer = newest_transfer(id, recoveries)
        if transfer is None:
            continue  # an outcome without its coroutine: its log was compacted to a tombstone
        entry = Entry(transfer.header)
        ledger.add(entry)
        if owned.running and owned.plan.to in rebuilt.unsealed:
            ledger.assign(entry, owned.plan.epoch, owned.plan.to, None)
        else:
            ledger.assign(entry, owned.plan.epoch, owned.plan.to, transfer)
            entry.reason = "cold_start"
        if owned.terminal and id in finished:
            ledger.finish(entry, finished[id])
    return rebuilt


def lost_owners(ledger: Ledger, unsealed: Collection[str]) -> list[Entry]:
    """Coroutines planned to a log that has ended without them: they are planned anew (rule 12 allows it)."""
    return [
        entry
        for owner, entries in ledger.owned.items()
        if owner and owner not in unsealed
        for entry in entries.values()
    ]

"""From the logs to the map: what a controller's new term finds, and what it has to finish.

The logs of earlier terms are sealed first, so that no old controller can admit or place any more; then, and not before,
every host's log is read (rule 19), and all is folded. A coroutine that was admitted and never planned is placed, one
whose plan was not carried out is handed over, one whose host is gone is taken over like those of any dead host.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """The map, and what must follow. `unsealed`: host logs that have no end, or no plan, yet; `sealed`: those that
    have; `damage`: what could not be read."""

    ledger: Ledger
    unsealed: set[str] = field(default_factory=set)
    sealed: set[str] = field(default_factory=set)
    damage: list[str] = field(default_factory=list)


def read_logs(store: Store, term: int, keys: Keys = NO_KEYS) -> dict[str, Recovery]:
    """Seal the logs of earlier terms, then read every log."""

    def read(writer: str) -> Recovery:
        if writer.startswith(CONTROLLER_PREFIX):
            return seal(store, writer, controller_writer(term), b"{}", keys=keys).recovery
        return recover(store, writer, keys=keys)

    # All earlier terms, also those that have written nothing yet: they may be about to. A later one's is not ours.
    earlier = [controller_writer(number) for number in range(1, term)]
    with ThreadPoolExecutor(PARALLEL) as pool:
        ended = list(pool.map(read, earlier))
        # Listed after that: until then an earlier term may have given work to a host that had no log yet.
        hosts = [writer for writer in writers(store) if not writer.startswith(CONTROLLER_PREFIX)]
        return dict(zip(earlier + hosts, [*ended, *pool.map(read, hosts)], strict=True))


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
        if not writer.startswith(CONTROLLER_PREFIX):
            (rebuilt.unsealed if recovery.sealed is None else rebuilt.sealed).add(writer)
    owned_by_id = fold(facts)
    known = {id: newest_transfer(id, recoveries) for id in owned_by_id}
    # The oldest first: a name belongs to the last that took it.
    for id, transfer in sorted(known.items(), key=lambda item: item[1].header.created if item[1] is not None else 0.0):
        owned = owned_by_id[id]
        if transfer is None or (owned.terminal and id not in finished):
            ledger.expired[id] = None  # a tombstone, or an outcome without its coroutine: it is over (rule 10)
            continue
        entry = Entry(transfer.header)
        ledger.add(entry)
        epoch = max(owned.plan.epoch, 1)  # an admission without its placement counts, and waits for a place
        if owned.running and owned.plan.to in rebuilt.unsealed:
            ledger.assign(entry, epoch, owned.plan.to, None)
        else:
            ledger.assign(entry, epoch, owned.plan.to, transfer)
            entry.reason = "cold_start"
        if owned.terminal:
            ledger.finish(entry, finished[id])
    return rebuilt

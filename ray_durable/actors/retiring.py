"""Emptying sealed logs of which nothing is needed any more, also those of earlier terms (PROTOCOL.md, rules 6, 7, 10).

A log must stay while it holds the newest word on a coroutine: its state until that is adopted elsewhere, its outcome
until the retention is over. What is over leaves a tombstone in this term's log before its log is emptied: an admission
that stands somewhere else must never look as if it had not been carried out. All logs are read, one after the other,
and of each only a few words per coroutine are kept; so it is done seldom, and in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ray_durable.checkpoint.keys import Keys
from ray_durable.checkpoint.names import writers
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import Recovered, Recovery, recover
from ray_durable.checkpoint.retirement import MayGo, held_logs, may_retire, retire
from ray_durable.checkpoint.stores import Store
from ray_durable.errors import StoreError

if TYPE_CHECKING:
    from ray_durable.actors.leader import Leader

__all__ = ["Brief", "Word", "is_done", "keep_tidy", "word_on"]

FIRST_S = 30.0
LONGEST_S = 3600.0
SHARE = 0.02  # of the time, at most, goes into reading


@dataclass(frozen=True, slots=True)
class Word:
    """What one log says of one coroutine. `taken`: the highest epoch at which it was adopted there or has ended;
    `needed`: the epoch at which another log must have taken it before this one is of no more use; `ended_ms`: when it
    ended, 0 for a tombstone, None while it has not; `kept`: it has checkpoints that are kept as history."""

    taken: int
    needed: int
    ended_ms: int | None
    kept: bool = False


@dataclass(slots=True)
class Brief:
    """What is kept of all logs: a word per log and coroutine, and the logs whose chunks others need."""

    words: dict[str, dict[str, Word]] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    emptied: set[str] = field(default_factory=set)

    def add(self, recovery: Recovery) -> None:
        self.words[recovery.writer] = {id: word_on(found) for id, found in recovery.coroutines.items()}
        self.held |= held_logs([recovery])
        if recovery.emptied:
            self.emptied.add(recovery.writer)

    def taken_elsewhere(self, id: str, writer: str) -> int:
        """The highest epoch at which another log has taken a coroutine."""
        return max((words[id].taken for log, words in self.words.items() if log != writer and id in words), default=-1)

    def is_over(self, id: str, forgotten_ms: int) -> bool:
        """Whether some log says that a coroutine ended before `forgotten_ms`."""
        ends = (words[id].ended_ms for words in self.words.values() if id in words)
        return any(end is not None and end <= forgotten_ms for end in ends)


def word_on(found: Recovered) -> Word:
    epochs = [record.epoch for record in (found.moved, found.placed, found.admitted) if record is not None]
    adopted = found.adopted.epoch if found.adopted is not None else -1
    needed = max([*epochs, adopted + 1])
    end, kept = found.terminal, bool(found.history)
    if end is None:
        return Word(adopted, needed, None, kept)
    return Word(max(adopted, end.epoch), needed, 0 if end.kind is Kind.TOMBSTONE else end.time_ms, kept)


def is_done(id: str, writer: str, brief: Brief, forgotten_ms: int) -> bool:
    """Whether nothing of `writer`'s log is needed for a coroutine: it is over since before `forgotten_ms`, or another
    log has the newer word."""
    word = brief.words[writer][id]
    if word.ended_ms is not None or word.kept:
        return brief.is_over(id, forgotten_ms)
    return brief.taken_elsewhere(id, writer) >= word.needed


def tombstones(log: Recovery, known: Mapping[str, Word]) -> dict[str, int]:
    """What is over in a log and must be remembered as such, with its epoch; `known` is in this term's log."""
    over = {id: found.terminal.epoch for id, found in log.coroutines.items() if found.terminal is not None}
    return {id: epoch for id, epoch in over.items() if id not in known or known[id].ended_ms is None}


async def keep_tidy(leader: Leader) -> None:
    """Empty what can be emptied, for as long as this term leads. A failing store only postpones it."""
    pause_s = FIRST_S
    while True:
        await asyncio.sleep(pause_s)
        began = leader.clock.monotonic()
        try:
            retired = await retire_logs(leader)
        except StoreError as error:
            leader.event_log.warning("retirement_postponed", error=str(error))
            retired = 0
        took_s = leader.clock.monotonic() - began
        pause_s = max(FIRST_S if retired else min(2 * pause_s, LONGEST_S), took_s / SHARE)


async def retire_logs(leader: Leader) -> int:
    """One round. Returns the number of logs emptied. Raises: StoreError."""
    store, keys = leader.log.store, leader.log.keys
    before = leader.clock.monotonic() - leader.settings.lease_s
    gone = {writer for writer, sealed_at in leader.sealed_at.items() if sealed_at <= before} - leader.retired
    if not gone:
        return 0
    brief = await asyncio.to_thread(read_brief, store, keys)
    leader.retired |= brief.emptied
    forgotten_ms = int((leader.clock.now() - leader.settings.retention_s) * 1000)
    retired = 0
    for writer in sorted(gone & brief.words.keys() - brief.emptied):
        log = await asyncio.to_thread(recover, store, writer, keys=keys)
        brief.add(log)

        def done(found: Recovered, writer: str = writer) -> bool:
            return is_done(found.id, writer, brief, forgotten_ms)

        verdict = may_retire(log, process_gone=True, held=writer in brief.held, done=done)
        if not isinstance(verdict, MayGo) or log.damage:
            continue
        over = tombstones(log, brief.words.get(leader.log.writer, {}))
        if over:
            await leader.commit(*((id, epoch, Kind.TOMBSTONE, b"") for id, epoch in over.items()))
        await leader.prove()  # rule 19: a later term reads the newer words that make these needless
        nonce = bytes.fromhex(leader.clock.unique())
        deleted = await asyncio.to_thread(retire, store, log, nonce, keys)
        del brief.words[writer]
        leader.retired.add(writer)
        leader.event_log.info("retired", log=writer, objects=deleted, tombstones=len(over))
        retired += 1
    return retired


def read_brief(store: Store, keys: Keys) -> Brief:
    """A look at every log. Raises: StoreError."""
    brief = Brief()
    for writer in writers(store):
        brief.add(recover(store, writer, keys=keys))
    return brief

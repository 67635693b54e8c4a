"""Deleting a sealed log, whole, once nothing of it is needed any more; its seal and plan stay (rules 6 and 7).

First a base says that the log is empty up to its end: from then on readers see nothing of it, and numbers that are
freed, or that a delayed put makes once more, count for nothing. Only then is anything deleted. The seal keeps its
number, so a process that was stopped for years still meets it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ray_durable.checkpoint.fencing import IN_FLIGHT_MAX
from ray_durable.checkpoint.footer import Form, wrap
from ray_durable.checkpoint.keys import NO_KEYS, Keys
from ray_durable.checkpoint.names import (
    LogObject,
    base_name,
    is_ours,
    log_prefix,
    parse_log_object,
    plan_name,
    segment_name,
)
from ray_durable.checkpoint.reading import Base
from ray_durable.checkpoint.recovery import Recovered, Recovery
from ray_durable.checkpoint.references import find_references
from ray_durable.checkpoint.stores import Listed, Store
from ray_durable.errors import AlreadyExists


@dataclass(frozen=True, slots=True)
class MayGo:
    """All conditions of rule 6 hold."""


@dataclass(frozen=True, slots=True)
class Needed:
    """The log must stay, for this reason."""

    reason: str


def may_retire(log: Recovery, *, process_gone: bool, held: bool, done: Callable[[Recovered], bool]) -> MayGo | Needed:
    """Whether a log may be deleted. `process_gone`: its process is known dead, or its lease has run out; `held`:
    another
    log's states refer to its chunks; `done`: whether a coroutine is adopted elsewhere or its end is over."""
    if not log.fenced or log.sealed is None:
        return Needed("it has no seal with a plan")
    if not process_gone:
        return Needed("its process may live")
    if held:
        return Needed("states in other logs refer to its chunks")
    for coroutine in log.coroutines.values():
        if not done(coroutine):
            return Needed(f"{coroutine.id} is neither adopted nor over")
    return MayGo()


def held_logs(recoveries: Iterable[Recovery]) -> set[str]:
    """The logs whose chunks unfinished coroutines in these logs may need, beside their own."""
    held: set[str] = set()
    for recovery in recoveries:
        here: set[str] = set()
        for coroutine in recovery.coroutines.values():
            if coroutine.terminal is not None:
                continue
            here |= coroutine.holds
            states = [each.state for each in (coroutine.latest, coroutine.checkpoint) if each is not None]
            here.update(found.writer for state in states for found in find_references(state))
        held |= here - {recovery.writer}
    return held


def retire(store: Store, log: Recovery, nonce: bytes, keys: Keys = NO_KEYS) -> int:
    """Delete everything of a sealed log but its seal and plan; a user's own files in its folder stay. The caller has
    asked `may_retire`. Safe to repeat, also after a crash in the middle. Returns the number of objects deleted: none
    where more lies behind the seal than can have been under way, as something before it has been lost then, and that is
    all that is left. Raises: StoreError."""
    assert log.sealed is not None
    length = log.length
    if beyond(parsed(log.writer, store.list(log_prefix(log.writer))), length) > IN_FLIGHT_MAX:
        return 0
    emptied = base_name(log.writer, length, 999_999)
    body = Base(length, 999_999, emptied=True).pack()
    try:
        store.create(emptied, wrap(log.writer, length, nonce, body, Form.BASE, keys))
    except AlreadyExists:
        pass  # begun before, or by another
    stay = {emptied, segment_name(log.writer, length), plan_name(log.writer, length)}
    deleted = 0
    for listed in store.list(log_prefix(log.writer)):
        if listed.name not in stay and is_ours(listed.name):
            store.delete(listed.name)
            deleted += 1
    return deleted


def parsed(writer: str, listed: Iterable[Listed]) -> list[LogObject]:
    """What the listing of a log has of segments and bases."""
    prefix = log_prefix(writer)
    found = (parse_log_object(each.name.removeprefix(prefix)) for each in listed)
    return [each for each in found if each is not None]


def beyond(found: Iterable[LogObject], length: int) -> int:
    """How many segments lie behind a number."""
    return sum(not each.base and each.number > length for each in found)

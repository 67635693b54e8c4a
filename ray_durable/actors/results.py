"""Outcomes in the controller's memory, as many as there is room for; the older ones are read from the logs again.

An outcome is in the log of the host that made it, and stays there until the retention is over. So what is forgotten
here is not lost: whoever asks for it costs one look at that log, and those who ask at the same time share it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ray_durable.actors.facts import finished_in
from ray_durable.actors.ledger import Entry
from ray_durable.actors.outcomes import Finished
from ray_durable.checkpoint.keys import Keys
from ray_durable.checkpoint.names import writers
from ray_durable.checkpoint.recovery import recover
from ray_durable.checkpoint.stores import Store
from ray_durable.errors import NoSuchCoroutineError, StoreError

if TYPE_CHECKING:
    from ray_durable.actors.leader import Leader

__all__ = ["Results"]

BYTES_MAX = 256 << 20
SMALL = 4096  # what is smaller than that is not worth a look at a log
SHARED_S = 5.0  # outcomes read from a log are kept for so long: more of them may be asked for


class Results:
    """Which finished entries have their outcome here, the oldest first."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0
        self.kept: OrderedDict[str, tuple[Entry, int]] = OrderedDict()
        self.looks: dict[str, asyncio.Task[dict[str, Finished]]] = {}

    def keep(self, entry: Entry) -> None:
        """An entry has ended just now; make room for its outcome."""
        finished = entry.finished
        assert finished is not None
        size = len(finished.payload) + sum(len(payload) for _, payload in finished.items)
        if size < SMALL:
            return
        self.kept[entry.header.id] = entry, size
        self.bytes += size
        while self.bytes > self.bytes_max and len(self.kept) > 1:
            _, (oldest, size) = self.kept.popitem(last=False)
            self.bytes -= size
            assert oldest.finished is not None
            oldest.finished = replace(oldest.finished, payload=b"", items=())
            oldest.items.clear()
            oldest.in_log = True

    def forget(self, id: str) -> None:
        """Its retention is over."""
        _, size = self.kept.pop(id, (None, 0))
        self.bytes -= size

    async def outcome(self, leader: Leader, entry: Entry) -> Finished:
        """How an entry has ended, whole; waits while the store fails. Raises: NoSuchCoroutineError when no log has it
        any more."""
        assert entry.finished is not None
        if not entry.in_log:
            return entry.finished
        id, owner = entry.header.id, entry.owner
        found = (await self.look(leader, owner)).get(id)
        if found is None:
            others = await asyncio.to_thread(writers, leader.log.store)
            looks = [await self.look(leader, writer) for writer in others if writer != owner]
            found = next((look[id] for look in looks if id in look), None)
        if found is None:
            raise NoSuchCoroutineError(id, "it has ended, and the retention of its result is over")
        return found

    async def look(self, leader: Leader, writer: str) -> Mapping[str, Finished]:
        """All outcomes in one log."""
        if writer not in self.looks:
            self.looks[writer] = asyncio.create_task(read_patiently(leader, writer))
            self.looks[writer].add_done_callback(lambda _: self.over_soon(writer))
        return await asyncio.shield(self.looks[writer])

    def over_soon(self, writer: str) -> None:
        asyncio.get_running_loop().call_later(SHARED_S, self.looks.pop, writer, None)


async def read_patiently(leader: Leader, writer: str) -> dict[str, Finished]:
    """The outcomes in a log, once the store gives them."""
    while True:
        try:
            return await asyncio.to_thread(outcomes_in, leader.log.store, writer, leader.log.keys)
        except StoreError as error:
            leader.event_log.warning("result_postponed", log=writer, error=str(error))
            await asyncio.sleep(leader.settings.poll_s)


def outcomes_in(store: Store, writer: str, keys: Keys) -> dict[str, Finished]:
    return {finished.coroutine: finished for finished in finished_in(recover(store, writer, keys=keys))}

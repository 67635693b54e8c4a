"""What the controller asks of the host that has a coroutine, wherever it is by then: until it is answered, or ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ray

from ray_durable.actors.fleet import HostRecord
from ray_durable.actors.ledger import Entry
from ray_durable.actors.outcomes import Value
from ray_durable.actors.takeover import take_over
from ray_durable.errors import NoSuchCoroutineError

if TYPE_CHECKING:
    from ray_durable.actors.leader import Leader

__all__ = ["cancel", "deliver", "item", "oldest_item"]

AGAIN_S = 0.2


def runs_on(leader: Leader, entry: Entry) -> HostRecord | None:
    """The host that runs it and can be asked, or None."""
    return leader.fleet.hosts.get(entry.owner) if entry.running else None


async def deliver(leader: Leader, entry: Entry, sender: str, number: int, topic: str, payload: bytes) -> None:
    """Return when the message is durable. Raises: NoSuchCoroutineError when the coroutine has ended."""
    id = entry.header.id
    while True:
        if entry.finished is not None:
            raise NoSuchCoroutineError(id, f"it has {entry.finished.ending}, and takes no more messages")
        record = runs_on(leader, entry)
        if record is not None and not entry.leaving:
            try:
                if await record.handle.deliver.remote(leader.term, id, sender, number, topic, payload):
                    return
            except ray.exceptions.RayActorError:
                pass
        await entry.changed(AGAIN_S)


async def item(leader: Leader, entry: Entry, index: int) -> tuple[bool, Value | None]:
    """Whether the stream has a value at `index`, and that value. Raises: NoSuchCoroutineError for one that its reader
    has said it has, by asking for a later one."""
    id = entry.header.id
    while True:
        if index in entry.items:
            return True, Value(entry.items[index])
        if entry.in_log:
            kept = dict((await leader.results.outcome(leader, entry)).items)
            if index in kept:
                return True, Value(kept[index])
        if entry.finished is not None:
            if index < entry.finished.emitted:
                raise NoSuchCoroutineError(id, f"its value {index} was read before, and is not kept")
            return False, None
        record = runs_on(leader, entry)
        if record is not None:
            try:
                value: Value | None = await record.handle.item.remote(leader.term, id, index)
            except ray.exceptions.RayActorError:
                value = None
            if value is not None:
                return True, value
        await entry.changed(AGAIN_S)


async def oldest_item(leader: Leader, entry: Entry) -> int:
    """The index of the oldest value of a stream that is kept; if none is, of the next one. Waits for no place."""
    while True:
        if entry.finished is not None:
            finished = await leader.results.outcome(leader, entry)
            return min((index for index, _ in finished.items), default=finished.emitted)
        if entry.transfer is not None:
            return entry.transfer.marks.read
        record = runs_on(leader, entry)
        if record is not None:
            try:
                index: int | None = await record.handle.oldest_item.remote(leader.term, entry.header.id)
            except ray.exceptions.RayActorError:
                index = None
            if index is not None:
                return index
        await entry.changed(AGAIN_S)


async def cancel(leader: Leader, entry: Entry) -> bool:
    """Have a coroutine cancelled, durably. False when it has ended already."""
    while entry.finished is None:
        record = leader.fleet.hosts.get(entry.owner)
        if entry.running and record is not None and not entry.leaving:
            try:
                if await record.handle.cancel.remote(leader.term, entry.header.id):
                    return True
            except (ray.exceptions.RayActorError, ray.exceptions.TaskCancelledError):
                pass  # it has died; or Ray has cancelled our call too, as one made by the call that was cancelled
        elif not entry.owner:
            await leader.cancel_unplaced(entry)
            if entry.finished is not None:
                return True
        elif record is not None and record.state == "starting" and record.dedicated_to == entry.header.id:
            entry.cancelled = True  # its own host may never start: then it is not placed again
            await take_over(leader, record, "call_failed", "requested")
        await entry.changed(AGAIN_S)
    return entry.cancelled and entry.finished.ending == "cancelled"

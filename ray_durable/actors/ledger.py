"""The controller's map: every coroutine that is admitted, who owns it, and how it ended. Plain data, one thread."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ray_durable.actors.culprits import NO_CRASHES, Crashes
from ray_durable.actors.outcomes import Finished
from ray_durable.actors.transfer import Header, Transfer

__all__ = ["Entry", "Ledger"]

EXPIRED_MAX = 1_000_000


@dataclass(slots=True, eq=False)
class Entry:
    """One coroutine. `owner` is the incarnation of the newest plan, empty when nobody can run it yet; `running` says
    that the owner has adopted it; until then `transfer` is what the owner must be handed."""

    header: Header
    epoch: int = 0
    owner: str = ""
    running: bool = False
    transfer: Transfer | None = None
    reason: str = ""
    balanced_at: float = float("-inf")  # when it was last moved to even out the load, in monotonic seconds
    source: str = ""  # the host whose `moved` record is needed until it is adopted
    left: set[str] = field(default_factory=set)  # hosts that gave it up: they keep what chunks are needed until it ends
    bound_for: str | None = None  # where it is being moved, before the move is durable
    crashes: Crashes = NO_CRASHES  # of hosts that ran it
    cancelled: bool = False  # it is to be cancelled as soon as no host has been promised it
    finished: Finished | None = None
    in_log: bool = False  # its outcome is not kept here: see `results`
    waiters: list[asyncio.Future[None]] = field(default_factory=list)
    items: dict[int, bytes] = field(default_factory=dict)

    @property
    def leaving(self) -> bool:
        return self.bound_for is not None

    @property
    def state(self) -> str:
        """In the words of the metrics and the command line."""
        if self.finished is not None:
            return self.finished.ending
        if not self.owner:
            return "pending"
        return "running" if self.running and not self.leaving else "moving"

    def notify(self) -> None:
        """Wake whoever waits for a change of this coroutine."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def changed(self, timeout_s: float | None = None) -> None:
        """Return at the next change, or after `timeout_s`."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            await asyncio.wait_for(waiter, timeout_s)
        except TimeoutError:
            self.waiters = [other for other in self.waiters if other is not waiter]


class Ledger:
    """All entries, by id, by name and by owner. Names of finished coroutines answer until they are used again."""

    def __init__(self) -> None:
        self.entries: OrderedDict[str, Entry] = OrderedDict()
        self.names: dict[tuple[str, str], str] = {}
        self.owned: defaultdict[str, dict[str, Entry]] = defaultdict(dict)
        self.expired: OrderedDict[str, None] = OrderedDict()  # ids of those that are over and forgotten
        self.awaited: list[asyncio.Future[None]] = []  # whoever looks for one that is not here yet
        self.unfinished = 0
        self.endings: deque[tuple[float, Entry]] = deque()  # those that have ended, with the time
        self.moving: Counter[str] = Counter()  # +1 where an entry is bound for, -1 where it leaves

    def add(self, entry: Entry) -> None:
        assert entry.header.id not in self.entries
        awaited, self.awaited = self.awaited, []
        for arrival in awaited:
            if not arrival.done():
                arrival.set_result(None)
        self.entries[entry.header.id] = entry
        if entry.finished is None:
            self.unfinished += 1
        name = entry.header.name
        if name is not None:
            holder = self.named(entry.header.namespace, name)
            if holder is None or holder.finished is not None:
                self.names[entry.header.namespace, name] = entry.header.id

    async def find(self, id: str, namespace: str, patience_s: float) -> Entry | None:
        """The entry of this id, or of this name; waits for it for up to `patience_s` seconds if it is not here."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        while True:
            entry = self.entries.get(id) or self.named(namespace, id)
            if entry is not None or id in self.expired or loop.time() >= deadline:
                return entry
            arrival: asyncio.Future[None] = loop.create_future()
            self.awaited.append(arrival)
            await asyncio.wait([arrival], timeout=deadline - loop.time())

    def named(self, namespace: str, name: str) -> Entry | None:
        """The unfinished or last coroutine of that name."""
        id = self.names.get((namespace, name))
        return None if id is None else self.entries.get(id)

    def assign(self, entry: Entry, epoch: int, owner: str, transfer: Transfer | None) -> None:
        """A durable plan says: `owner`, at `epoch`. `transfer` is what it is to be handed; None: it has it already."""
        assert epoch >= entry.epoch, f"{entry.header.id}: epoch {epoch} after {entry.epoch}"
        self.stay(entry)
        self.owned[entry.owner].pop(entry.header.id, None)
        entry.epoch, entry.owner, entry.transfer = epoch, owner, transfer
        entry.running = transfer is None
        self.owned[owner][entry.header.id] = entry
        entry.notify()

    def finish(self, entry: Entry, finished: Finished) -> bool:
        """Note the outcome; whether it was news."""
        if entry.finished is not None:
            return False
        self.unfinished -= 1
        entry.finished = finished
        entry.items.update(finished.items)
        self.endings.append((finished.ended, entry))
        entry.transfer = None
        entry.running = False
        self.stay(entry)
        self.owned[entry.owner].pop(entry.header.id, None)
        entry.notify()
        return True

    def forget(self, before: float) -> list[str]:
        """Forget what had ended by `before`, in seconds since the epoch; its id still answers that it is over. Returns
        the ids."""
        forgotten = []
        while self.endings and self.endings[0][0] <= before:
            _, entry = self.endings.popleft()
            header = entry.header
            self.entries.pop(header.id, None)
            if header.name is not None and self.names.get((header.namespace, header.name)) == header.id:
                del self.names[header.namespace, header.name]
            self.expired[header.id] = None
            forgotten.append(header.id)
        while len(self.expired) > EXPIRED_MAX:
            self.expired.popitem(last=False)
        return forgotten

    def is_apart(self, header: Header) -> bool:
        """Whether a coroutine gets a host of its own: it asks for resources, or hosts have died of it. Of a single
        death somebody else may be guilty, such as the kernel or an operator."""
        entry = self.entries.get(header.id)
        return header.demands.dedicated or (entry is not None and entry.crashes.times > 1)

    def load(self, host: str) -> int:
        """Coroutines on a host or on their way to it, without those that are leaving it."""
        return len(self.owned.get(host, ())) + self.moving[host]

    def leave(self, entry: Entry, target: str) -> None:
        """A move to `target` has begun, and is not durable yet."""
        entry.bound_for = target
        self.moving[target] += 1
        self.moving[entry.owner] -= 1

    def stay(self, entry: Entry) -> None:
        """No move of it is under way (any more)."""
        if entry.bound_for is not None:
            self.moving[entry.bound_for] -= 1
            self.moving[entry.owner] += 1
            entry.bound_for = None

    def debts(self, host: str) -> list[Entry]:
        """What is planned to go to `host` and has not arrived."""
        return [entry for entry in self.owned.get(host, {}).values() if not entry.running]

    def unplaced(self) -> Iterator[Entry]:
        """What waits for a place."""
        yield from list(self.owned.get("", {}).values())

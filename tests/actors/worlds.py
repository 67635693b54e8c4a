"""A world of engines over one store in which hosts die and coroutines move at any commit, with a sender that repeats
its messages until they are acknowledged and a reader that drops what it has seen: what users see must be exactly once.
"""

from __future__ import annotations

import asyncio

from ray_durable.actors.facts import finished_in, transfer_from
from ray_durable.actors.hosted import Leaving
from ray_durable.actors.mailbox import Message
from ray_durable.checkpoint.codec import dumps, loads
from ray_durable.checkpoint.recovery import recover
from ray_durable.checkpoint.stores import open_store
from tests.actors.engines import EngineHost

JOURNAL: list[object] = []  # what coroutines really did, in order: the test's own process is the outside world


def did(step):
    JOURNAL.append(step)


class FaultyHost(EngineHost):
    """`fault` is called before each commit is written ("lost") and before each is released ("durable")."""

    def __init__(self, store, writer, fault):
        super().__init__(store, writer)
        self.dead = False
        self.commits = 0
        self.promised = None
        commit, release = self.log.commit, self.engine.on_durable

        def commit_or_die(idle=False):
            if self.log.rows and not self.dead:
                fault(self, "lost")
            if not self.dead:
                commit()

        def release_or_die(tokens):
            if self.dead:
                return
            self.commits += 1
            fault(self, "durable")
            if not self.dead:
                release(tokens)

        self.log.commit = commit_or_die
        self.log.on_durable = release_or_die

    def adopt(self, transfer):
        self.promised = transfer
        super().adopt(transfer)

    def crash(self):
        self.dead = True
        super().crash()
        for hosted in self.engine.coroutines.values():
            if hosted.coroutine.host is None:
                continue
            for branch in hosted.coroutine.branches():
                if branch.driver is not None:
                    branch.driver.stop()
            hosted.coroutine.let_go()


class World:
    """One coroutine "c" and its surroundings. `faults`: (moment, action) in the order in which they are to come; a
    moment is ("lost" | "durable", how many moments of that kind after the last fault), an action "crash", "move" or a
    function of the world."""

    def __init__(self, url, faults=()):
        self.store = open_store(url)
        self.faults = list(faults)
        self.counts = {"lost": 0, "durable": 0}
        self.fired = 0
        self.hosts = [self.new_host()]
        self.tasks: list[asyncio.Task] = []
        self.problems: list[BaseException] = []

    def new_host(self):
        host = FaultyHost(self.store, f"host-{getattr(self, 'made', 0) + 1}", self.moment)
        self.made = getattr(self, "made", 0) + 1
        host.engine.on_failure = self.note
        return host

    def note(self, error):
        self.problems.append(error)

    @property
    def host(self):
        return self.hosts[-1]

    def moment(self, host, kind):
        if host is not self.host or not self.faults:
            return
        self.counts[kind] += 1
        (wanted, number), action = self.faults[0]
        if kind != wanted or self.counts[kind] < number:
            return
        self.faults.pop(0)
        self.counts = {"lost": 0, "durable": 0}
        self.fired += 1
        if action == "crash":
            self.crash()
        elif action == "move":
            self.move()
        else:
            action(self)

    # -- what happens to hosts

    def crash(self):
        """SIGKILL, and a successor that has the coroutine from the log."""
        old = self.host
        old.crash()
        new = self.new_host()
        self.hosts.append(new)
        self.take(old, new)

    def take(self, old, new):
        """What a takeover does: the log says what `old` owned, and what it was promised goes on as a debt."""
        recovery = recover(self.store, old.writer)
        for finished in finished_in(recovery):
            new.outcomes.setdefault(finished.coroutine, finished)
        found = recovery.coroutines.get("c")
        transfer = None if found is None else transfer_from(found)
        if found is not None and found.terminal is not None:
            return
        if transfer is None or (old.promised is not None and found.adopted.epoch < old.promised.epoch):
            transfer = old.promised
        if transfer is not None:
            new.adopt(transfer.planned(transfer.epoch + 1, new.writer))

    def move(self):
        """A planned migration to a new host; the old one lives on."""
        old, new = self.host, self.new_host()
        hosted = old.engine.coroutines.get("c")
        if hosted is None:
            return

        def gone(transfer):
            if old.dead or self.host is not old:
                return
            if transfer is None and "c" not in old.outcomes:
                return  # another move of it is under way already
            self.hosts.append(new)
            if transfer is None:  # it has ended here
                new.outcomes.update(old.outcomes)
            else:
                new.adopt(transfer)

        old.engine.release("c", Leaving(hosted.epoch + 1, new.writer, gone))

    # -- users

    async def send(self, topic, *values, sender="s"):
        """Send each value until it is acknowledged, one after the other."""
        for number, value in enumerate(values, 1):
            payload = dumps(value)
            while not await self.deliver(Message(sender, number, topic, payload)):
                if self.outcome() is not None:
                    return
                await asyncio.sleep(0.001)

    async def deliver(self, message):
        host = self.host
        answer = asyncio.get_running_loop().create_future()
        host.engine.deliver("c", message, dumps(message), lambda ok: answer.done() or answer.set_result(ok))
        while not answer.done() and not host.dead:
            await asyncio.sleep(0)
        return answer.done() and answer.result()

    async def read(self, into):
        """Read the stream to its end, as a client does: an index is asked for until it is there or there is no more."""
        index = 0
        while True:
            finished = self.outcome()
            if finished is not None:
                into.extend(loads(payload) for at, payload in finished.items if at >= index)
                return
            hosted = self.host.engine.coroutines.get("c")
            if hosted is not None and not self.host.dead:
                self.host.engine.reader_has(hosted, index)
                found = next((payload for at, payload in hosted.items if at == index), None)
                if index < hosted.visible and found is not None:
                    into.append(loads(found))
                    index += 1
                    continue
            await asyncio.sleep(0)

    def outcome(self):
        return next((host.outcomes["c"] for host in reversed(self.hosts) if "c" in host.outcomes), None)

    def do(self, work):
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    async def result(self, timeout_s=10.0):
        """The result of "c", once users are done; raises its exception."""
        async with asyncio.timeout(timeout_s):
            while self.outcome() is None:
                await asyncio.sleep(0.0005)
            await asyncio.gather(*self.tasks)
        if self.problems:
            raise self.problems[0]
        outcome = self.outcome()
        value = loads(outcome.payload)
        if outcome.ending != "completed":
            raise value
        return value

    def close(self):
        for task in self.tasks:
            task.cancel()
        for host in self.hosts:
            if not host.dead:
                host.crash()

"""A small, hot world: one busy log with its janitor, sealers that are slow at the worst moments, and readers.

Where the cluster's world asks whether the whole protocol holds, this one asks it of the log alone, thousands of times.
"""

from __future__ import annotations

from ray_durable.checkpoint.compaction import Policy
from ray_durable.checkpoint.janitor import Janitor
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import fold_reading
from ray_durable.checkpoint.sealing import seal
from ray_durable.errors import FencedError, LogStoppedError, StoreError
from tests.simulation.checkers import Checker
from tests.simulation.controller import read_one_by_one
from tests.simulation.faults import Bucket, Lossless, WorldStore
from tests.simulation.world import Advanced, Executor, World, WorldClock, decoding_once, seldom_collecting

WRITER = "host-1"
POLICY = Policy(garbage_bytes_min=1, garbage_ratio=0.1, tail_segments_max=3, retention_s=None)


class Rough(Lossless):
    before, after, late, double, stale, slow = 0.04, 0.04, 0.04, 0.04, 0.1, 0.15
    delay_s = 0.01


class Duel:
    def __init__(self, seed):
        world = self.world = World(seed)
        world.network = world.process("network")
        self.bucket, self.checker = Bucket(), Checker(world)
        self.rough = True
        self.owner = world.process("owner")
        self.sealed = []
        self.steps = {"a": 0, "b": 0}
        self.stopped = False
        self.log = Log(
            self.store(self.owner),
            WRITER,
            executor=Executor(self.owner),
            call_soon=lambda fn, *args: world.push(0, self.owner, lambda: fn(*args)),
            on_durable=lambda tokens: [self.released(*token) for token in tokens],
            on_error=self.end,
            in_flight=world.random.choice([1, 4, 4]),
            clock=WorldClock(world),
        )
        self.log.advanced = Advanced(world)
        self.owner.spawn(self.write)
        self.owner.spawn(self.compact)
        for number in range(world.random.choice([1, 1, 2])):
            process = world.process(f"sealer {number}")
            process.spawn(self.end_it, process, number, after=world.random.uniform(0.1, 1.5))
            process.spawn(self.dawdle, process)
        self.mortal = world.chance(0.4)
        if self.mortal:
            self.owner.spawn(self.die, after=world.random.uniform(0.3, 3))
        reader = world.process("reader")
        reader.spawn(self.read, self.store(reader))

    def store(self, process):
        return WorldStore(self.world, process, self.bucket, lambda: Rough if self.rough else Lossless)

    def write(self):
        world = self.world
        while not self.stopped:
            id = world.random.choice("ab")
            self.steps[id] += 1
            stamp = world.random.getrandbits(32)
            try:
                self.log.append(id, 1, self.steps[id], Kind.CHECKPOINT, b"%d" % stamp, (id, self.steps[id], stamp))
                self.log.commit()
            except (FencedError, LogStoppedError):
                return
            world.sleep(world.random.expovariate(1 / 0.03))

    def released(self, id, step, stamp):
        self.checker.step(WRITER, id, step, stamp)

    def end(self, error):
        self.stopped = True
        self.world.note("fenced" if isinstance(error, FencedError) else "stopped")

    def compact(self):
        janitor = Janitor(self.log, POLICY)
        while not self.stopped:
            self.world.sleep(self.world.random.expovariate(1 / 0.05))
            try:
                if janitor.is_due():
                    janitor.compact()
                    self.world.note("compacted")
            except (FencedError, LogStoppedError, StoreError):
                self.world.note("compaction cut short")

    def die(self):
        """With commits under way, so that there may be a gap for good."""
        self.owner.kill()
        self.stopped = True

    def dawdle(self, process):
        """The sealer is stopped again and again, between any two of its requests."""
        for _ in range(6):
            self.world.sleep(self.world.random.uniform(0.02, 0.4))
            process.stop(self.world.random.uniform(0.1, 1.5))

    def end_it(self, process, number):
        sealed = seal(
            self.store(process),
            WRITER,
            f"sealer {number}",
            b"plan of %d" % number,
            clock=WorldClock(self.world),
            read=read_one_by_one,
        )
        self.sealed.append((sealed.sealer, sealed.plan, sealed.length))
        self.checker.seal(WRITER, places(sealed.recovery))
        self.world.note("sealed")

    def read(self, store):
        while True:
            self.world.sleep(self.world.random.expovariate(1 / 0.25))
            try:
                recovery = fold_reading(read_one_by_one(store, WRITER))
            except StoreError:
                continue
            if recovery.damage:
                self.checker.broken("a reader has met damage", recovery.damage)
            self.checker.look(WRITER, places(recovery))


def places(recovery):
    return {id: found.latest.seq for id, found in recovery.coroutines.items() if found.latest is not None}


def duel(seed):
    """Run one to its end: the log is sealed, its owner has noticed, and all that was promised holds."""
    with decoding_once(), seldom_collecting():
        world = Duel(seed)
        world.world.run(3)
        world.rough = False
        world.world.run(40, lambda: world.stopped and world.sealed)
        world.world.run(world.world.now + 3)
    if not world.sealed or not world.stopped:
        world.checker.broken("the log was not sealed, or its owner has not noticed", world.sealed, world.stopped)
    if len(set(world.sealed)) != 1:
        world.checker.broken("sealers do not agree", world.sealed)
    return world

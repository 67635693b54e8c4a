"""One log whose coroutines keep large buffers, few different ones, again and again: what compaction takes away is what
the next state may ask for. Readers look all the while whether each durable state has its buffer.
"""

from __future__ import annotations

from ray_durable.checkpoint.chunks import Chunks
from ray_durable.checkpoint.compaction import Policy
from ray_durable.checkpoint.janitor import Janitor
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import fold_reading
from ray_durable.errors import FencedError, LogStoppedError, NotFoundError, StoreError
from tests.simulation.controller import read_one_by_one
from tests.simulation.duel import Rough
from tests.simulation.faults import Bucket, Lossless, WorldStore
from tests.simulation.world import Advanced, Executor, World, WorldClock, decoding_once, seldom_collecting

WRITER = "host-1"
POLICY = Policy(garbage_bytes_min=1, garbage_ratio=0.2, tail_segments_max=5, retention_s=None, pack_garbage_ratio=0.1)
BODIES = 6


class Hoard:
    def __init__(self, seed):
        world = self.world = World(seed)
        world.network = world.process("network")
        self.bucket = Bucket()
        self.rough = True
        self.owner = world.process("owner")
        self.stopped = None
        self.log = Log(
            self.store(self.owner),
            WRITER,
            executor=Executor(self.owner),
            call_soon=lambda fn, *args: world.push(0, self.owner, lambda: fn(*args)),
            on_durable=lambda tokens: None,
            on_error=self.end,
            in_flight=world.random.choice([1, 4]),
            clock=WorldClock(world),
        )
        self.log.advanced = Advanced(world)
        self.bodies = [world.random.randbytes(world.random.choice([200, 2000])) for _ in range(BODIES)]
        self.seqs = dict.fromkeys("abcd", 0)
        self.looked = 0
        self.owner.spawn(self.write)
        self.owner.spawn(self.compact)
        reader = world.process("reader")
        reader.spawn(self.look_on, self.store(reader))

    def store(self, process):
        return WorldStore(self.world, process, self.bucket, lambda: Rough if self.rough else Lossless)

    def end(self, error):
        self.stopped = error

    def write(self):
        world, chunks = self.world, self.log.chunks
        while self.stopped is None:
            world.sleep(world.random.expovariate(1 / 0.04))
            id, number = world.random.choice("abcd"), world.random.randrange(BODIES)
            self.seqs[id] += 1
            try:
                state = b"%d" % number + chunks.save(memoryview(self.bodies[number]))
                self.log.append(id, 1, self.seqs[id], Kind.CHECKPOINT, state)
                self.log.commit()
            except (FencedError, LogStoppedError):
                return

    def compact(self):
        janitor = Janitor(self.log, POLICY)
        while self.stopped is None:
            self.world.sleep(self.world.random.expovariate(1 / 0.05))
            try:
                if janitor.is_due():
                    janitor.compact()
                    self.world.note("compacted")
                    self.world.met["pack emptied"] += bool(janitor.base.relocated)
            except (FencedError, LogStoppedError, StoreError):
                self.world.note("compaction cut short")

    def look_on(self, store):
        while True:
            self.world.sleep(self.world.random.expovariate(1 / 0.3))
            self.look(store)

    def look(self, store):
        """Every newest durable state has its buffer."""
        gone = None
        while True:
            try:
                recovery = fold_reading(read_one_by_one(store, WRITER))
                found = {id: each.latest for id, each in recovery.coroutines.items()}
                if gone is not None and found[gone[0]] == gone[1]:
                    raise AssertionError(f"a large buffer is gone: {gone} (seed {self.world.seed})")
                gone = None
                for id, latest in found.items():
                    try:
                        body = Chunks(store, "reader").load(latest.state[1:])
                    except NotFoundError:  # or a newer state has come, and this one's buffer may go
                        gone = id, latest
                        break
                    if body != self.bodies[int(latest.state[:1])]:
                        raise AssertionError(f"a large buffer is not what it was: {id} (seed {self.world.seed})")
                if gone is None:
                    self.looked += 1
                    return
            except StoreError:
                continue


def hoard(seed):
    """Run one to its end: all that is durable has its buffers, whatever compaction has moved."""
    with decoding_once(), seldom_collecting():
        world = Hoard(seed)
        world.world.run(3)
        world.rough = False
        looked = world.looked
        world.world.run(30, lambda: world.looked > looked + 1)
    if world.stopped is not None or world.looked == looked:
        raise AssertionError(f"the log has stopped, or nobody could look: {world.stopped} (seed {seed})")
    return world

"""Two clusters on one prefix (rule 18), in virtual time: the real claims and counters."""

from __future__ import annotations

from ray_durable.actors.terms import beat, is_replaced, lead_cluster
from ray_durable.errors import StorageInUseError, StoreError
from tests.simulation.faults import Bucket, Lossless, WorldStore
from tests.simulation.world import World, WorldClock

LEASE_S = 4.0


class Cluster:
    """Leads if it may, beats while it lives, stops when it is replaced."""

    def __init__(self, world, bucket, name, takeover=False):
        self.world, self.name, self.takeover = world, name, takeover
        self.process = world.process(name)
        self.store = WorldStore(world, self.process, bucket, lambda: Lossless)
        self.clock = WorldClock(world)
        self.led = None
        self.refused = self.stopped = False
        self.beats = []

    def run(self):
        try:
            number = lead_cluster(
                self.store, self.name, "world://", lease_s=LEASE_S, takeover=self.takeover, clock=self.clock
            )
        except StorageInUseError:
            self.refused = True
            return
        self.led = self.world.now
        while True:
            try:
                if is_replaced(self.store, number):
                    self.stopped = True
                    return
                beat(self.store, number, self.clock.unique())
                self.beats.append(self.world.now)
            except StoreError:
                pass
            self.world.sleep(LEASE_S / 8)


def meet(seed, takeover=False):
    """An old cluster, which may fall silent or die, and a new one that comes."""
    world = World(seed)
    world.network = world.process("network")
    bucket = Bucket()
    old, new = Cluster(world, bucket, "old"), Cluster(world, bucket, "new", takeover)
    old.process.spawn(old.run)
    fate = world.random.choice(["lives", "dies", "stops"])
    comes = world.random.uniform(1, 6)
    new.process.spawn(new.run, after=comes)
    world.run(comes - 0.5)
    if fate == "dies":
        old.process.kill()
    if fate == "stops":
        old.process.stop(3 * LEASE_S)
    world.run(comes + 6 * LEASE_S)
    return old, new, fate


def rivals(seed):
    """One meeting to its end. Raises: AssertionError, if a second cluster took over from a first that was not silent,
    or both go on."""
    old, new, fate = meet(seed)
    if fate == "lives":
        assert new.refused
        assert not old.stopped
    else:
        assert not new.refused
        # One that was stopped just before a beat completes it when it wakes; then it sees that it was replaced.
        assert new.led - max(at for at in old.beats if at < new.led) >= LEASE_S
    if fate == "stops":
        assert old.stopped  # it has woken, found the later claim, and did not take anything back
        assert not new.stopped

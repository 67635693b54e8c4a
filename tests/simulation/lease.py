"""A host that falls silent, and whoever seals it (rule 13): how long user code runs on.

The host is cut off from the controller, from the store or from both, or stopped; its coroutines wake up at times of
their own. The real lease and verdicts decide, over a real log and seal.
"""

from __future__ import annotations

from ray_durable.actors import membership
from ray_durable.actors.membership import Heard, Limits
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.sealing import seal
from ray_durable.errors import FencedError, LogStoppedError, StoreError
from tests.simulation.controller import read_one_by_one
from tests.simulation.faults import Bucket, Lossless, WorldStore
from tests.simulation.world import Advanced, Executor, World, WorldClock, decoding_once

WRITER = "host-1"
LIMITS = Limits(silence_s=0.5, lease_s=1.2)
SLACK_S = 0.1
"""Messages, and the store's answers, are quicker than this."""


class CutOff(Lossless):
    before = 1.0


class Lease:
    def __init__(self, seed):
        world = self.world = World(seed)
        world.network = world.process("network")
        self.host, self.controller = world.process("host"), world.process("controller")
        self.bucket = Bucket()
        self.cut = {part: world.chance(0.6) for part in ("store", "controller")}
        self.cut_at = world.random.uniform(0.5, 2.0)
        self.heard = self.renewed = 0.0
        self.sealed_at = None
        self.ran = []
        self.stopped = self.given_up = False
        self.log = Log(
            WorldStore(world, self.host, self.bucket, lambda: CutOff if self.is_cut("store") else Lossless),
            WRITER,
            executor=Executor(self.host),
            call_soon=lambda fn, *args: world.push(0, self.host, lambda: fn(*args)),
            on_durable=lambda tokens: None,
            on_error=self.end,
            clock=WorldClock(world),
        )
        self.log.advanced = Advanced(world)
        for number in range(4):
            self.host.spawn(self.sleeper, f"c{number}", 0)
        self.host.spawn(self.beat)
        self.controller.spawn(self.watch)
        if world.chance(0.3):
            world.push(self.cut_at, world.network, lambda: self.host.stop(world.random.uniform(0.2, 3.0)))

    def is_cut(self, part):
        return self.cut[part] and self.world.now >= self.cut_at

    def end(self, error):
        self.stopped = True

    def allowed(self):
        return membership.lease_held(self.world.now, max(self.renewed, self.log.durable_at), LIMITS.lease_s)

    def sleeper(self, id, number):
        """A coroutine that sleeps: each time it wakes, user code runs, and leaves a checkpoint."""
        while not self.stopped:
            self.world.sleep(self.world.random.expovariate(1 / 0.4))
            if not self.allowed():
                continue
            number += 1
            self.ran.append(self.world.now)
            try:
                self.log.append(id, 1, number, Kind.CHECKPOINT, b"")
                self.log.commit()
            except (FencedError, LogStoppedError):
                return

    def beat(self):
        world = self.world
        while not self.stopped:
            if not self.is_cut("controller"):
                sent_at = world.now
                world.push(world.random.uniform(0, SLACK_S / 2), self.controller, lambda at=sent_at: self.hear(at))
            world.sleep(0.1)

    def hear(self, sent_at):
        self.heard = self.world.now
        if not self.is_cut("controller") and not self.given_up:
            self.world.push(self.world.random.uniform(0, SLACK_S / 2), self.host, lambda: self.renew(sent_at))

    def renew(self, sent_at):
        self.renewed = max(self.renewed, sent_at)

    def watch(self):
        """Judge the host, and seal it when it is taken for dead."""
        world = self.world
        while True:
            world.sleep(0.05)
            (verdict,) = membership.judge([Heard(WRITER, "node", self.heard)], world.now, LIMITS)
            if verdict.state == "dead":
                break
        self.given_up = True
        store = WorldStore(world, self.controller, self.bucket, lambda: Lossless)
        seal(store, WRITER, "controller-1", b"{}", clock=WorldClock(world), read=read_one_by_one)
        self.sealed_at = world.now


def lease(seed):
    """Run one to its end. Raises: AssertionError when user code ran on for longer than the rule allows."""
    with decoding_once():
        world = Lease(seed)
        try:
            world.world.run(8)
        except StoreError as error:
            raise AssertionError("the sealer's store does not fail") from error
    if world.sealed_at is None:
        return world
    late = [at for at in world.ran if at > world.sealed_at]
    most = LIMITS.lease_s / 2 + 2 * SLACK_S
    if late and late[-1] > world.sealed_at + most:
        raise AssertionError(f"user code runs {late[-1] - world.sealed_at:.2f} s after the seal (seed {seed})")
    if late and all(world.cut.values()):
        raise AssertionError(f"a host that was silent in every way ran on after its seal (seed {seed})")
    return world

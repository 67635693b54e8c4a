"""A host of the world: the real log, codec-free coroutines over it, and the real janitor.

Its coroutines are counters that do all that real ones do: step, take messages, stream values, carry a large buffer in
chunks, move, end. `rules` names rules that this host breaks on purpose.
"""

from __future__ import annotations

import json
from dataclasses import replace

from ray_durable.actors.transfer import Header, Marks, Transfer
from ray_durable.checkpoint.compaction import Policy
from ray_durable.checkpoint.janitor import Janitor
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.record import Consumed, Kind
from ray_durable.checkpoint.references import Reference
from ray_durable.errors import FencedError, LogStoppedError, NotFoundError, StoreError
from tests.simulation.faults import WorldStore
from tests.simulation.world import Advanced, Executor, WorldClock

FRESH = {"step": 0, "stamps": [], "received": [], "unread": [], "marks": {}, "items": [], "blob": None, "print": None}


def encode_state(state):
    """JSON, and behind it the reference as it is: whoever collects garbage looks for it in a state's bytes."""
    plain = {name: value for name, value in state.items() if name != "blob"}
    return json.dumps(plain).encode() + b"\n" + (state["blob"] or b"")


def decode_state(data):
    head, _, blob = bytes(data).partition(b"\n")
    return {**FRESH, **json.loads(head), "blob": blob or None}


def consumed(marks):
    """Marks as the log stores them."""
    return Consumed(marks.events, marks.emitted, marks.read).pack()


class Coroutine:
    """One that runs here. `busy`: records of it that are not durable yet."""

    def __init__(self, transfer):
        self.header: Header = transfer.header
        self.epoch, self.seq = transfer.epoch, transfer.seq
        self.state = decode_state(transfer.state or encode_state(FRESH))
        self.events = max([transfer.marks.events, *(number for number, _ in transfer.events)])
        self.applied = transfer.marks.events
        self.read = transfer.marks.read
        self.items = dict(transfer.items)
        self.busy = 0
        self.gone = False

    @property
    def id(self):
        return self.header.id

    @property
    def marks(self):
        return Marks(self.applied, len(self.state["items"]), self.read)

    def apply(self, number, payload, rules):
        """An event that is durable becomes part of the mailbox, unless its message has been here before."""
        message = json.loads(payload)
        self.applied = max(self.applied, number)
        state = self.state
        if "forget senders" in rules or message["number"] > state["marks"].get(message["sender"], 0):
            state["marks"][message["sender"]] = message["number"]
            state["unread"].append(message["number"])


class Host:
    def __init__(self, cluster, incarnation):
        self.cluster, self.incarnation = cluster, incarnation
        world = self.world = cluster.world
        self.rules = cluster.rules
        self.process = world.process(incarnation)
        self.store = WorldStore(world, self.process, cluster.bucket, lambda: cluster.faults)
        self.log = Log(
            self.store,
            incarnation,
            executor=Executor(self.process),
            call_soon=lambda fn, *args: world.push(0, self.process, lambda: fn(*args)),
            on_durable=lambda tokens: [token() for token in tokens if token is not None and not self.stopped],
            on_error=self.end,
            in_flight=world.random.choice([1, 2, 4]),
            retry_for_s=15,
            clock=WorldClock(world),
        )
        self.log.advanced = Advanced(world)
        self.coroutines = {}
        self.bodies = []
        self.moved = {}
        self.ended = {}
        """What has ended here: told again and again, as what is told may be lost, like what has moved."""
        self.stopped = False
        self.term = 0
        self.released = {}
        """Coroutines that moved away, and are adopted elsewhere at that epoch, as the controller says."""
        policy = Policy(
            garbage_bytes_min=1,
            garbage_ratio=0.5,
            tail_segments_max=cluster.weather.tail_segments_max,
            retention_s=None,
        )
        self.janitor = Janitor(self.log, policy, lambda: dict(self.released))
        self.process.spawn(self.keep_small)
        self.process.spawn(self.report)

    def end(self, error):
        self.stopped = True
        self.world.note("host fenced" if isinstance(error, FencedError) else "host stopped by its store")

    def keep_small(self):
        while not self.stopped:
            self.world.sleep(self.world.random.expovariate(1 / 0.6))
            if self.janitor.is_due() and self.world.chance(0.7):
                try:
                    self.janitor.compact()
                    self.world.note("compacted")
                except (FencedError, LogStoppedError, StoreError):
                    self.world.note("compaction cut short")

    def report(self):
        while not self.stopped:
            self.world.sleep(2)
            for id, (epoch, result) in self.ended.items():
                self.tell_end(id, epoch, result)
            for id, transfer in self.moved.items():
                if self.released.get(id, -1) < transfer.epoch:
                    self.tell_move(transfer)

    def tell_move(self, transfer):
        self.cluster.tell(lambda controller: controller.moved(transfer))

    def tell_end(self, id, epoch, result):
        self.cluster.tell(lambda controller: controller.finished(id, epoch, result))

    def release_is_known(self, id, epoch):
        self.released[id] = epoch
        self.cluster.checker.left(self.incarnation, id)

    # -- adopting

    def serves(self, controller):
        """Whether a controller's command is obeyed: not one of a lower term than was heard of, which is told so."""
        if self.stopped:
            return False
        if controller.term < self.term:
            if not self.world.chance(self.cluster.weather.lost):
                self.world.push(0.02, controller.process, controller.refused)
            return False
        self.term = controller.term
        return True

    def adopt(self, controller, transfer):
        """A controller's command: take this coroutine over. Runs as a greenlet of this host."""
        if not self.serves(controller):
            return
        if transfer.to != self.incarnation and "adopt anything" not in self.rules:
            self.world.note("plan for another refused")
            return
        if self.has(transfer):
            return
        coroutine = Coroutine(transfer)
        for number, payload in transfer.events:
            coroutine.apply(number, payload, self.rules)
        reference = coroutine.state["blob"]
        if reference is not None and self.load(reference) not in (None, coroutine.state["print"]):
            self.cluster.checker.broken("a large buffer is not what it was", coroutine.id)
        if self.stopped or self.has(transfer):
            return
        self.coroutines[coroutine.id] = (
            coroutine  # not before: no message may be durable here that was before `adopted`
        )
        if reference is not None and Reference.unpack(reference).writer != self.incarnation:
            owner = Reference.unpack(reference).writer
            self.append(coroutine, transfer.seq, Kind.HOLDS, owner.encode())
        self.append(
            coroutine,
            transfer.seq,
            Kind.ADOPTED,
            transfer.encode(),
            None if "run before adopted" in self.rules else lambda: self.begin(coroutine, transfer),
            consumed(transfer.marks),
        )
        if "run before adopted" in self.rules:
            self.begin(coroutine, transfer)

    def has(self, transfer):
        known = self.coroutines.get(transfer.header.id)
        return known is not None and known.epoch >= transfer.epoch

    def load(self, reference):
        while not self.stopped:
            try:
                return bytes(self.log.chunks.load(reference)).hex()
            except NotFoundError as error:
                if self.incarnation in self.cluster.checker.sealed:
                    return None  # an old plan has reached us late: whatever we made of it, we could not commit
                self.cluster.checker.broken("a large buffer is gone", error.name)
            except StoreError:
                self.world.sleep(0.1)
        return None

    def begin(self, coroutine, transfer):
        for index, value in transfer.items:  # durable where it came from, and perhaps seen by nobody there
            self.cluster.checker.item(coroutine.id, index, int(value))
        self.cluster.tell(lambda controller: controller.adopted(coroutine.id, coroutine.epoch, self.incarnation))
        self.cluster.checker.runs(coroutine.header.function, coroutine.id)
        self.soon(coroutine)

    # -- running

    def soon(self, coroutine):
        after_s = self.world.random.expovariate(1 / self.cluster.weather.step_s)
        self.world.push(after_s, self.process, lambda: self.advance(coroutine))

    def append(self, coroutine, seq, kind, state, token=None, consumed=b"", epoch=None):
        if self.stopped:
            return
        try:
            self.log.append(
                coroutine.id, coroutine.epoch if epoch is None else epoch, seq, kind, state, token, consumed
            )
            self.log.commit()
        except (FencedError, LogStoppedError):
            self.stopped = True

    def advance(self, coroutine):
        """One step, its checkpoint, and what the step yields once that is durable."""
        if self.stopped or coroutine.gone:
            return
        state, world = coroutine.state, self.world
        if state["step"] >= self.cluster.weather.steps:
            self.finish(coroutine)
            return
        state["step"] += 1
        stamp = world.random.getrandbits(40)
        state["stamps"].append(stamp)
        if state["unread"] and world.chance(0.7):
            state["received"].append(state["unread"].pop(0))
        index = None
        if world.chance(0.5):
            index = len(state["items"])
            state["items"].append(stamp)
        if world.chance(self.cluster.weather.large):
            body = world.random.randbytes(300) * world.random.choice([1, 40])
            if self.bodies and world.chance(0.4):  # again what may be stored still
                body = world.random.choice(self.bodies)
            self.bodies.append(body)
            state["blob"] = self.log.chunks.save(memoryview(body))
            state["print"] = body.hex()
        coroutine.seq += 1
        coroutine.busy += 1
        if index is not None:
            item_index = 0 if "items without index" in self.rules else index
            coroutine.items[item_index] = b"%d" % stamp
            self.append(coroutine, item_index, Kind.ITEM, b"%d" % stamp)
        step = state["step"]

        def released():
            coroutine.busy -= 1
            self.cluster.checker.step(self.incarnation, coroutine.id, step, stamp)
            if index is not None:
                self.cluster.checker.item(coroutine.id, index, stamp)
            self.soon(coroutine)

        encoded = encode_state(state)
        marks = consumed(coroutine.marks)
        self.append(coroutine, coroutine.seq, Kind.CHECKPOINT, encoded, released, marks)

    def finish(self, coroutine):
        if coroutine.busy:
            self.soon(coroutine)
            return
        coroutine.gone = True
        coroutine.seq += 1
        result = encode_state(coroutine.state)

        def released():
            self.cluster.checker.result(coroutine.id, self.cluster.decode(result))
            self.ended[coroutine.id] = coroutine.epoch, result
            self.tell_end(coroutine.id, coroutine.epoch, result)

        if "names free early" in self.rules:
            self.tell_end(coroutine.id, coroutine.epoch, result)
        self.append(coroutine, coroutine.seq, Kind.COMPLETED, result, released, consumed(coroutine.marks))

    # -- what others ask

    def deliver(self, id, message, accepted):
        """A message arrives; `accepted(True)` once it will not be lost, `accepted(False)` if it does not live here."""
        coroutine = self.coroutines.get(id)
        if self.stopped or coroutine is None or coroutine.gone:
            accepted("acknowledge elsewhere" in self.rules)
            return
        known = message["number"] <= coroutine.state["marks"].get(message["sender"], 0)
        if known and "forget senders" not in self.rules:
            self.world.note("message came twice")
            accepted(True)
            return
        coroutine.events += 1
        number, payload = coroutine.events, json.dumps(message).encode()
        coroutine.busy += 1

        def arrived():
            coroutine.busy -= 1
            if coroutine.gone:
                return
            coroutine.apply(number, payload, self.rules)
            accepted(True)

        if "acknowledge at once" in self.rules:
            accepted(True)
        self.append(coroutine, number, Kind.EVENT, payload, arrived)

    def release(self, controller, id, epoch, to):
        """A controller's command: move it to another host, if it stands still just now."""
        coroutine = self.coroutines.get(id)
        if not self.serves(controller):
            return
        if id in self.moved:  # what we told of it was lost
            self.tell_move(self.moved[id])
        if coroutine is None or coroutine.gone or coroutine.busy or to in ("", self.incarnation):
            return
        if epoch <= coroutine.epoch:
            return
        coroutine.gone = True
        coroutine.seq += 1
        transfer = Transfer(
            replace(coroutine.header),
            "frames",
            encode_state(coroutine.state),
            epoch,
            coroutine.seq,
            to,
            coroutine.marks,
            (),
            tuple(sorted(coroutine.items.items())),
        )

        def gone():
            self.moved[id] = transfer
            self.tell_move(transfer)

        self.append(
            coroutine,
            coroutine.seq,
            Kind.MOVED,
            transfer.encode(),
            gone,
            consumed(coroutine.marks),
            epoch=epoch,
        )
        self.world.note("moved")

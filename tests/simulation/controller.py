"""A controller term of the world: the real claims, fold, ledger, rebuild and take-over decisions, over the real log.

Its shell is a simple one (Ray's is in `actors`); what it decides by is what Ray's decides by.
"""

from __future__ import annotations

from ray_durable.actors.facts import facts_in, finished_in, state_to_follow
from ray_durable.actors.ledger import Entry
from ray_durable.actors.outcomes import Finished
from ray_durable.actors.ownership import (
    Fact,
    Plan,
    decode_plans,
    encode_plans,
    fold,
    live_in,
    plan_takeover,
    still_owed,
)
from ray_durable.actors.rebuild import CONTROLLER_PREFIX, controller_writer, rebuild
from ray_durable.actors.terms import next_term
from ray_durable.actors.transfer import Header, Transfer
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.names import writers
from ray_durable.checkpoint.reading import read_log_with
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import fold_reading
from ray_durable.checkpoint.retirement import MayGo, held_logs, may_retire, retire
from ray_durable.checkpoint.sealing import seal
from ray_durable.errors import FencedError, LogStoppedError, StoreError
from tests.simulation.faults import WorldStore
from tests.simulation.world import Advanced, Executor, WorldClock


def read_one_by_one(store, writer, *, start=0, keys=None):
    """The engine's reader without its threads."""
    return read_log_with(store, writer, lambda read, names: [read(name) for name in names], start)


class TermOver(Exception):
    """A signal: this term was replaced, and plans nothing more."""


class Controller:
    def __init__(self, cluster, number):
        self.cluster, self.world, self.rules = cluster, cluster.world, cluster.rules
        self.process = self.world.process(f"controller process {number}")
        self.clock = WorldClock(self.world)
        self.store = WorldStore(self.world, self.process, cluster.bucket, lambda: cluster.faults)
        self.term = 0
        self.ready = False
        self.stopped = False
        self.cut_off = False
        self.taking_over = set()
        self.dead = set()
        self.planned = {}
        """By coroutine: the newest plan in any seal."""
        self.ended = set()
        """Hosts whose sealed logs this term has gone through."""
        self.process.spawn(self.lead)

    # -- a term begins

    def lead(self):
        """Claim a term, end the earlier ones, learn what is, finish what they have begun."""
        self.term = self.insist(lambda: next_term(self.store, self.clock))
        recoveries = {}
        # All earlier terms, also those that have written nothing yet: they may be about to.
        earlier = [controller_writer(term) for term in range(1, self.term)]
        if "seal listed terms only" in self.rules:
            earlier = [each for each in self.insist(lambda: writers(self.store)) if each.startswith(CONTROLLER_PREFIX)]
        for writer in earlier:
            if writer != controller_writer(self.term):
                recoveries[writer] = self.seal(writer, b"{}").recovery
        listed = self.insist(lambda: writers(self.store))  # a host may have begun its log until then
        for writer in listed:
            if not writer.startswith(CONTROLLER_PREFIX):
                recoveries[writer] = self.read(writer)
        rebuilt = rebuild(recoveries)
        self.ledger = rebuilt.ledger
        self.dead = {writer for writer, recovery in recoveries.items() if recovery.sealed is not None}
        self.log = Log(
            self.store,
            controller_writer(self.term),
            executor=Executor(self.process),
            call_soon=lambda fn, *args: self.world.push(0, self.process, lambda: fn(*args)),
            on_durable=lambda tokens: [token() for token in tokens if token is not None and not self.stopped],
            on_error=self.end,
            clock=self.clock,
            retry_for_s=15,
        )
        self.log.advanced = Advanced(self.world)
        if not self.prove("rebuild without proof"):
            return
        for writer in sorted(rebuilt.unsealed):
            if writer not in self.cluster.hosts:
                self.process.spawn(self.take_over, writer)
        for entry in list(self.ledger.entries.values()):
            if entry.finished is not None or not entry.owner or entry.owner in rebuilt.unsealed:
                continue
            if entry.owner in self.dead and entry.transfer is not None:
                self.ledger.assign(entry, entry.epoch, "", entry.transfer)
            elif entry.owner not in self.dead | self.taking_over and entry.owner not in self.cluster.hosts:
                self.process.spawn(self.take_over, entry.owner)  # it has written nothing yet, and may be about to
        for entry in self.ledger.entries.values():
            if entry.finished is not None:
                self.cluster.checker.result(entry.header.id, self.cluster.decode(entry.finished.payload))
        self.ready = True
        self.world.note("term began")
        while not self.stopped:
            self.look_after()
            self.world.sleep(self.cluster.weather.look_every_s)

    def end(self, error):
        self.stopped = True
        self.world.note("controller fenced" if isinstance(error, FencedError) else "controller stopped by its store")

    def insist(self, act):
        while True:
            try:
                return act()
            except StoreError:
                self.world.sleep(0.1)

    def read(self, writer):
        return self.insist(lambda: fold_reading(read_one_by_one(self.store, writer)))

    def seal(self, writer, plan):
        return self.insist(
            lambda: seal(self.store, writer, controller_writer(self.term), plan, clock=self.clock, read=read_one_by_one)
        )

    # -- admission

    def admit(self, id, call, name, reply):
        """Accept a call; `reply(id, None)` once that is durable, `reply(None, reason)` if its name is taken."""
        if not self.ready or self.stopped:
            return
        known = self.ledger.entries.get(id)
        if known is not None:
            if known.epoch:
                reply(id, None)
            return
        holder = self.ledger.named("default", name) if name is not None else None
        if holder is not None and holder.finished is None:
            if holder.epoch:
                reply(None, "name taken")
            return
        header = Header(id, call, name)
        entry = Entry(header)
        self.ledger.add(entry)
        target = self.place()
        transfer = Transfer(header, "call", b"", 1, 0, target)
        if "answer before admitted" in self.rules:
            reply(id, None)

        def admitted():
            self.ledger.assign(entry, 1, target, transfer)
            reply(id, None)
            self.hand_over(entry)

        self.append(id, 1, Kind.ADMITTED, transfer.encode())
        self.append(id, 1, Kind.PLACED, target.encode(), admitted)

    def append(self, id, epoch, kind, state, token=None):
        if self.stopped:
            return
        try:
            self.log.append(id, epoch, 0, kind, state, token)
            self.log.commit()
        except (FencedError, LogStoppedError):
            self.stopped = True

    def place(self):
        alive = [each for each in self.cluster.hosts if each not in self.dead]
        return self.world.random.choice(alive) if alive else ""

    # -- looking after what is

    def look_after(self):
        world = self.world
        for incarnation in list(self.cluster.hosts):
            if incarnation not in self.taking_over and self.cluster.suspected(incarnation, self):
                self.process.spawn(self.take_over, incarnation)
        for entry in list(self.ledger.entries.values()):
            if entry.finished is not None or entry.epoch == 0:
                continue
            if entry.owner in self.ended and not entry.running:
                # The plan that ended that log was made by someone who did not know of this debt: plan anew (rule 12).
                self.ledger.assign(entry, entry.epoch, "", entry.transfer)
                self.world.note("debt left by another's plan")
            if not entry.owner:
                self.place_anew(entry)
            elif not entry.running:
                if "replace live plans" in self.rules and world.chance(0.2):
                    self.place_anew(entry)
                else:
                    self.hand_over(entry)
            elif world.chance(self.cluster.weather.moved):
                self.command(entry.owner, "release", entry.header.id, entry.epoch + 1, self.place())
        if world.chance(0.1):
            self.clean_up()

    def place_anew(self, entry):
        """A durable plan for one that has nowhere to go."""
        target = self.place()
        if not target or entry.bound_for is not None or entry.transfer is None:
            return
        epoch = entry.epoch + 1
        self.ledger.leave(entry, target)

        def planned():
            if entry.epoch < epoch and entry.finished is None:
                self.ledger.assign(entry, epoch, target, entry.transfer)
                self.hand_over(entry)

        self.append(entry.header.id, epoch, Kind.PLACED, target.encode(), planned)

    def hand_over(self, entry):
        if entry.owner and entry.transfer is not None:
            self.command(entry.owner, "adopt", entry.transfer.planned(entry.epoch, entry.owner))

    def command(self, incarnation, what, *args):
        """Ask a host for something; it may never arrive."""
        host = self.cluster.hosts.get(incarnation)
        if host is None or self.world.chance(0.9 if self.cut_off else self.cluster.weather.lost):
            return
        if what == "adopt" and self.world.chance(0.1):  # another incarnation answers at that address now
            host = self.world.random.choice(list(self.cluster.hosts.values()))
        act = getattr(host, what)
        delay = self.world.random.expovariate(1 / 0.02)
        if what == "adopt":
            host.process.spawn(act, self, *args, after=delay)
        else:
            self.world.push(delay, host.process, lambda: act(self, *args))

    # -- what hosts tell

    def refused(self):
        """A host serves a later term."""
        self.stopped = True
        self.world.note("controller refused")

    def adopted(self, id, epoch, incarnation):
        entry = self.ledger.entries.get(id)
        if entry is not None and entry.epoch == epoch and entry.owner == incarnation and entry.finished is None:
            entry.running, entry.transfer = True, None
            source, entry.source = self.cluster.hosts.get(entry.source), ""
            if source is not None and not self.world.chance(self.cluster.weather.lost):
                self.process.spawn(self.let_forget, source, id, epoch)

    def let_forget(self, source, id, epoch):
        """Tell a host that what it knows of a coroutine is needless, once a later term is sure to see why."""
        if self.prove("forget without proof"):
            self.world.push(0.02, source.process, lambda: source.release_is_known(id, epoch))

    def prove(self, habit=""):
        """Whether this term still stood a moment ago (rule 19)."""
        if habit in self.rules:
            return True
        try:
            self.log.prove()
        except (FencedError, LogStoppedError):
            self.stopped = True
        return not self.stopped

    def moved(self, transfer):
        entry = self.ledger.entries.get(transfer.header.id)
        if entry is not None and entry.epoch < transfer.epoch and entry.finished is None:
            entry.source = entry.owner
            self.ledger.assign(entry, transfer.epoch, transfer.to, transfer)
            self.hand_over(entry)

    def finished(self, id, epoch, result):
        entry = self.ledger.entries.get(id)
        if entry is not None:
            self.ledger.finish(entry, Finished(id, epoch, "completed", result, "", 0, ()))

    # -- taking over

    def take_over(self, incarnation):
        """Seal a host's log, plan for all that it owns or was promised, and hand it on."""
        self.taking_over.add(incarnation)
        self.dead.add(incarnation)

        def plan(recovery):
            live = live_in(facts_in(recovery), incarnation)
            debts = {entry.header.id: entry.epoch for entry in self.ledger.debts(incarnation)}
            if not self.prove("plan without proof"):
                raise TermOver
            return encode_plans(plan_takeover(live, still_owed(debts, facts_in(recovery)), lambda id: self.place()))

        try:
            sealed = self.seal(incarnation, plan)
        except TermOver:
            return
        if sealed.sealer != controller_writer(self.term) and not self.prove("follow without proof"):
            return
        self.world.note("sealed")
        host = self.cluster.hosts.get(incarnation)
        if host is not None and host.process.alive:
            self.world.note("sealed a living host")
        if not sealed.recovery.emptied:
            self.cluster.checker.seal(incarnation, self.cluster.steps(sealed.recovery))
        for outcome in finished_in(sealed.recovery):
            self.cluster.checker.result(outcome.coroutine, self.cluster.decode(outcome.payload))
            self.finished(outcome.coroutine, outcome.epoch, outcome.payload)
        for id, planned in decode_plans(sealed.plan).items():
            self.follow(id, planned, sealed.recovery)
        self.carry_on_moves(incarnation, sealed.recovery)
        self.ended.add(incarnation)

    def follow(self, id, planned: Plan, recovery):
        entry = self.ledger.entries.get(id)
        if entry is None or entry.finished is not None or entry.epoch >= planned.epoch:
            return
        transfer = state_to_follow(recovery.coroutines.get(id), entry.epoch, entry.transfer)
        if id in self.planned and self.planned[id].epoch > planned.epoch:
            planned = self.planned[id]  # seals may be gone through in any order
        self.planned[id] = planned
        if transfer is not None:
            to = "" if planned.to in self.ended else planned.to  # of a log that is being sealed, the plan will say
            self.ledger.assign(entry, planned.epoch, to, transfer)

    def carry_on_moves(self, incarnation, recovery):
        """`moved` records of which nobody has told."""
        facts = list(facts_in(recovery))
        for id, owned in fold(fact for fact in facts if isinstance(fact, Fact)).items():
            found = recovery.coroutines.get(id)
            if owned.debt and found is not None and found.moved is not None and owned.plan.epoch == found.moved.epoch:
                self.moved(Transfer.decode(bytes(found.moved.state)))

    # -- cleaning up

    def clean_up(self):
        """Retire sealed logs of which nothing is needed."""
        try:
            recoveries = {writer: fold_reading(read_one_by_one(self.store, writer)) for writer in writers(self.store)}
        except StoreError:
            return
        adopted = {}
        for recovery in recoveries.values():
            for id, found in recovery.coroutines.items():
                if found.adopted is not None:
                    adopted[id] = max(found.adopted.epoch, adopted.get(id, 0))
        held = held_logs(recoveries.values())
        for writer, recovery in recoveries.items():
            if writer.startswith(CONTROLLER_PREFIX) or recovery.emptied:
                continue
            match may_retire(
                recovery,
                process_gone=True,
                held=writer in held,
                done=lambda found: found.terminal is None and adopted.get(found.id, 0) > found.epoch,
            ):
                case MayGo() if self.prove("empty without proof"):
                    try:
                        retire(self.store, recovery, bytes.fromhex(self.clock.unique()))
                        self.world.note("retired")
                    except StoreError:
                        pass

"""The protocol's rules, and our own rule 19, broken on purpose. What the simulation cannot tell it does not prove."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from unittest.mock import patch

from ray_durable.actors import membership
from ray_durable.checkpoint import fencing, footer
from ray_durable.checkpoint.janitor import Janitor
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.moving import Mover
from ray_durable.checkpoint.reading import LogReader
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import Fold, fold_reading
from ray_durable.checkpoint.retirement import MayGo, Needed
from tests.simulation.cluster import simulate, succession
from tests.simulation.duel import duel
from tests.simulation.faults import Bucket
from tests.simulation.hoard import hoard
from tests.simulation.leaders import simulate_leaders
from tests.simulation.lease import lease
from tests.simulation.objects import WorldObjects
from tests.simulation.overtaken import overtaken
from tests.simulation.rivals import rivals


@dataclass(frozen=True)
class Mutation:
    """A broken rule: patches to apply, or the name of a habit of the simulated shells."""

    rule: str
    name: str
    patches: tuple[Callable, ...] = ()
    habit: str = ""
    world: Callable = duel
    """Where it is looked for: a log alone, one with large buffers, a whole cluster, the real leader, a silent host, two
    clusters, two terms."""

    first: int = 0
    """The seed to begin with: those below are known not to notice it."""

    def run(self, seed):
        """One world with this rule broken. Raises: AssertionError, when it is noticed."""
        with contextlib.ExitStack() as stack:
            for each in self.patches:
                stack.enter_context(each())
            if self.habit:
                (succession if self.world is succession else simulate)(seed, frozenset({self.habit}))
            else:
                self.world(seed)

    def __str__(self):
        return f"rule {self.rule}: {self.name}"


def swapped(target, new):
    """`new` in place of what `target` names, below the checkpoint package unless it says otherwise."""
    full = target.startswith(("tests.", "ray_durable."))
    return lambda: patch(target if full else f"ray_durable.checkpoint.{target}", new)


def highest_number(base, numbers):
    return max(numbers, default=base - 1) + 1


def read_past_gaps(self, start):
    """Every listed segment counts, whatever is missing below it."""
    reading = honest_read(self, start)
    if not reading.fenced:
        _, numbers = self.list()
        for number in sorted(n for n in numbers if n > reading.length):
            data = self.fetch(f"logs/{self.writer}/{number:016d}")
            if data is not None:
                self.add(reading, footer.blake3(), f"logs/{self.writer}/{number:016d}", data)
    return reading


honest_read = LogReader.read


def exists_means_ours(failed, found, damaged, nonce):
    return fencing.Written() if not failed or found is not None else fencing.TryAgain()


def nothing_there_means_done(failed, found, damaged, nonce):
    return fencing.Fenced(found.writer) if failed and found is not None and found.nonce != nonce else fencing.Written()


def a_lost_reply_means_done(failed, found, damaged, nonce):
    return fencing.Written()


def replace_silently(self, world, name, data):
    self.objects[name] = data
    self.since[name] = world.now


honest_add = Fold.add


class OldestFold(Fold):
    """Takes the oldest record of a kind instead of the newest."""

    def add(self, segment):
        before = {kind: dict(newest) for kind, newest in self.newest.items()}
        honest_add(self, segment)
        for kind, newest in self.newest.items():
            newest.update(before[kind])


class ForgetfulFold(Fold):
    """Drops events that no checkpoint has consumed."""

    def unconsumed(self, id, kind):
        return []


def compact_more_than_is_durable(self):
    """Believes that what is in flight counts."""
    return self.log.progress.next, list(range(self.base.number, self.log.progress.next))


def delete_before_the_base(self, number, made, old, mover, archived):
    """Deletes what the new base will replace before it stands."""
    from ray_durable.checkpoint.names import part_name, segment_name

    for part in old:
        self.log.store.delete(part_name(self.log.writer, part.name))
    for n in range(self.base.number, number):
        self.log.store.delete(segment_name(self.log.writer, n))
    return honest_finish(self, number, made, old, mover, archived)


honest_finish = Janitor.finish


def believe_the_create(reading):
    """A sealer that does not look again whether its seal counts."""
    recovery = honest_fold(reading)
    recovery.fenced = True
    return recovery


honest_fold = fold_reading


def release_out_of_order(self, number, batch):
    self.in_flight -= 1
    self.durable = max(self.durable, number + 1) if number == self.durable else self.durable
    return [] if self.stopped else [batch]


def one_record_at_a_time(rows, count_max, size_max):
    return rows[:1], len(rows[0][4])


def everything_may_go(log, *, process_gone, held, done):
    return MayGo() if log.fenced and log.sealed is not None else Needed("it is not sealed")


def moved_away_once(newest, id, released):
    """Forgets that a coroutine may come back to a log that it left."""
    moved = newest[Kind.MOVED].get(id)
    return moved is not None and released.get(id, -1) >= moved[0]


def chunks_hold_nothing(recoveries):
    return set()


def relocate_nothing(self):
    text = honest_move(self)
    self.retiring |= {pack for pack in self.log.chunks.sizes if pack + 1 < self.log.chunks.packs_begun}
    return text


honest_move = Mover.move


def hold_for_ever(now, last_renewed, lease_s):
    return True


def hold_for_a_lease(now, last_renewed, lease_s):
    return now - last_renewed < lease_s


def judge_at_once(heard, now, limits):
    return honest_judge(heard, now, replace(limits, silence_s=limits.silence_s / 4, lease_s=limits.silence_s / 2))


honest_judge = membership.judge


def leave_it_to_python(obj):
    """Whatever frees a dropped original runs its `finally`."""


def pickle_as_it_is(ref):
    """A reference in a frame stays what it is: a name for what its owner holds."""
    return WorldObjects.find, (ref.key,)


def prove_nothing_of_terms(self, timeout_s=0.0):
    if not self.writer.startswith("controller-"):
        honest_prove(self)


honest_prove = Log.prove


async def prove_nothing_of_itself(self):
    """A term that acts, whatever has become of it."""


def let_forget_at_once(self, record, id, epoch):
    record.released[id] = epoch


MUTATIONS = [
    Mutation("1", "a sealer takes the highest number", (swapped("sealing.first_free", highest_number),)),
    Mutation("1", "commits are released out of order", (swapped("commit.Progress.finish", release_out_of_order),)),
    Mutation("2", "readers look past gaps", (swapped("reading.LogReader.read", read_past_gaps),)),
    Mutation("3", "what exists is believed to be ours", (swapped("writing.after_create", exists_means_ours),)),
    Mutation(
        "3",
        "any failure is believed to be a success",
        (swapped("writing.after_create", a_lost_reply_means_done),),
    ),
    Mutation(
        "3",
        "exists and then not found is believed",
        (swapped("writing.after_create", nothing_there_means_done),),
    ),
    Mutation("4", "the store lets two creates through", (lambda: patch.object(Bucket, "create", replace_silently),)),
    Mutation("5", "the oldest state counts", (swapped("recovery.Fold", OldestFold),)),
    Mutation(
        "5", "events that nobody consumed are dropped", (swapped("recovery.Fold", ForgetfulFold),), world=simulate
    ),
    Mutation(
        "6",
        "what is not durable is compacted",
        (swapped("janitor.Janitor.cut", compact_more_than_is_durable),),
        first=300,
    ),
    Mutation(
        "6",
        "segments go before the base stands",
        (swapped("janitor.Janitor.finish", delete_before_the_base),),
    ),
    Mutation(
        "6",
        "a sealed log goes before it is adopted",
        (swapped("tests.simulation.controller.may_retire", everything_may_go),),
        world=simulate,
    ),
    Mutation(
        "6",
        "what has come back is taken for gone",
        (swapped("compaction.is_released", moved_away_once),),
        world=succession,
        first=110,
    ),
    Mutation("7", "a seal below the base counts", (swapped("sealing.fold_reading", believe_the_create),)),
    Mutation(
        "7",
        "chunks that others need go",
        (swapped("tests.simulation.controller.held_logs", chunks_hold_nothing),),
        world=simulate,
        first=440,
    ),
    Mutation("7", "packs that states need go", (swapped("moving.Mover.move", relocate_nothing),), world=simulate),
    Mutation(
        "7",
        "states that are being written are not waited for",
        (swapped("log.Log.settle", lambda self, timeout_s: None),),
        world=hoard,
    ),
    Mutation(
        "7",
        "a writer refers to what compaction takes away",
        (swapped("chunks.Chunks.narrow", lambda self, live: None),),
        world=hoard,
    ),
    Mutation(
        "7",
        "a writer is not told where pages went",
        (swapped("chunks.Chunks.redirect", lambda self, moved: None),),
        world=hoard,
    ),
    Mutation("8", "a repeated call carries a new id", habit="new id per try"),
    Mutation("9", "a call is answered before it is durable", habit="answer before admitted"),
    Mutation("10", "a name is free before its holder's end is durable", habit="names free early"),
    Mutation("11", "a host runs what it has not durably adopted", habit="run before adopted"),
    Mutation("11", "a host adopts what is planned for another", habit="adopt anything"),
    Mutation("12", "a plan is replaced while its target lives", habit="replace live plans"),
    Mutation(
        "11",
        "a new term ends only those terms that have written",
        habit="seal listed terms only",
        world=succession,
        first=150,
    ),
    Mutation(
        "13",
        "a host that is silent goes on",
        (swapped("ray_durable.actors.membership.lease_held", hold_for_ever),),
        world=lease,
    ),
    Mutation(
        "13",
        "a host goes on for a whole lease",
        (swapped("ray_durable.actors.membership.lease_held", hold_for_a_lease),),
        world=lease,
    ),
    Mutation(
        "13",
        "a sealer does not wait for a silent host",
        (swapped("ray_durable.actors.membership.judge", judge_at_once),),
        world=lease,
    ),
    Mutation(
        "14",
        "a dropped original is not discarded",
        (swapped("ray_durable.runner.discard", leave_it_to_python),),
        world=simulate_leaders,
    ),
    Mutation("15", "senders' marks are forgotten", habit="forget senders"),
    Mutation("15", "a message is acknowledged before it is durable", habit="acknowledge at once"),
    Mutation("15", "a host acknowledges for a coroutine that it has not", habit="acknowledge elsewhere"),
    Mutation("16", "streamed values carry no index of their own", habit="items without index"),
    Mutation(
        "16",
        "a streamed value is seen before the state that has yielded it",
        (swapped("log.oldest", one_record_at_a_time),),
        world=simulate,
    ),
    Mutation(
        "17",
        "a reference is captured unresolved",
        (swapped("ray_durable.actors.refs.reduce_ref", pickle_as_it_is),),
        world=simulate_leaders,
    ),
    Mutation(
        "18",
        "a second cluster does not look whether the first one lives",
        (swapped("ray_durable.actors.terms.read_counter", lambda store, number: b"same"),),
        world=rivals,
    ),
    Mutation(
        "18",
        "a cluster that was replaced goes on",
        (swapped("tests.simulation.rivals.is_replaced", lambda store, number: False),),
        world=rivals,
    ),
    Mutation(
        "19",
        "a term that was replaced plans for a host",
        (swapped("log.Log.prove", prove_nothing_of_terms),),
        world=overtaken,
    ),
    Mutation(
        "19",
        "a new term that was replaced acts on what it has read",
        (swapped("ray_durable.actors.leader.Leader.prove", prove_nothing_of_itself),),
        world=overtaken,
    ),
    Mutation(
        "19",
        "a term that was replaced lets a host forget",
        (swapped("ray_durable.actors.leader.Leader.let_forget", let_forget_at_once),),
        world=overtaken,
    ),
]

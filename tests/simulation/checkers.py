"""What must hold whatever happens. Knows nothing of logs, epochs' rules or stores: only what hosts and clients saw.

A step of a coroutine leaves a *stamp* that no other run of that step would leave. So two hosts that both go on with one
coroutine, or a step that is run again after it was acknowledged, show as two stamps for one step.
"""

from __future__ import annotations


class Checker:
    """Told of everything that becomes visible; `broken` raises at once."""

    def __init__(self, world):
        self.world = world
        self.acknowledged = {}  # coroutine -> {step: stamp}
        self.by_writer = {}  # writer -> {coroutine: last step acknowledged}
        self.sealed = {}  # writer -> {coroutine: last step that its sealed log holds}
        self.started = {}  # call -> ids of the coroutines that ever ran for it
        self.admitted = {}  # id -> call, for what clients were told
        self.results = {}  # id -> history
        self.messages = {}  # coroutine -> numbers acknowledged to the sender
        self.items = {}  # coroutine -> {index: value} that readers have seen
        self.seen = {}  # (writer, coroutine) -> last step that an outside reader has seen
        self.away = set()  # (writer, coroutine) that left a log and are adopted elsewhere: it may forget them
        self.named = {}  # name -> id of its unfinished holder, as clients were told

    def broken(self, what, *facts):
        raise AssertionError(f"{what}: {facts} (seed {self.world.seed}, at {self.world.now:.3f})")

    # -- steps

    def step(self, writer, id, step, stamp):
        """A host has released what step `step` of a coroutine yields."""
        known = self.acknowledged.setdefault(id, {})
        if known.setdefault(step, stamp) != stamp:
            self.broken("a step was released twice with different contents", id, step, writer)
        self.away.discard((writer, id))
        last = self.by_writer.setdefault(writer, {})
        last[id] = max(step, last.get(id, 0))
        if writer in self.sealed and step > self.sealed[writer].get(id, -1):
            self.broken("a host released something that its sealed log does not hold", writer, id, step)

    def seal(self, writer, steps):
        """A log is sealed, and holds these steps: `{coroutine: last step}`."""
        known = self.sealed.setdefault(writer, steps)
        for id in {id for id, _ in known.items() ^ steps.items()}:
            if (writer, id) not in self.away or (id in known and id in steps):
                self.broken("one log has two ends", writer, known, steps)
        for id, step in self.by_writer.get(writer, {}).items():
            if step > steps.get(id, -1) and (id in steps or (writer, id) not in self.away):
                self.broken("what was released is not in the sealed log", writer, id, step)

    def left(self, writer, id):
        """A host has heard that a coroutine which it gave away is adopted there."""
        self.away.add((writer, id))

    def look(self, writer, steps):
        """An outside reader sees these steps in a log."""
        for id, step in steps.items():
            before = self.seen.get((writer, id), -1)
            if step < before:
                self.broken("what an outside reader has seen is gone", writer, id, before, step)
            self.seen[writer, id] = step

    # -- calls and results

    def runs(self, call, id):
        self.started.setdefault(call, set()).add(id)
        if len(self.started[call]) > 1:
            self.broken("one call runs as two coroutines", call)

    def admit(self, call, id):
        self.admitted[id] = call

    def name(self, name, id):
        if id in self.results:
            return  # its admission was long ago, and only the answer came late
        holder = self.named.get(name)
        if holder not in (None, id) and holder not in self.results:
            self.broken("two unfinished coroutines hold one name", name, holder, id)
        self.named[name] = id

    def result(self, id, history):
        if self.results.setdefault(id, history) != history:
            self.broken("one coroutine has two results", id)

    # -- messages and streams

    def message(self, id, number):
        self.messages.setdefault(id, set()).add(number)

    def item(self, id, index, value):
        known = self.items.setdefault(id, {})
        if index in known and known[index] != value:
            self.broken("a streamed value was changed after it had been seen", id, index)
        if index not in known and index != len(known):
            self.broken("a streamed value came out of order", id, index)
        known[index] = value

    # -- the end

    def end(self):
        """Everything has come to rest: nothing is lost, doubled or half-done."""
        for id in self.admitted:
            if id not in self.results:
                self.broken("an admitted coroutine was lost", id)
        for id, history in self.results.items():
            stamps, received = history["stamps"], history["received"]
            for step, stamp in self.acknowledged.get(id, {}).items():
                if step <= len(stamps) and stamps[step - 1] != stamp:
                    self.broken("an acknowledged step is not in the coroutine's history", id, step)
            if len(received) != len(set(received)):
                self.broken("a message was received twice", id, received)
            missing = self.messages.get(id, set()) - set(received) - set(history["unread"])
            if missing:
                self.broken("an acknowledged message was lost", id, missing)
            for index, value in self.items.get(id, {}).items():
                if history["items"][index : index + 1] != [value]:
                    self.broken("a reader has seen a value that was never yielded", id, index)

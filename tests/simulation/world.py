"""Virtual time, processes and chance: one seed decides everything that happens in a world.

Each thread of a simulated process is a greenlet; it gives way only where it sleeps or asks the store, and the world
resumes whoever is due next. A process can be killed (its greenlets are never resumed) or stopped for a while (they are
resumed late, like after SIGSTOP). Blocking code of the real engine runs in here as it is.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import heapq
import random
from collections import Counter
from unittest.mock import patch

from greenlet import GreenletExit, getcurrent, greenlet

from ray_durable.checkpoint.segment import decode
from tests.simulation.unthreaded import OneThread


class Stuck(AssertionError):
    """The world did not come to rest in time."""


class Process:
    """Something that can die or be stopped, with all its greenlets."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.alive = True
        self.stopped_until = 0.0

    def kill(self):
        self.alive = False

    def stop(self, seconds):
        self.stopped_until = max(self.stopped_until, self.world.now + seconds)

    def spawn(self, fn, *args, after=0.0):
        return self.world.spawn(self, fn, *args, after=after)


class World:
    """Time, the queue of what is due, and the dice. `met` counts what has happened, for tests of coverage."""

    def __init__(self, seed):
        self.seed = seed
        self.random = random.Random(seed)
        self.now = 0.0
        self.queue = []
        self.ties = 0
        self.hub = getcurrent()
        self.met = Counter()
        self.trace = []
        self.failures = []
        self.running = None

    # -- for whoever lives in the world

    def process(self, name):
        return Process(self, name)

    def spawn(self, process, fn, *args, after=0.0):
        def run():
            try:
                fn(*args)
            except GreenletExit:
                raise
            except Exception as error:
                self.failures.append(error)

        self.push(after, process, greenlet(run, parent=self.hub).switch)

    def sleep(self, seconds):
        """Give way; the calling greenlet goes on `seconds` later."""
        current = getcurrent()
        assert current is not self.hub, "a callback of the event loop may not block"
        self.push(seconds, self.running, current.switch)
        self.hub.switch()

    def push(self, after, process, what):
        """`what()` happens `after` seconds from now, if its process lives then."""
        self.ties += 1
        heapq.heappush(self.queue, (self.now + after if after > 0 else self.now, self.ties, process, what))

    def chance(self, probability):
        return self.random.random() < probability

    def note(self, what, *facts):
        self.met[what] += 1
        self.trace.append((round(self.now, 6), what, *facts))

    # -- for the test

    def run(self, until, done=lambda: False):
        """Let it all happen up to time `until`, or until `done()`."""
        queue = self.queue
        while queue and not done():
            when, tie, process, what = due = heapq.heappop(queue)
            if when > until:
                heapq.heappush(queue, due)
                break
            if not process.alive:
                continue
            if process.stopped_until > when:
                heapq.heappush(queue, (process.stopped_until, tie, process, what))
                continue
            if when > self.now:
                self.now = when
            self.running = process
            what()
            if self.failures:
                raise self.failures[0]
        self.now = max(self.now, until) if not done() else self.now


class WorldClock:
    """The clock of one process: the engine's only door to time and chance."""

    def __init__(self, world):
        self.world = world

    def now(self):
        return 1_700_000_000 + self.world.now

    def monotonic(self):
        return self.world.now

    def sleep(self, seconds):
        self.world.sleep(seconds)

    def unique(self):
        return f"{self.world.random.getrandbits(128):032x}"

    def random(self):
        return self.world.random.random()


class Executor:
    """Where a log's blocking work goes: a greenlet each."""

    def __init__(self, process):
        self.process = process

    def submit(self, fn, *args):
        self.process.spawn(fn, *args)


class Advanced(OneThread):
    """A log's condition: who waits is woken by a notice or by the end of its patience, as by a real one, and by nothing
    else. So a notice that the log forgets to give is missed here too."""

    def __init__(self, world):
        self.world = world
        self.waiting = {}

    def notify_all(self):
        woken, self.waiting = self.waiting, {}
        for sleeper, process in woken.values():
            self.world.push(0, process, sleeper.switch)

    def wait_for(self, predicate, timeout=None):
        world = self.world
        until = world.now + (60 if timeout is None else timeout)
        while not predicate() and world.now < until:
            assert getcurrent() is not world.hub, "a callback of the event loop may not block"
            ticket = object()
            self.waiting[ticket] = getcurrent(), world.running
            world.push(until - world.now, world.running, functools.partial(self.time_out, ticket))
            world.hub.switch()
        return predicate()

    def time_out(self, ticket):
        """Nobody has given notice: who waits goes on all the same."""
        if ticket in self.waiting:
            sleeper, _ = self.waiting.pop(ticket)
            sleeper.switch()


@contextlib.contextmanager
def decoding_once():
    """The same bytes are decoded once: those who live in a world look at them again and again."""
    once = functools.lru_cache(4096)(decode)
    with patch("ray_durable.checkpoint.reading.decode", once), patch("ray_durable.checkpoint.janitor.decode", once):
        yield


@contextlib.contextmanager
def seldom_collecting():
    """A world is young and full of cycles while it runs: looking for garbage in it is a sixth of its time."""
    thresholds = gc.get_threshold()
    gc.set_threshold(200_000, 5, 5)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)

"""An asyncio event loop in virtual time: it never waits, and what is due next is decided by its clock alone."""

from __future__ import annotations

import asyncio
import selectors

from tests.simulation.unthreaded import OneThread


class Stuck(AssertionError):
    """Nothing is due any more, and the work is not done."""


class Skip(selectors.SelectSelector):
    """In the place of waiting, time goes on."""

    loop = None

    def select(self, timeout=None):
        if timeout is None:
            raise Stuck("nothing is due, and something waits for ever")
        self.loop.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` begins at 0 and goes on only when nothing is ready."""

    def __init__(self):
        self.now = 0.0
        selector = Skip()
        selector.loop = self
        super().__init__(selector)

    def time(self):
        return self.now

    def run_in_executor(self, executor, fn, *args):
        """What would go to a thread happens at once."""
        done = self.create_future()
        try:
            done.set_result(fn(*args))
        except Exception as error:
            done.set_exception(error)
        return done


class LoopClock:
    """The clock of everything that lives on a loop; chance comes from the world's dice."""

    def __init__(self, loop, dice):
        self.loop, self.dice = loop, dice

    def now(self):
        return 1_700_000_000 + self.loop.time()

    def monotonic(self):
        return self.loop.time()

    def sleep(self, seconds):
        """Blocking code takes no time here."""

    def unique(self):
        return f"{self.dice.getrandbits(128):032x}"

    def random(self):
        return self.dice.random()


class LoopExecutor:
    """Where a log's blocking work goes: a callback each, some time from now."""

    def __init__(self, loop, dice, delay_s):
        self.loop, self.dice, self.delay_s = loop, dice, delay_s

    def submit(self, fn):
        self.loop.call_later(self.dice.expovariate(1 / self.delay_s), fn)


class Here(OneThread):
    """Where no thread may be waited for: whoever waits makes the commits himself, and while he does, or when there are
    none to make, waits no more."""

    def __init__(self, log):
        self.log = log
        self.committing = False

    def wait_for(self, predicate, timeout=None):
        if self.committing:
            return predicate()
        made = None
        while not predicate() and made != self.log.progress.next:
            made = self.log.progress.next
            self.committing = True
            try:
                self.log.run_commits()
            finally:
                self.committing = False
        return predicate()

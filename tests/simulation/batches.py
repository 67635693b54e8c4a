"""Seeds in batches, each in a worker process."""

from __future__ import annotations

import gc
import signal
import traceback

from tests.simulation.shares import KINDS, kind_of


def begin_worker():
    """The main process alone answers Ctrl-C; and what is here from the beginning is no garbage."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for kind in KINDS.values():
        kind.load()
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 5, 5)  # for good, else each world's end brings one


def run(first, last, world):
    """How many seeds were run, and those that fail with their worlds and stories. `world`: the kind of all of them;
    None: each is what it is."""
    failures = []
    for seed in range(first, last):
        name = world or kind_of(seed)
        try:
            KINDS[name].run(seed)
        except Exception:
            failures.append((seed, name, traceback.format_exc()))
    return last - first, failures

"""Runs a scenario in child processes that kill themselves at one system call each: `… SCENARIO DIRECTORY NAMED`.

A fork per point, from a process that has everything imported. Prints how many points there were.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from ray_durable.checkpoint.stores.local import LocalStore
from ray_durable.checkpoint.stores.memory import MemoryStore
from tests.checkpoint.scenarios import SCENARIOS, check, go_on


class Dying:
    """`os`, whose n-th call that could change anything is not survived. It waits for no disk: what is lost by a power
    cut is for another test, and what a process has written outlives it without that."""

    NEEDLESS = frozenset({"fsync", "fdatasync"})

    def __init__(self, fatal):
        self.fatal, self.calls = fatal, 0
        self.lock = threading.Lock()

    def __getattr__(self, name):
        act = getattr(os, name)

        def call(*args, **kwargs):
            with self.lock:
                self.calls += 1
                if self.calls == self.fatal:
                    os.kill(os.getpid(), signal.SIGKILL)
            return None if name in self.NEEDLESS else act(*args, **kwargs)

        return call


def run_child(scenario, directory, named, fatal):
    """One run in a fork, whether it lived to its end, and how many calls it made."""
    promises = os.open(f"{directory}/promises", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            system = Dying(fatal)
            store = LocalStore(f"{directory}/store", system=system)
            store.unnamed_files = not named
            SCENARIOS[scenario](store, lambda *facts: os.write(promises, json.dumps(facts).encode() + b"\n"))
            os.write(promises, json.dumps(["calls", system.calls]).encode() + b"\n")
            status = 0
        finally:
            os._exit(status)
    os.close(promises)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, f"the child failed by itself at call {fatal}: {status}"
    with open(f"{directory}/promises") as file:
        return not killed, [json.loads(line) for line in file]


def main(scenario, directory, named):
    SCENARIOS[scenario](MemoryStore(), lambda *facts: None)  # imports what else each child would
    point = 0
    while True:
        point += 1
        place = f"{directory}/{point}"
        os.mkdir(place)
        ended, promises = run_child(scenario, place, named, point)
        store = LocalStore(f"{place}/store", system=Dying(-1))
        try:
            check(store, [each for each in promises if each[0] != "calls"])
            go_on(store)
        except AssertionError as error:
            raise AssertionError(f"{scenario}, killed at call {point}: {error}") from error
        store.close()
        if ended:
            print(point - 1)
            return


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] == "named")

"""Which coroutine a host's process died of: a crash in native code, memory without bounds, a call of `os._exit`.

A host notes in a small shared file what it runs just now, with one call of C a step. When its process has died, the
next host on that machine finds the file, whose lock is gone, and the controller learns whose step it was. When that
happens to a coroutine twice at the same step, it is given a host of its own, so that it takes no other one down; if it
goes on ending processes there, it is given up. Whoever was only there, and did not run, is not blamed, nor is anybody
for the end of a whole node.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

__all__ = ["IDLE", "NO_CRASHES", "Crashes", "Culprit", "Mark", "after_crash", "found_in", "note"]

RUNNING = struct.Struct("<Q64s")  # checkpoints so far, and the id; no id: nothing runs
IDLE = bytes(RUNNING.size)
COMING = ".coming"  # the end of the name of a file that is not locked yet
note = RUNNING.pack_into
"""`note(place, 0, coroutine.seq, coroutine.label)` says that this coroutine runs now: on every step's way."""


@dataclass(frozen=True, slots=True)
class Culprit:
    """What a dead host ran when it died: the coroutine, and its newest checkpoint by then."""

    host: str
    coroutine: str
    seq: int


class Mark:
    """This host's file, which nobody else removes while this process lives."""

    def __init__(self, folder: Path, host: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / host
        coming = folder / f"{host}{COMING}"
        self.file = os.open(coming, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(self.file, RUNNING.size)
        self.place = mmap.mmap(self.file, RUNNING.size)
        coming.rename(self.path)  # whoever finds it finds it locked

    def clear(self) -> None:
        """This process ends for reasons of its own."""
        self.place[:] = IDLE


def found_in(folder: Path) -> list[Culprit]:
    """What the dead hosts of this machine have left in `folder`; each is told once."""
    found = []
    for path in sorted(folder.glob("*")):
        if path.name.endswith(COMING):
            continue
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # another host looks at the same time
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = os.pread(file, RUNNING.size, 0)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            continue  # it lives
        finally:
            os.close(file)
        if len(data) == RUNNING.size and data != IDLE:
            seq, id = RUNNING.unpack(data)
            found.append(Culprit(path.name, id.rstrip(b"\0").decode(), seq))
    return found


@dataclass(frozen=True, slots=True)
class Crashes:
    """The hosts that have died of a coroutine without a checkpoint of it in between; `seq`: its newest one by then."""

    hosts: frozenset[str] = frozenset()
    seq: int = -1

    @property
    def times(self) -> int:
        return len(self.hosts)


NO_CRASHES = Crashes()


def after_crash(before: Crashes, culprit: Culprit) -> Crashes:
    """What is known after one more, which may be told twice."""
    if culprit.host in before.hosts:
        return before
    same_step = before.hosts if culprit.seq <= before.seq else frozenset()
    return Crashes(same_step | {culprit.host}, max(culprit.seq, before.seq))

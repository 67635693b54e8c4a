"""The checkpoint engine in figures, on this machine's disk with fsync on: `python benchmarks/checkpoint.py [--json]`.

Each figure stands beside the bare sequence of system calls, or a peer, measured in the same run. `--quick` takes a
tenth of the records for recovery; `--directory` says which disk. Peers run where they are installed: see `dbos_peers`.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import contextlib
import json
import logging
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dbos_peers import dbos_peers

from ray_durable.actors import housekeeping
from ray_durable.checkpoint.codec import dumps, loads
from ray_durable.checkpoint.compaction import Policy
from ray_durable.checkpoint.janitor import Janitor
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import recover
from ray_durable.checkpoint.stores.local import LocalStore
from ray_durable.config import Settings
from ray_durable.logs import EventLog

TURN = 128
TARGETS: dict[str, tuple[str, float]] = {
    "single_vs_bare": (">=", 0.85),
    "records_per_s_1000": (">=", 100_000),
    "cpu_us_per_record": ("<=", 8),
    "bytes_per_record": ("<=", 250),
    "dirty_1pct_bytes_ratio": ("<=", 0.03),
    "dirty_1pct_ms": ("<=", 60),
    "clean_bytes": ("<=", 1024),
    "recovery_100k_s": ("<=", 5),
    "recovery_flatness": ("<=", 1.2),
    "space_ratio": ("<=", 1),
    "space_100k_ratio": ("<=", 1),
    "space_300k_ratio": ("<=", 1),
    "space_1000_of_5kb_ratio": ("<=", 1),
    "space_20k_of_5kb_ratio": ("<=", 1),
}
SPACE_FLOOR = 8 << 20


def eight_locals(n: int) -> dict[str, Any]:
    return {
        "i": n,
        "name": f"order-{n}",
        "total": n * 1.25,
        "tags": {"region": n % 7},
        "pair": (n, n + 1),
        "note": None,
        "text": "x" * 20,
        "last": [n] * 3,
    }


@contextlib.contextmanager
def directory(parent: str | None) -> Iterator[str]:
    path = tempfile.mkdtemp(prefix="ray_durable-bench-", dir=parent)
    try:
        yield path
    finally:
        shutil.rmtree(path)


class Writers:
    """So many coroutines on one event loop, each writing its next checkpoint once its last is durable."""

    def __init__(self, path: str, count: int, seconds: float, body_bytes: int = 0) -> None:
        self.loop = asyncio.get_running_loop()
        self.pool = concurrent.futures.ThreadPoolExecutor(1)
        self.log = Log(
            LocalStore(path),
            "bench",
            executor=self.pool,
            call_soon=self.loop.call_soon_threadsafe,
            call_here=self.loop.call_soon,
            here_below_s=0.002,  # as hosts have it
            on_durable=self.durable,
            on_error=self.failed,
        )
        self.ids = [f"{random.getrandbits(128):032x}" for _ in range(count)]
        self.states = [eight_locals(n) for n in range(count)]
        for state in self.states if body_bytes else ():
            state["body"] = random.randbytes(body_bytes)
        self.seqs = [0] * count
        self.ready = list(range(count))
        self.scheduled = False
        self.written = 0
        self.done = asyncio.Event()
        self.beside: asyncio.Task[None] | None = None  # what keeps the log small
        self.compacting = threading.Lock()  # held as long as that is at work
        self.until = time.perf_counter() + seconds

    def failed(self, error: Exception) -> None:
        raise error

    def turn(self) -> None:
        self.scheduled = False
        if self.done.is_set():
            return
        batch, self.ready = self.ready[:TURN], self.ready[TURN:]
        for n in batch:
            state = self.states[n]
            state["i"] += 1
            self.seqs[n] += 1
            self.log.append(self.ids[n], 1, self.seqs[n], Kind.CHECKPOINT, dumps(state), n)
        self.log.commit(idle=not self.ready)
        if self.ready:
            self.soon()

    def soon(self) -> None:
        if not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.turn)

    def durable(self, tokens: list[int]) -> None:
        self.written += len(tokens)
        if time.perf_counter() > self.until:
            self.done.set()
            return
        self.ready.extend(tokens)
        self.soon()

    async def run(self) -> tuple[float, float, float]:
        """Records/s, µs of CPU per record, stored bytes per record."""
        began, cpu = time.perf_counter(), time.process_time()
        self.turn()
        await self.done.wait()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        written = self.written
        with self.log.lock:
            self.log.rows.clear()  # what has gathered since is nobody's any more
        if self.beside is not None:
            self.beside.cancel()
            await asyncio.wait([self.beside])
        while self.compacting.locked():
            await asyncio.sleep(0.01)
        self.pool.shutdown()
        size = sum(each.size for each in self.log.store.list("logs/"))
        return written / seconds, cpu / written * 1e6, size / max(written, 1)


def writers(parent: str | None, count: int, seconds: float) -> tuple[float, float, float]:
    async def measure() -> tuple[float, float, float]:
        with directory(parent) as path:
            return await Writers(path, count, seconds).run()

    return asyncio.run(measure())


def bare_commits(parent: str | None, seconds: float, size: int) -> float:
    """Commits/s of the bare sequence: temporary file, write, fdatasync, link, unlink, fsync of the directory."""
    body = os.urandom(size)
    with directory(parent) as path:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            file = os.open(f"{path}/.tmp", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            os.write(file, body)
            os.fdatasync(file)
            os.close(file)
            os.link(f"{path}/.tmp", f"{path}/{count:016d}")
            os.unlink(f"{path}/.tmp")
            os.fsync(folder)
            count += 1
        rate = count / (time.perf_counter() - began)
        os.close(folder)
        return rate


def single(parent: str | None, rounds: int, seconds: float) -> dict[str, float]:
    """One writer against the bare sequence, in turns, so that both meet the same neighbours on the disk."""
    ours, bare = [], []
    for _ in range(rounds):
        bare.append(bare_commits(parent, seconds, 600))
        ours.append(writers(parent, 1, seconds)[0])
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    return {
        "single_vs_bare": statistics.median(ratios),
        "single_records_per_s": statistics.median(ours),
        "bare_commits_per_s": statistics.median(bare),
    }


def many(parent: str | None, rounds: int, seconds: float) -> dict[str, float]:
    found = [writers(parent, 1000, seconds) for _ in range(rounds)]
    rate, cpu, size = (statistics.median(column) for column in zip(*found, strict=True))
    return {"records_per_s_1000": rate, "cpu_us_per_record": cpu, "bytes_per_record": size}


def standalone_log(path: str, released: list[Any]) -> Log:
    from ray_durable.checkpoint.log import open_log

    return open_log(path, "bench", on_durable=released.extend)


def buffers(parent: str | None) -> dict[str, float]:
    """A frame with a 64 MiB array: 1 % of its pages touched between yields, and none."""
    import numpy

    array = numpy.random.default_rng(1).random(8 << 20)
    chance, times, sizes = random.Random(1), [], []
    with directory(parent) as path:
        log = standalone_log(path, [])

        def size() -> int:
            return sum(each.size for each in log.store.list("logs/"))

        def save(seq: int) -> tuple[float, int]:
            before, began = size(), time.perf_counter()
            state = dumps({"array": array, "seq": seq}, log.chunks)
            log.append("one", 1, seq, Kind.CHECKPOINT, state)
            log.flush()
            return time.perf_counter() - began, size() - before

        first_s, _ = save(0)
        for seq in range(1, 12):
            for page in chance.sample(range(array.nbytes // 4096), array.nbytes // 4096 // 100):
                array[page * 512 + chance.randrange(512)] = chance.random()
            seconds, written = save(seq)
            times.append(seconds)
            sizes.append(written)
        clean_s, clean = save(12)
        state = recover(log.store, "bench").coroutines["one"].latest
        assert state is not None
        assert (loads(state.state, log.chunks)["array"] == array).all()
        log.close()
    return {
        "dirty_1pct_bytes_ratio": max(sizes) / array.nbytes,
        "dirty_1pct_ms": statistics.median(times) * 1e3,
        "clean_bytes": clean,
        "clean_ms": clean_s * 1e3,
        "first_64mib_ms": first_s * 1e3,
    }


def grow(path: str, coroutines: int, checkpoints: int) -> dict[str, float]:
    """Write a log of `coroutines * checkpoints` records, compacted as it grows, and recover it."""
    log = standalone_log(path, [])
    log.on_durable = lambda tokens: None
    janitor = Janitor(log, Policy(retention_s=None))
    ids = [f"{n:032x}" for n in range(coroutines)]
    batch, peak, began = max(1000, min(coroutines, 20_000)), 0.0, time.perf_counter()
    for seq in range(checkpoints):
        for start in range(0, coroutines, batch):
            for n in range(start, min(start + batch, coroutines)):
                log.append(ids[n], 1, seq, Kind.CHECKPOINT, dumps(eight_locals(n + seq)))
            log.commit()
            while len(log.rows) > 4 * batch:
                time.sleep(0.001)
        if janitor.is_due():
            log.flush()
            janitor.compact()
    log.flush()
    grown = time.perf_counter() - began
    before = timed(lambda: recover(log.store, "bench"))
    janitor.compact()
    after = min(timed(lambda: recover(log.store, "bench")) for _ in range(20 if coroutines <= 10_000 else 2))
    found = recover(log.store, "bench")
    assert len(found.coroutines) == coroutines
    assert all(each.latest is not None and each.latest.seq == checkpoints - 1 for each in found.coroutines.values())
    peak = sum(each.size for each in log.store.list("logs/"))
    log.close()
    return {"grow_s": grown, "recover_s": after, "recover_uncompacted_s": before, "bytes": peak}


def timed(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def recovery(parent: str | None, quick: bool) -> dict[str, float]:
    scale = 10 if quick else 1
    with directory(parent) as path:
        large = grow(path, 100_000, 100 // scale)
    with directory(parent) as path:
        short = grow(path, 1000, 10)
    with directory(parent) as path:
        long = grow(path, 1000, 10_000 // scale)
    return {
        "recovery_records": 10_000_000 / scale,
        "recovery_100k_s": max(large["recover_s"], large["recover_uncompacted_s"]),
        "recovery_grow_s": large["grow_s"],
        "recovery_flatness": long["recover_s"] / short["recover_s"],
        "recovery_1000_s": long["recover_s"],
        "recovery_1000_uncompacted_s": long["recover_uncompacted_s"],
    }


def space(parent: str | None) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, count, seconds, body_bytes in (
        ("space", 20_000, 10.0, 0),
        ("space_100k", 100_000, 15.0, 0),
        ("space_300k", 300_000, 30.0, 0),
        ("space_1000_of_5kb", 1_000, 5.0, 4_800),
        ("space_20k_of_5kb", 20_000, 20.0, 4_800),
    ):
        figures |= {f"{name}_{key}": value for key, value in space_of(parent, count, seconds, body_bytes).items()}
    return figures


def space_of(parent: str | None, count: int, seconds: float, body_bytes: int) -> dict[str, float]:
    """The most that is ever on disk beside writers at full speed whose host keeps their log small, as a share of twice
    what is live at that time and a floor of 8 MiB."""
    kept: list[int] = []
    seen: list[tuple[int, int]] = []

    async def measure(path: str) -> float:
        found, over = Writers(path, count, seconds, body_bytes), threading.Event()

        class Noting(Janitor):
            def compact(self) -> Any:
                with found.compacting:
                    report = super().compact()
                kept.append(self.base_bytes)
                return report

        def look() -> None:
            while not over.wait(0.05):
                seen.append((sum(each.size for each in found.log.store.list("logs/")), found.written))

        watching = threading.Thread(target=look)
        watching.start()
        quiet = EventLog(logging.Logger("quiet"))
        housekeeping.Janitor, before = Noting, housekeeping.Janitor
        found.beside = asyncio.create_task(housekeeping.keep_small(found.log, Settings.load({}, storage=path), quiet))
        try:
            rate, _, _ = await found.run()
        finally:
            over.set()
            watching.join()
            housekeeping.Janitor = before
        return rate

    with directory(parent) as path:
        rate = asyncio.run(measure(path))
    live = max(kept, default=0)
    return {
        "records_per_s": rate,
        "peak_bytes": max(stored for stored, _ in seen),
        "live_bytes": live,
        "compactions": len(kept),
        "ratio": max(stored / (2 * live * min(1, written / count) + SPACE_FLOOR) for stored, written in seen),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--quick", action="store_true", help="a tenth of the records for recovery")
    parser.add_argument("--directory", help="where to write (default: the temporary directory)")
    parser.add_argument("--only", help="single, many, buffers, space, recovery or peers")
    given = parser.parse_args()
    sys.setswitchinterval(0.0005)
    parent = given.directory
    if parent is not None:
        Path(parent).mkdir(parents=True, exist_ok=True)
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "single": lambda: single(parent, 5, 1.5),
        "many": lambda: many(parent, 3, 3.0),
        "buffers": lambda: buffers(parent),
        "space": lambda: space(parent),
        "recovery": lambda: recovery(parent, given.quick),
        "peers": lambda: dbos_peers(parent, eight_locals),
    }
    figures: dict[str, float] = {}
    for name, measure in parts.items():
        if given.only in (None, name):
            figures.update(measure())
    if given.json:
        print(json.dumps({name: round(value, 6) for name, value in figures.items()}))
        return 0
    for name, value in figures.items():
        sign, target = TARGETS.get(name, ("", 0.0))
        wanted = f"   (wanted: {sign} {target:g})" if sign else ""
        print(f"{name:32} {value:14,.3f}{wanted}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

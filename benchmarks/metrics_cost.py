"""What metrics cost: CPU time per durable yield of 1,000 coroutines with metrics on, against `metrics=False`.

    python benchmarks/metrics_cost.py [--json] [--seconds 30] [--storage URL]

One host's engine and log, by default on a directory of the local disk, with fsync. Every twentieth of a second metrics
are switched, on or off, as the setting does: all instruments, the metered store and the event-loop watch; the tally's
sums are there either way, as `status` shows them. Neighbouring slices form a pair, in changing order, so that a machine
that is busy with other things burdens both alike, and CPU time counts this process alone. The result is the median of
the pairs' ratios, with the interval that 95 % of resampled medians lie in; what a scrape takes, every 5 s, is added;
yields/s of both halves stand beside it. A host is bound by its event loop's CPU, so that what a yield costs more is
what throughput loses. The limit is 3 %. On a store in memory (`--storage memory://x`) commits are as small, and as
many, as they ever get, which makes metrics look dearer. What is counted is also timed by itself, best of many, and set
against the CPU time of a yield: a lower bound, since caches are warm there.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import gc
import json
import random
import statistics
import sys
import tempfile
import time
import timeit
import urllib.request
from dataclasses import dataclass
from typing import Any

from ray_durable import operations
from ray_durable.actors.engine import Engine
from ray_durable.actors.exporter import MetricsServer, watch_loop_lag
from ray_durable.actors.host import SWITCH_INTERVAL_S
from ray_durable.actors.tally import TIMED_ONE_OF, Tally
from ray_durable.actors.transfer import Header, Transfer
from ray_durable.checkpoint.codec import dumps
from ray_durable.checkpoint.log import Log
from ray_durable.checkpoint.stores import open_store
from ray_durable.checkpoint.stores.metered import MeteredStore
from ray_durable.compiler import durable
from ray_durable.metrics import Metrics

LIMIT = 0.03
COROUTINES = 1_000
SLICE_S = 0.05
SETTLE_S = 0.005  # commits that were under way when all was switched
SCRAPE_EVERY_S = 5.0  # Prometheus asks every 15 s or more rarely
SCRAPES = 50
WARM_UP_S = 2.0
RESAMPLED = 400


@durable
def yields() -> None:
    """The least that a coroutine can do between two checkpoints."""
    while True:
        time.sleep(0)


@dataclass
class Slice:
    on: bool
    yields: int
    cpu_s: float
    wall_s: float

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.yields * 1e6


class Switched:
    """An engine at work whose metrics can be switched on and off while it runs."""

    def __init__(self, storage: str) -> None:
        loop = asyncio.get_running_loop()
        self.metrics = Metrics(node="n", host="h")
        self.plain = open_store(storage)
        self.metered = MeteredStore(self.plain, self.metrics)
        self.engine = Engine(loop, tally=Tally(self.metrics), on_finished=lambda finished: None)
        self.pool = concurrent.futures.ThreadPoolExecutor(1)
        self.engine.log = self.log = Log(
            self.metered,
            "host",
            executor=self.pool,
            call_soon=loop.call_soon_threadsafe,
            on_durable=self.engine.on_durable,
            on_error=lambda error: print(error, file=sys.stderr),
            metrics=self.metrics,
        )
        self.metrics.coroutines.follow(lambda: len(self.engine.ready), "ready")
        self.metrics.oldest_ready.follow(lambda: self.engine.tally.ready.oldest(time.monotonic()))
        self.server = MetricsServer(self.metrics)
        self.server.start()
        self.watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        call = dumps((yields, (), {}))
        for i in range(COROUTINES):
            header = Header(f"{i:032x}", "yields")
            self.engine.adopt(Transfer(header, "call", call, epoch=1, to="host"), lambda: None)

    def switch(self, on: bool) -> None:
        for instrument in self.metrics.instruments:
            instrument.on = on
        self.log.objects.store = self.metered if on else self.plain
        self.engine.tally = Tally(self.metrics)
        if self.watch is not None:
            self.watch.cancel()
        self.watch = asyncio.get_running_loop().create_task(watch_loop_lag(self.metrics)) if on else None

    def scrape(self) -> None:
        with urllib.request.urlopen(self.server.url, timeout=5) as answer:
            answer.read()

    async def slice(self, on: bool) -> Slice:
        self.switch(on)
        await asyncio.sleep(SETTLE_S)
        before, cpu, wall = self.engine.tally.durable, time.process_time(), time.perf_counter()
        await asyncio.sleep(SLICE_S)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return Slice(on, self.engine.tally.durable - before, cpu, wall)

    def scrape_cpu_s(self) -> float:
        """CPU time of one scrape, asking included, while nothing else runs."""
        began = time.process_time()
        for _ in range(SCRAPES):
            self.scrape()
        return (time.process_time() - began) / SCRAPES

    def stop(self) -> float:
        """End all; returns the CPU time of a scrape."""
        self.switch(False)
        self.engine.stop()
        self.pool.shutdown(wait=True)
        took = self.scrape_cpu_s()
        self.server.close()
        return took


async def run(seconds: float, storage: str) -> tuple[list[tuple[Slice, Slice]], float]:
    """Pairs of slices, (on, off), in changing order, and the CPU time of a scrape."""
    operations.install()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    switched = Switched(storage)
    switched.start()
    await asyncio.sleep(WARM_UP_S)
    gc.collect()
    gc.freeze()  # as a host does
    pairs = []
    for number in range(max(8, int(seconds / (SLICE_S + SETTLE_S) / 2))):
        made = {}
        for on in (True, False) if number % 2 else (False, True):
            made[on] = await switched.slice(on)
            for name in store_objects(switched.plain):
                switched.plain.delete(name)
        pairs.append((made[True], made[False]))
    return pairs, switched.stop()


class Nowhere:
    """A store whose creates cost nothing."""

    url, remote = "nowhere", False

    def create(self, name: str, data: bytes) -> None:
        pass


def own_ns_per_yield(turns: int) -> float:
    """What all that is counted for a commit of `turns` turns of 128 yields takes, per yield: the best of many, so that
    other work on the machine does not show."""

    def commit(tally: Tally, store: Any, metrics: Metrics) -> None:
        for _ in range(turns):
            tally.turn_begins(1.0, 128, 128)
            for _ in range(128):
                tally.turn["f"].append(200)
            for _ in range(128 // TIMED_ONE_OF):
                tally.timed(bytes)
            tally.turn_ends(1.0)
        store.create("a", b"")
        metrics.commit_time.observe(0.001)
        metrics.segment_bytes.add(1000)
        metrics.commit_records.observe(1000)
        tally.committed(128 * turns, 2.0)

    def best(*on: Any) -> float:
        return min(timeit.repeat(lambda: commit(*on), number=50, repeat=20)) / 50 / (128 * turns) * 1e9

    on, off = Metrics("n", "h"), Metrics(on=False)
    nowhere: Any = Nowhere()
    return best(Tally(on), MeteredStore(nowhere, on), on) - best(Tally(off), nowhere, off)


def store_objects(store: Any) -> list[str]:
    """What has been written so far: deleted between slices, so that memory stays bounded."""
    return [each.name for each in store.list("logs/")]


def summary(pairs: list[tuple[Slice, Slice]], scrape_s: float) -> dict[str, Any]:
    ratios = [on.cpu_us / off.cpu_us - 1 for on, off in pairs if on.yields and off.yields]
    more = scrape_s / SCRAPE_EVERY_S
    chance = random.Random(len(ratios))
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(RESAMPLED))
    low, high = medians[RESAMPLED // 40], medians[-RESAMPLED // 40]
    found: dict[str, Any] = {"cost_of_cpu_per_yield": round(statistics.median(ratios) + more, 4), "limit": LIMIT}
    found["interval"] = [round(low + more, 4), round(high + more, 4)]
    found["pairs"] = len(ratios)
    found["scrape_cpu_ms"] = round(scrape_s * 1e3, 2)
    for name, which in (("on", 0), ("off", 1)):
        slices = [pair[which] for pair in pairs]
        yielded = sum(each.yields for each in slices)
        found[name] = {
            "yields_per_s": round(yielded / sum(each.wall_s for each in slices)),
            "cpu_us_per_yield": round(sum(each.cpu_s for each in slices) / yielded * 1e6, 3),
        }
    own = {f"commits_of_{128 * turns}": round(own_ns_per_yield(turns), 1) for turns in (1, 8)}
    found["own_ns_per_yield"] = own
    found["own_share_of_cpu"] = round(max(own.values()) / 1000 / found["off"]["cpu_us_per_yield"], 4)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--storage", help="an empty one; default: a temporary directory")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ray_durable_bench_") as directory:
        found = summary(*asyncio.run(run(asked.seconds, asked.storage or directory)))
    if asked.json:
        print(json.dumps(found, indent=2))
        return 0
    for name in ("on", "off"):
        print(f"{name:>4} {found[name]['yields_per_s']:9,}/s {found[name]['cpu_us_per_yield']:.2f} µs of CPU per yield")
    cost, (low, high) = found["cost_of_cpu_per_yield"], found["interval"]
    own = ", ".join(f"{ns:.0f} ns with {name.replace('_', ' ')}" for name, ns in found["own_ns_per_yield"].items())
    print(f"what is counted takes, per yield, {own}: {found['own_share_of_cpu']:.1%} of its CPU, with warm caches")
    print(f"a scrape takes {found['scrape_cpu_ms']:.1f} ms of CPU")
    print(f"metrics cost {cost:.1%} of a yield ({found['pairs']} pairs, 95 % {low:.1%} to {high:.1%}; limit 3 %)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

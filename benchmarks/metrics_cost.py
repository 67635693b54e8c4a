"""What metrics cost: CPU time per durable yield of 1,000 coroutines with everything on, against everything off.

    python benchmarks/metrics_cost.py [--json] [--seconds 30] [--storage DIRECTORY]

One host's engine and log, by default on a store in memory: no disk, so that nothing but CPU is in the figure, and
commits are as small, and as many, as they ever get, which makes metrics look dearer than they are on a disk. Every
quarter of a second all is switched, on or off: counting, timing and the tally of the host; the metered store;
`/metrics`, scraped every 5 s of being on; the event-loop watch. Neighbouring slices form a pair, so that a machine
that is busy with other things burdens both alike, and CPU time counts this process alone. The result is the median of
the pairs' ratios; yields/s of both halves stand beside it. A host is bound by its event loop's CPU, so that what a
yield costs more is what throughput loses. The limit is 3 %. On a busy machine that ratio is lost in noise; so what is
counted is also timed by itself, best of many, and set against the CPU time of a yield.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import json
import statistics
import sys
import threading
import time
import timeit
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray_durable import operations
from ray_durable.actors.engine import Engine
from ray_durable.actors.exporter import MetricsServer, watch_loop_lag
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
SLICE_S = 0.25
SCRAPE_EVERY = (
    20  # slices of being on: 5 s; a scrape takes 3.6 ms of CPU, and Prometheus asks every 15 s or more rarely
)
WARM_UP_S = 2.0


@durable
def yields() -> None:
    """The least that a coroutine can do between two checkpoints."""
    while True:
        time.sleep(0)


class Uncounted(Tally):
    """A tally that counts durable yields for this benchmark, and nothing else."""

    def checkpoint(self, function: str, size: int) -> None:
        pass

    def timed(self, pickling: Callable[[], bytes]) -> bytes:
        return pickling()

    def turn_begins(self, now: float, ready: int, count: int) -> None:
        pass

    def turn_ends(self, began: float) -> None:
        pass

    def committed(self, checkpoints: int, now: float) -> None:
        self.durable += checkpoints


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
        self.engine.tally = Tally(self.metrics) if on else Uncounted(self.metrics)
        if self.watch is not None:
            self.watch.cancel()
        self.watch = asyncio.get_running_loop().create_task(watch_loop_lag(self.metrics)) if on else None

    def scrape(self) -> None:
        with urllib.request.urlopen(self.server.url, timeout=5) as answer:
            answer.read()

    async def slice(self, on: bool, scraped: bool) -> Slice:
        self.switch(on)
        if scraped:
            threading.Thread(target=self.scrape).start()
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.sleep(SLICE_S)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return Slice(on, self.engine.tally.durable, cpu, wall)

    def stop(self) -> None:
        self.switch(False)
        self.engine.stop()
        self.pool.shutdown(wait=True)
        self.server.close()


async def run(seconds: float, storage: str) -> list[tuple[Slice, Slice]]:
    """Pairs of slices, (on, off), in changing order."""
    operations.install()
    sys.setswitchinterval(0.0005)
    switched = Switched(storage)
    switched.start()
    await asyncio.sleep(WARM_UP_S)
    pairs = []
    for number in range(max(8, int(seconds / SLICE_S / 2))):
        made = {}
        for on in (True, False) if number % 2 else (False, True):
            made[on] = await switched.slice(on, scraped=on and number % SCRAPE_EVERY == 0)
            for name in store_objects(switched.plain):
                switched.plain.delete(name)
        pairs.append((made[True], made[False]))
    switched.stop()
    return pairs


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
                tally.checkpoint("f", 200)
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
    return best(Tally(on), MeteredStore(nowhere, on), on) - best(Uncounted(off), nowhere, off)


def store_objects(store: Any) -> list[str]:
    """What has been written so far: deleted between slices, so that memory stays bounded."""
    return [each.name for each in store.list("logs/")]


def summary(pairs: list[tuple[Slice, Slice]]) -> dict[str, Any]:
    ratios = sorted(on.cpu_us / off.cpu_us - 1 for on, off in pairs if on.yields and off.yields)
    low, _, high = statistics.quantiles(ratios, n=4)
    found: dict[str, Any] = {"cost_of_cpu_per_yield": round(statistics.median(ratios), 4), "limit": LIMIT}
    found["middle_half_of_pairs"] = [round(low, 4), round(high, 4)]
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
    parser.add_argument("--storage", default="memory://metrics_cost", help="an empty directory: with fsync")
    asked = parser.parse_args()
    found = summary(asyncio.run(run(asked.seconds, asked.storage)))
    if asked.json:
        print(json.dumps(found, indent=2))
        return 0
    for name in ("on", "off"):
        print(f"{name:>4} {found[name]['yields_per_s']:9,}/s {found[name]['cpu_us_per_yield']:.2f} µs of CPU per yield")
    cost, (low, high) = found["cost_of_cpu_per_yield"], found["middle_half_of_pairs"]
    own = ", ".join(f"{ns:.0f} ns with {name.replace('_', ' ')}" for name, ns in found["own_ns_per_yield"].items())
    print(f"what is counted takes, per yield, {own}: at most {found['own_share_of_cpu']:.1%} of its CPU")
    print(f"metrics cost {cost:.1%} of a yield (median of the pairs, middle half {low:.1%} to {high:.1%}; limit 3 %)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What metrics cost: durable yields/s of 1,000 coroutines with everything on against everything off, in pairs.

    python benchmarks/metrics_cost.py [--json] [--pairs 7] [--seconds 2]

One host's engine and log on a local store with fsync, in a process of its own for each run. On: counting, the metered
store, `/metrics` scraped once a second, the event-loop watch. Off: `Metrics(on=False)` and none of these. Runs of a
pair follow each other, in changing order; the result is the median of the pairs' ratios, of throughput and of CPU time
per yield. The issue's limit is 3 %.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

LIMIT = 0.03
COROUTINES = 1_000


def yields() -> None:
    """The least that a coroutine can do between two checkpoints."""
    while True:
        time.sleep(0)


async def run(on: bool, seconds: float) -> dict[str, float]:
    """One run in this process: yields/s and CPU microseconds per yield, after a second of warming up."""
    from ray_durable import operations
    from ray_durable.actors.engine import Engine
    from ray_durable.actors.exporter import MetricsServer, watch_loop_lag
    from ray_durable.actors.tally import Tally
    from ray_durable.actors.transfer import Header, Transfer
    from ray_durable.checkpoint.codec import dumps
    from ray_durable.checkpoint.log import Log
    from ray_durable.checkpoint.stores import open_store
    from ray_durable.checkpoint.stores.metered import MeteredStore
    from ray_durable.compiler import durable
    from ray_durable.metrics import Metrics

    operations.install()
    sys.setswitchinterval(0.0005)
    loop = asyncio.get_running_loop()
    metrics = Metrics(node="n", host="h", on=on)
    with tempfile.TemporaryDirectory(dir=".") as directory:
        store = open_store(directory)
        store = MeteredStore(store, metrics) if on else store
        tally = Tally(metrics)
        engine = Engine(loop, tally=tally, on_finished=lambda finished: None)
        pool = concurrent.futures.ThreadPoolExecutor(1)
        engine.log = Log(
            store,
            "host",
            executor=pool,
            call_soon=loop.call_soon_threadsafe,
            on_durable=engine.on_durable,
            on_error=lambda error: print(error, file=sys.stderr),
            metrics=metrics,
        )
        stop = threading.Event()
        if on:
            metrics.coroutines.follow(lambda: len(engine.ready), "ready")
            metrics.oldest_ready.follow(lambda: tally.ready.oldest(time.monotonic()))
            server = MetricsServer(metrics)
            server.start()
            scraper = threading.Thread(target=scrape, args=(server.url, stop), daemon=True)
            scraper.start()
            watch = loop.create_task(watch_loop_lag(metrics))
        call = dumps((durable(yields), (), {}))
        for i in range(COROUTINES):
            header = Header(f"{i:032x}", "yields")
            engine.adopt(Transfer(header, "call", call, epoch=1, to="host"), lambda: None)
        await asyncio.sleep(1.0)
        before, began, cpu = tally.saved, time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        done = tally.saved - before
        result = {
            "yields_per_s": done / (time.perf_counter() - began),
            "cpu_us_per_yield": (time.process_time() - cpu) / done * 1e6,
        }
        engine.stop()
        stop.set()
        if on:
            watch.cancel()
            scraper.join()
            server.close()
        pool.shutdown(wait=True)
    return result


def scrape(url: str, stop: threading.Event) -> None:
    while not stop.wait(1.0):
        with urllib.request.urlopen(url, timeout=5) as answer:
            answer.read()


def in_process(on: bool, seconds: float) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", "on" if on else "off", "--seconds", str(seconds)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--one", choices=("on", "off"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(asyncio.run(run(asked.one == "on", asked.seconds))))
        return 0
    pairs = []
    for number in range(asked.pairs):
        order = (True, False) if number % 2 else (False, True)
        pairs.append({on: in_process(on, asked.seconds) for on in order})
    throughput = statistics.median(1 - pair[True]["yields_per_s"] / pair[False]["yields_per_s"] for pair in pairs)
    cpu = statistics.median(pair[True]["cpu_us_per_yield"] / pair[False]["cpu_us_per_yield"] - 1 for pair in pairs)
    found = {
        "cost_of_yields_per_s": round(throughput, 4),
        "cost_of_cpu_per_yield": round(cpu, 4),
        "limit": LIMIT,
        "pairs": [{"on": pair[True], "off": pair[False]} for pair in pairs],
    }
    if asked.json:
        print(json.dumps(found, indent=2))
    else:
        for pair in pairs:
            on, off = pair[True], pair[False]
            print(f"on {on['yields_per_s']:9,.0f}/s {on['cpu_us_per_yield']:.2f} µs", end="   ")
            print(f"off {off['yields_per_s']:9,.0f}/s {off['cpu_us_per_yield']:.2f} µs")
        print(f"metrics cost {throughput:.1%} of yields/s and {cpu:.1%} of CPU per yield (medians; limit {LIMIT:.0%})")
    return 0


if __name__ == "__main__":
    sys.exit(main())

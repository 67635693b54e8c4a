"""Durable yields per second of one host: 1,000 coroutines, then one alone, on local storage with fsync.

    python benchmarks/hosts.py [--json]

Reports `durable_yields_per_s` and `cpu_us_per_yield` of 1,000 coroutines on one real host actor, and
`single_yields_per_s` of one coroutine with `single_vs_bare`, its ratio to the bare commit sequence (temporary file,
write, fdatasync, link, unlink, fsync of the directory) measured in the same run, by turns: a disk's rate moves by a
third within seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import psutil
import ray
import typer
from rich.console import Console

import ray_durable
from ray_durable.connection import connected

ROUNDS = 8  # of one coroutine and the bare commit, by turns
SEGMENT_BYTES = 1500  # what one checkpoint of `spin` takes in the store


@ray_durable.remote
def spin(begin: float, yields: int) -> int:
    """Wait until `begin`, then yield `yields` times with eight small locals."""
    a, b, c, d, name, items = 1, 2.5, "three", (4, 5), "spin", [6, 7]
    time.sleep(max(0.0, begin - time.time()))
    for _ in range(yields):
        ray_durable.yield_point()
    return a + d[0] + len(name) + len(c) + int(b) + items[0]


def bare_commits_per_s(directory: Path, seconds: float) -> float:
    """The rate of durable creates that nothing but the file system limits."""
    directory.mkdir(parents=True, exist_ok=True)
    data, count = os.urandom(SEGMENT_BYTES), 0
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        temporary, name = directory / f"t{count}", directory / f"{count:016d}"
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(file, data)
        os.fdatasync(file)
        os.close(file)
        os.link(temporary, name)
        os.unlink(temporary)
        os.fsync(folder)
        count += 1
    elapsed = time.perf_counter() - began
    os.close(folder)
    shutil.rmtree(directory)
    return count / elapsed


def host() -> dict[str, Any]:
    return dict(connected("the benchmark").ask("status")["hosts"][0])


def until_done(refs: list[Any]) -> None:
    ray.get(refs, timeout=600)


def many(coroutines: int, yields: int) -> dict[str, float]:
    """Rate and CPU time per yield with many coroutines, over the stretch in which all of them run."""
    begin = time.time() + 2.0 + coroutines / 500
    refs = [spin.remote(begin, yields) for _ in range(coroutines)]
    process = psutil.Process(host()["pid"])
    time.sleep(max(0.0, begin + 0.2 - time.time()))
    before, cpu_before, began = host()["checkpoints"], cpu_of(process), time.perf_counter()
    rates = []
    while True:
        time.sleep(1.0)
        now, cpu, at = host()["checkpoints"], cpu_of(process), time.perf_counter()
        if now - before < 1 or now >= coroutines * (yields + 1) * 0.95:
            break
        rates.append(((now - before) / (at - began), (cpu - cpu_before) / (now - before) * 1e6))
        before, cpu_before, began = now, cpu, at
    until_done(refs)
    if not rates:
        raise typer.BadParameter("too few yields to measure: raise --yields")
    return {
        "durable_yields_per_s": statistics.median(rate for rate, _ in rates),
        "cpu_us_per_yield": statistics.median(cpu for _, cpu in rates),
    }


def single(yields: int) -> float:
    """The rate of one coroutine alone."""
    before = host()["checkpoints"]
    ref = spin.remote(0.0, yields)
    began = time.perf_counter()
    until_done([ref])
    elapsed = time.perf_counter() - began
    assert host()["checkpoints"] >= before
    return yields / elapsed


def cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    coroutines: Annotated[int, typer.Option(help="Coroutines that yield side by side.", min=1)] = 1000,
    yields: Annotated[int, typer.Option(help="Yields of each.", min=10)] = 1000,
    directory: Annotated[Path | None, typer.Option(help="Where to store; default: a temporary directory.")] = None,
) -> None:
    """Measure one host's durable yields per second."""
    console = Console(stderr=True, quiet=as_json)
    storage = Path(tempfile.mkdtemp(prefix="ray_durable_bench_", dir=directory))
    try:
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
        ray_durable.init(str(storage / "store"))
        with console.status("warming up"):
            until_done([spin.remote(0.0, 20)])
        with console.status("one coroutine, by turns with the bare commit"):
            bare, alone = [], []
            for _ in range(ROUNDS):
                bare.append(bare_commits_per_s(storage / "bare", 0.8))
                alone.append(single(1000))
        with console.status(f"{coroutines} coroutines"):
            figures = many(coroutines, yields)
        figures["single_yields_per_s"] = statistics.harmonic_mean(alone)
        figures["bare_commits_per_s"] = statistics.harmonic_mean(bare)
        figures["single_vs_bare"] = figures["single_yields_per_s"] / figures["bare_commits_per_s"]
    finally:
        ray.shutdown()
        shutil.rmtree(storage, ignore_errors=True)
    if as_json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            console.print(f"{name:24} {value:,.2f}")


if __name__ == "__main__":
    typer.run(main)

"""What durable functions cost: running, pickling and compiling, against the same functions undecorated.

    python benchmarks/compiler.py [--json] [--no-peer]

Thread CPU time, medians over interleaved pairs. `*_ratio`: durable time by plain time. `dumps_us`, `loads_next_us`:
a suspended generator with 8 small locals; `*_10_*`: 10 generators deep. `compile_ms`: a function of 100 lines.
`back_edge_ratio`: a tight numeric loop under `checkpoint_every`.
`dispatch_*`: the same of dispatch-py, in the same run, where it can be installed (into a temporary directory).
"""

from __future__ import annotations

import argparse
import gc
import json
import linecache
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PEER = ("dispatch-py", "http-sfv")  # it imports http_sfv, which its own requirements no longer bring
STEPS = 20_000
ROUNDS = 15


def timed(action: Callable[[], Any]) -> float:
    """Seconds of this thread's CPU time."""
    gc.collect()
    began = time.thread_time()
    action()
    return time.thread_time() - began


def ratio(durable: Callable[[], Callable[[], Any]], plain: Callable[[], Callable[[], Any]]) -> float:
    """The median of durable by plain, over pairs run in turns; each is made anew for every round, untimed."""
    pairs = [(timed(durable()), timed(plain())) for _ in range(ROUNDS)]
    return statistics.median(ours / theirs for ours, theirs in pairs)


def microseconds(action: Callable[[], Any], times: int = 2_000) -> float:
    """The median time of one call."""

    def often() -> None:
        for _ in range(times):
            action()

    return statistics.median(timed(often) / times * 1e6 for _ in range(ROUNDS))


def exhausted(gen: Any) -> Callable[[], Any]:
    def run() -> None:
        for _ in gen:
            pass

    return run


def sent_through(coroutine: Any) -> Callable[[], Any]:
    def run() -> None:
        send = coroutine.send
        try:
            while True:
                send(None)
        except StopIteration:
            pass

    return run


def started(gen: Any) -> Any:
    next(gen)
    return gen


def running() -> dict[str, float]:
    """Ratios of running."""
    import compiler_programs as programs

    plain = programs.PLAIN
    found: dict[str, float] = {}
    found["next_ratio"] = ratio(
        lambda: exhausted(programs.small_loop(STEPS)), lambda: exhausted(plain["small_loop"](STEPS))
    )
    durable, native = programs.ten_yield_from, plain["ten_yield_from"]
    found["yield_from_10_ratio"] = ratio(
        lambda: exhausted(durable(9, STEPS, durable)), lambda: exhausted(native(9, STEPS, native))
    )
    durable_await, native_await = programs.ten_await, plain["ten_await"]
    found["await_10_ratio"] = ratio(
        lambda: sent_through(durable_await(9, programs.Pauses(STEPS), durable_await)),
        lambda: sent_through(native_await(9, programs.Pauses(STEPS), native_await)),
    )
    found["next_restored_ratio"] = ratio(
        lambda: exhausted(pickle.loads(pickle.dumps(started(programs.small_loop(STEPS))))),
        lambda: exhausted(started(plain["small_loop"](STEPS))),
    )
    return found


def looping() -> dict[str, float]:
    """What `checkpoint_every` costs tight loops that never yield, while no checkpoint is due: the dearer of a `for` and
    a `while` loop."""
    import compiler_programs as programs

    from ray_durable.compiler import twin_of

    found: list[float] = []
    for name in ("numeric", "counting"):
        twin, native = twin_of(getattr(programs, name), back_edges=True), programs.PLAIN[name]
        assert twin is not None
        found.append(
            ratio(
                lambda twin=twin: exhausted(twin(STEPS * 5)),  # type: ignore[misc]
                lambda native=native: lambda: native(STEPS * 5),  # type: ignore[misc]
            )
        )
    return {"back_edge_ratio": max(found)}


def pickling() -> dict[str, float]:
    """Sizes and times of pickles."""
    import compiler_programs as programs

    found: dict[str, float] = {}
    for suffix, gen in (("", programs.eight_locals(1, 2, 3, 4)), ("_10", programs.ten_deep(9))):
        next(gen)
        data = pickle.dumps(gen, 5)
        found[f"dumps{suffix}_us"] = microseconds(lambda gen=gen: pickle.dumps(gen, 5))
        found[f"dumps{suffix}_bytes"] = len(data)
        found[f"loads{suffix}_next_us"] = microseconds(lambda data=data: next(pickle.loads(data)))
    return found


def hundred_lines(number: int) -> str:
    """The text of a generator function of 100 lines, unlike any before."""
    block = (
        "        if i % {n} == 0:\n"
        "            total += yield (i, {n})\n"
        "        try:\n"
        "            value = str(i) + name\n"
        "        except ValueError as error:\n"
        "            total -= 1\n"
        "        finally:\n"
        "            found[i] = total\n"
    )
    lines = f"def work{number}(n, name):\n    total, found = {number}, {{}}\n    for i in range(n):\n"
    lines += "".join(block.format(n=n) for n in range(2, 14))
    return lines + "    return found\n"


def compiling() -> dict[str, float]:
    """Milliseconds to make a function of 100 lines durable, and to compile its resume body."""
    from ray_durable.compiler import durable
    from ray_durable.compiler.unit import unit_of

    fresh, resume = [], []
    for number in range(10):
        text, name = hundred_lines(number), f"<hundred lines, {number}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        namespace: dict[str, Any] = {}
        exec(compile(text, name, "exec"), namespace)
        made: list[Any] = []
        fresh.append(timed(lambda namespace=namespace, made=made: made.append(durable(namespace[f"work{number}"]))))  # noqa: B023
        unit = unit_of(made[0].__code__)
        assert unit is not None
        resume.append(timed(unit.resume))
    return {"compile_ms": statistics.median(fresh) * 1e3, "compile_resume_ms": statistics.median(resume) * 1e3}


def peer() -> dict[str, Any]:
    """The same of dispatch-py, in a process of its own; says why, if it cannot be installed."""
    with tempfile.TemporaryDirectory() as directory:
        install = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--target",
            directory,
        ]
        done = subprocess.run([*install, *PEER], capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            return {"dispatch": f"does not install: {(done.stderr.strip().splitlines() or ['?'])[-1]}"}
        environment = {**os.environ, "PYTHONPATH": directory, "BENCHMARK_PEER": "dispatch"}
        done = subprocess.run(
            [sys.executable, __file__, "--json", "--no-peer"],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
    if done.returncode:
        return {"dispatch": f"does not run: {(done.stderr.strip().splitlines() or ['?'])[-1]}"}
    return {f"dispatch_{name}": value for name, value in json.loads(done.stdout).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--no-peer", action="store_true", help="leave dispatch-py out")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    found: dict[str, Any] = {"python": sys.version.split()[0], **running(), **pickling()}
    if os.environ.get("BENCHMARK_PEER") != "dispatch":
        found |= {**looping(), **compiling()}
    if not options.no_peer:
        found |= peer()
    found = {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:32} {value}")


if __name__ == "__main__":
    main()

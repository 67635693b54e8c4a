"""Spot exercise: coroutines go on while the nodes under them are taken away, and every result is checked.

    python exercise.py                      you take nodes away, as README.md beside this file shows
    python exercise.py --kills 2            it kills the raylets of two workers itself, each with most coroutines on it

It prints what runs where every two seconds. It ends with status 0 only if every coroutine returned what a plain loop
computes, none was lost, and as many nodes died as it was told to kill.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections import Counter
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import ray_durable

MODULUS = 2**61 - 1
ENDED = ("completed", "failed", "cancelled")


def advance(total: int, order: int, step: int) -> int:
    return (total * 6364136223846793005 + order * 1442695040888963407 + step) % MODULUS


@ray_durable.remote
def item(total: int, order: int, step: int, pause_s: float) -> int:
    time.sleep(pause_s)  # durable: suspended here, and gone on with on another node if this one goes
    return advance(total, order, step)


@ray_durable.remote
def settle(order: int, steps: int, pause_s: float) -> int:
    """One order: many steps, each a coroutine call of its own, so that a move carries two frames."""
    total = order
    for step in range(steps):
        total = item(total, order, step, pause_s)
    return total


def expected(order: int, steps: int) -> int:
    total = order
    for step in range(steps):
        total = advance(total, order, step)
    return total


@ray.remote(num_cpus=0, max_retries=0)
def kill_this_node() -> None:
    os.kill(os.getppid(), signal.SIGKILL)  # a worker process is its raylet's child


def workers() -> dict[str, str]:
    """Live worker nodes: id to address."""
    return {
        node["NodeID"]: node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"] and "node:__internal_head__" not in node["Resources"]
    }


def running() -> Counter[str]:
    """How many coroutines each node has."""
    rows: list[dict[str, Any]] = ray_durable.list()
    return Counter(
        row["node"] for row in rows if row["node"] and row["state"] not in ("finished", "failed", "cancelled")
    )


def kill_one() -> str:
    """SIGKILL the raylet of the worker with most coroutines; on Kubernetes the kubelet starts its container anew."""
    alive, load = workers(), running()
    node = max(alive, key=lambda node: load[node])
    kill_this_node.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
    return alive[node]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", help="where checkpoints go; default: RAY_DURABLE_STORAGE")
    parser.add_argument("--coroutines", type=int, default=200)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds that each step sleeps")
    parser.add_argument("--kills", type=int, default=0, help="workers to kill while it runs")
    options = parser.parse_args()

    ray_durable.init(options.storage, ray_init={"address": "auto", "log_to_driver": False})
    began = time.monotonic()
    refs = [settle.remote(order, options.steps, options.pause) for order in range(options.coroutines)]
    print(f"{len(refs)} coroutines of {options.steps} steps on {len(workers())} workers", flush=True)

    whole_s = options.steps * options.pause
    kills_at = [whole_s * (n + 1) / (options.kills + 1) for n in range(options.kills)]
    killed: list[str] = []
    pending = refs
    while pending:
        _, pending = ray.wait(pending, num_returns=len(pending), timeout=2)
        passed_s = time.monotonic() - began
        if kills_at and passed_s >= kills_at[0]:
            kills_at.pop(0)
            killed.append(kill_one())
            print(f"{passed_s:6.1f} s  killed the worker at {killed[-1]}", flush=True)
        where = ", ".join(f"{node[:8]}: {count}" for node, count in sorted(running().items()))
        print(f"{passed_s:6.1f} s  done {len(refs) - len(pending)}/{len(refs)}  on {where or 'no node'}", flush=True)

    results = ray.get(refs)
    wrong = [n for n, result in enumerate(results) if result != expected(n, options.steps)]
    print(f"results: {len(results)}, wrong: {len(wrong)}, lost: {options.coroutines - len(results)}", flush=True)
    print(f"killed: {len(killed)} of {options.kills}; took {time.monotonic() - began:.1f} s", flush=True)
    return 1 if wrong or len(results) != options.coroutines or len(killed) != options.kills else 0


if __name__ == "__main__":
    sys.exit(main())

"""A cluster of two nodes with coroutines on it, for the tests of the command line; ends when its input is closed.

python tests/cluster/cli_program.py STORAGE        prints one line of JSON when all is ready
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import ray
from ray.cluster_utils import Cluster

import ray_durable
from ray_durable.actors.cluster import log_directory


@ray_durable.remote
def ticker(pause: float) -> int:
    ticks = 0
    while True:
        ticks += 1
        time.sleep(pause)


def approve(order: dict, decision: str) -> tuple:
    return order["id"], decision


@ray_durable.remote
async def order(order: dict) -> tuple:
    decision = await ray_durable.receive("approval")
    return approve(order, decision)


@ray_durable.remote
def failing() -> None:
    time.sleep(0.01)
    raise ValueError("out of stock")


@ray_durable.remote
async def outer(n: int) -> int:
    label = "outside"
    return await inner(n) + len(label)


async def inner(n: int) -> int:
    secret = object()
    await asyncio.sleep(10_000)
    return n + hash(secret)


def main(storage: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(cluster.address, log_to_driver=False, logging_level="error")
    ready = ray_durable.init(storage, heartbeat_s=0.2, poll_s=0.2, signing_key="ab" * 32)
    for number in range(4):
        ticker.options(name=f"ticker-{number}").remote(0.05)
    for name in ("order-1", "order-2"):
        order.options(name=name).remote({"id": name, "note": "x" * 5000})
    outer.options(name="outer").remote(5)
    ref = failing.options(name="failing").remote()
    ray.wait([ref], timeout=60)
    while len([host for host in hosts() if host["state"] == "alive"]) < 2:
        time.sleep(0.2)
    print(json.dumps({**ready, "address": cluster.address, "logs": str(log_directory())}), flush=True)
    sys.stdin.read()
    ray_durable.shutdown()
    ray.shutdown()
    cluster.shutdown()


def hosts() -> list[dict]:
    from ray_durable.connection import connected

    return connected("this program").ask("status")["hosts"]


if __name__ == "__main__":
    main(sys.argv[1])

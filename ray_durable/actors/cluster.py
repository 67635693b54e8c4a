"""Ray's nodes, drains and processes: every use of Ray's private API is in this file.

What may change with a Ray release is kept here behind a few plain functions, so that the rest of the package calls
only what Ray documents.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

__all__ = [
    "Node",
    "borrow_ref",
    "cluster_id",
    "drain_node",
    "draining_nodes",
    "hush",
    "ignore_unread_errors",
    "is_here",
    "is_restarted_actor",
    "lend_ref",
    "log_directory",
    "nodes",
    "on_completed",
    "raylet_answers",
    "raylet_is_alive",
    "this_address",
    "this_node_id",
    "value_of",
    "watch_calls",
]

PROBE_S = 0.5
RAYLET_PID = os.getppid()  # a worker is its raylet's child, and is given to another process when that dies


@dataclass(frozen=True, slots=True)
class Node:
    """One Ray node. `port` is its raylet's; `resources` are its totals."""

    id: str
    address: str
    port: int
    alive: bool
    is_head: bool
    resources: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


def nodes() -> list[Node]:
    """All nodes that Ray knows, dead ones included."""
    return [
        Node(
            id=found["NodeID"],
            address=found["NodeManagerAddress"],
            port=found["NodeManagerPort"],
            alive=found["Alive"],
            is_head="node:__internal_head__" in found.get("Resources", {}),
            resources=dict(found.get("Resources", {})),
            labels=dict(found.get("Labels", {}) or {}),
        )
        for found in ray.nodes()
    ]


def gcs_client() -> Any:
    """Ray's client of its cluster metadata, in a connected process."""
    from ray._private.worker import global_worker

    return global_worker.gcs_client


def cluster_id() -> str:
    """A name for this Ray cluster that no other one has."""
    return str(gcs_client().cluster_id.hex())


def draining_nodes() -> dict[str, float]:
    """Nodes that are to go, with their deadline in seconds since the epoch; infinity when there is none."""
    found = gcs_client().get_draining_nodes(timeout=5)
    return {
        (node if isinstance(node, str) else node.hex()): (deadline / 1000 if deadline else float("inf"))
        for node, deadline in found.items()
    }


def drain_node(node_id: str, message: str, deadline: float | None = None) -> str | None:
    """Ask Ray to drain a node by `deadline`, in seconds since the epoch. Returns Ray's reason if it refuses."""
    from ray.core.generated import autoscaler_pb2

    preemption = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, reason = gcs_client().drain_node(node_id, preemption, message, int((deadline or 0) * 1000))
    return None if accepted else str(reason)


def this_node_id() -> str:
    """The node of the calling process."""
    return str(ray.get_runtime_context().get_node_id())


def is_restarted_actor() -> bool:
    """Whether Ray has started the actor of this process before. Not for an event loop's thread: it asks Ray."""
    context = ray.get_runtime_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ray.util.annotations.RayDeprecationWarning)  # it uses what it deprecates
        return bool(context.was_current_actor_reconstructed)


def this_address() -> str:
    """The address by which other nodes reach this one."""
    return str(ray.util.get_node_ip_address())


def hush() -> None:
    """Keep what raylets say of dying nodes and workers off this driver's terminal; Ray's log files have it all."""
    from ray._private import worker

    worker.print_to_stdstream = lambda data, ignore_prefix: None


def log_directory() -> Path:
    """Where this process's Ray session keeps its log files."""
    from ray._private.worker import global_worker

    return Path(global_worker.node.get_logs_dir_path())


def raylet_is_alive() -> bool:
    """Whether the raylet that started this worker process still lives.

    A worker notices its raylet's death by itself only after 12 s and more; its parent's pid changes at once."""
    return os.getppid() == RAYLET_PID


async def raylet_answers(node: Node) -> bool:
    """Whether a node's raylet takes a connection. Ray itself lists a killed one as alive for 13 s more."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(node.address, node.port), PROBE_S)
    except OSError:  # TimeoutError too
        return False
    writer.close()
    return True


def on_completed(ref: Any, done: Callable[[Any, BaseException | None], None]) -> None:
    """Call `done(value, error)` in some thread of Ray's, once `ref` is there."""

    def completed(future: Any) -> None:
        error = future.exception()
        done(None if error is not None else future.result(), error)

    ref.future().add_done_callback(completed)


def ignore_unread_errors() -> None:
    """Have Ray not log errors of refs that this process, which only holds them for others, drops unread."""
    os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"


def is_here(ref: Any) -> bool:
    """Whether its value, or its error, is in this process or on this node."""
    return bool(ray.wait([ref], timeout=0)[0])


def value_of(ref: Any) -> Any:
    """The value of a ref that is here, or raises its error: without Ray's warning that this blocks, as it does not."""
    return ref.future().result()


def lend_ref(ref: Any) -> tuple[bool, tuple[Any, ...]]:
    """Whether this process has made `ref`, and what `borrow_ref` needs to make it again in another process of this
    cluster, as long as somebody holds it: unlike pickling it, this does not keep its value for good."""
    from ray._private.worker import global_worker
    from ray.core.generated.common_pb2 import Address

    _, owner, status = global_worker.core_worker.serialize_object_ref(ref)
    return Address.FromString(owner).worker_id == global_worker.worker_id, (ref.binary(), owner, status)


def borrow_ref(parts: tuple[Any, ...]) -> Any:
    """The ref that another process has lent."""
    from ray._private.worker import global_worker

    binary, owner, status = parts
    ref = ray.ObjectRef(binary, owner)
    nothing_around_it = ray.ObjectRef.nil()
    global_worker.core_worker.deserialize_and_register_object_ref(binary, nothing_around_it, owner, status)
    return ref


Watcher = Callable[[Any, str, Any, tuple[Any, ...], dict[str, Any], dict[str, Any]], None]


def watch_calls(made: Watcher) -> None:
    """From now on call `made(result, kind, target, args, kwargs, options)` after each call of a Ray task ("task") or of
    an actor's method ("method") that this process makes. `result` is what `.remote()` returned."""
    from ray.actor import ActorMethod
    from ray.remote_function import RemoteFunction

    def watching(inner: Any, kind: str) -> Any:
        def _remote(self: Any, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            result = inner(self, args=args, kwargs=kwargs, **options)
            made(result, kind, self, tuple(args or ()), dict(kwargs or {}), options)
            return result

        return _remote

    RemoteFunction._remote = watching(RemoteFunction._remote, "task")
    ActorMethod._remote = watching(ActorMethod._remote, "method")

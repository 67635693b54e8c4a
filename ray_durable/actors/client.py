"""The caller's end: finding the controller, and asking it in a way that survives its death."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_durable.actors import cluster
from ray_durable.actors.controller import CONTROLLER, Controller
from ray_durable.config import Settings
from ray_durable.errors import NotConnectedError

__all__ = ["Client"]

CALLS_AT_ONCE = 1_000_000


class Client:
    """A handle to one controller. Calls of it are repeated by Ray when the controller's process or node dies."""

    def __init__(self, handle: Any, namespace: str) -> None:
        self.handle = handle
        self.namespace = namespace

    @classmethod
    def start(cls, settings: Settings, *, takeover: bool = False, node: str | None = None) -> Client:
        """Get the cluster's controller, made now if there is none.

        It goes to `node`, if that can be, else to the head node, as that outlives the others."""
        heads = (found.id for found in cluster.nodes() if found.alive and found.is_head)
        wanted = node or next(heads, None)
        strategy = NodeAffinitySchedulingStrategy(wanted, soft=True) if wanted is not None else "DEFAULT"
        handle = (
            ray.remote(Controller)
            .options(
                name=CONTROLLER,
                namespace=settings.namespace,
                lifetime="detached",
                get_if_exists=True,
                num_cpus=0,
                max_restarts=-1,
                max_task_retries=-1,
                max_concurrency=CALLS_AT_ONCE,
                scheduling_strategy=strategy,
            )
            .remote(settings, takeover)
        )
        return cls(handle, settings.namespace)

    @classmethod
    def find(cls, namespace: str, what: str) -> Client:
        """The controller that runs already. Raises: NotConnectedError."""
        if not ray.is_initialized():
            raise NotConnectedError(what)
        try:
            return cls(ray.get_actor(CONTROLLER, namespace), namespace)
        except ValueError:
            raise NotConnectedError(what) from None

    def submit(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call the controller; returns an ObjectRef."""
        return getattr(self.handle, method).remote(*args, **kwargs)

    def submit_for(self, num_returns: int, method: str, *args: Any) -> Any:
        """Call a method of the controller that returns a tuple; returns an ObjectRef for each of its values."""
        return getattr(self.handle, method).options(num_returns=num_returns).remote(*args)

    def ask(self, method: str, *args: Any, timeout_s: float | None = None, **kwargs: Any) -> Any:
        """Call the controller and wait for its answer. Raises: what the method raises, as its own type."""
        try:
            return ray.get(self.submit(method, *args, **kwargs), timeout=timeout_s)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause or error) from None

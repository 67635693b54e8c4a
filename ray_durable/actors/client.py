"""The caller's end: finding the controller, and asking it in a way that survives its death."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_durable.actors import cluster
from ray_durable.actors.controller import CONTROLLER, Controller
from ray_durable.actors.refs import Call, Fetch, deadline, register
from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.compiler import durable, suspends
from ray_durable.config import Settings
from ray_durable.errors import NotConnectedError, RayDurableError
from ray_durable.operations import Request
from ray_durable.runner import Coroutine
from ray_durable.running import entered, is_inside

__all__ = ["Client", "suspended_ask"]

CALLS_AT_ONCE = 1_000_000
REMOVED_WITHIN_S = 10.0


class Client:
    """A handle to one controller. Calls of it are repeated by Ray when the controller's process or node dies."""

    def __init__(self, handle: Any, namespace: str) -> None:
        self.handle = handle
        self.namespace = namespace

    @classmethod
    def start(
        cls, settings: Settings, *, takeover: bool = False, node: str | None = None
    ) -> tuple[Client, dict[str, Any]]:
        """Get the cluster's controller, made now if there is none, and what it says of itself.

        It goes to `node`, if that can be, else to the head node, as that outlives the others. One that could not begin
        is removed, so that the next call can try otherwise. Raises: StorageInUseError, UnsafeStoreError, StoreError."""
        try:
            found = cls(ray.get_actor(CONTROLLER, settings.namespace), settings.namespace)
            return found, found.ask("ready")
        except ValueError:
            pass  # there is none
        except ray.exceptions.RayActorError:
            pass  # there was one
        except RayDurableError:
            found.remove()  # it failed for another caller, who is gone: what was asked for then does not count now
        made = cls(make_controller(settings, takeover=takeover, node=node), settings.namespace)
        try:
            return made, made.ask("ready")
        except RayDurableError:
            made.remove()
            raise

    def remove(self) -> None:
        """End a controller that could not begin; on return its name is free."""
        ray.kill(self.handle, no_restart=True)
        deadline = SYSTEM_CLOCK.monotonic() + REMOVED_WITHIN_S
        while SYSTEM_CLOCK.monotonic() < deadline:
            try:
                if ray.get_actor(CONTROLLER, self.namespace) != self.handle:
                    return
            except ValueError:
                return
            SYSTEM_CLOCK.sleep(0.02)

    @classmethod
    def find(cls, namespace: str, what: str) -> Client:
        """The controller that runs already. Raises: NotConnectedError."""
        if not ray.is_initialized():
            raise NotConnectedError(what)
        try:
            return cls(ray.get_actor(CONTROLLER, namespace), namespace)
        except ValueError:
            raise NotConnectedError(what) from None

    def submit(self, method: str, *args: Any, num_returns: int = 1, **kwargs: Any) -> Any:
        """Call the controller; returns an ObjectRef, or `num_returns` of them when the method returns a tuple."""
        call = getattr(self.handle, method).options(num_returns=num_returns).remote
        inside = entered.identity
        if not isinstance(inside, Coroutine):
            return call(*args, **kwargs)
        entered.identity = None  # not a call of an actor's method by the coroutine: it is noted as what it is
        try:
            made = call(*args, **kwargs)
        finally:
            entered.identity = inside
        refs = made if isinstance(made, list) else [made]
        options = {"num_returns": num_returns}
        register(inside, Call(refs[0].hex(), "ask", (self.namespace, method), args, kwargs, options, made=made), refs)
        return made

    def ask(self, method: str, *args: Any, timeout_s: float | None = None, **kwargs: Any) -> Any:
        """Call the controller and wait for its answer. Inside durable code it suspends (see `suspended_ask`).

        Raises: what the method raises, as its own type; RuntimeError in ordinary code that a coroutine calls."""
        if is_inside():
            raise RuntimeError(
                f"waiting for the controller ({method!r}) here would block the host that it may need: do this in the "
                "durable function itself, not in ordinary code that it calls"
            )
        try:
            return ray.get(self.submit(method, *args, **kwargs), timeout=timeout_s)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause or error) from None


def make_controller(settings: Settings, *, takeover: bool, node: str | None) -> Any:
    """The handle of a new controller, or of the one that another caller has made meanwhile."""
    heads = (found.id for found in cluster.nodes() if found.alive and found.is_head)
    wanted = node or next(heads, None)
    strategy = NodeAffinitySchedulingStrategy(wanted, soft=True) if wanted is not None else "DEFAULT"
    options = {
        "name": CONTROLLER,
        "namespace": settings.namespace,
        "lifetime": "detached",
        "get_if_exists": True,
        "num_cpus": 0,
        "memory": 1,  # Ray heeds a soft affinity only for an actor that asks for something
        "max_restarts": -1,
        "max_task_retries": -1,
        "max_concurrency": CALLS_AT_ONCE,
        "scheduling_strategy": strategy,
    }
    return ray.remote(Controller).options(**options).remote(settings, takeover)


@durable
def suspended_ask(
    client: Client, method: str, *args: Any, timeout_s: float | None = None, **kwargs: Any
) -> Generator[Request, Any, Any]:
    """`Client.ask` inside a coroutine: asked again after a crash, with the same arguments."""
    request = Fetch([client.submit(method, *args, **kwargs)], deadline(timeout_s))
    del client, method, args, timeout_s, kwargs
    outcomes = yield request
    succeeded, value = outcomes[0]
    if not succeeded:
        raise getattr(value, "cause", None) or value
    return value


suspends(Client.ask, suspended_ask)

"""`get_handle`: a coroutine by its name, from any driver at any time; and `list`, all of them."""

from __future__ import annotations

from typing import Any

from ray_durable.actors.transfer import STREAMING
from ray_durable.compiler import durable
from ray_durable.connection import connected
from ray_durable.decorator import DurableStream, stream_of
from ray_durable.senders import numbered

__all__ = ["DurableHandle", "get_handle", "list"]


class DurableHandle:
    """One coroutine, running or finished. Make it with `get_handle`."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.id: str = row["id"]
        self.name: str | None = row["name"]
        self.function: str = row["function"]
        self.kind: str = row["kind"]

    def __repr__(self) -> str:
        return f"<durable coroutine {self.name or self.id}: {self.function}>"

    def result(self) -> Any:
        """A `ray.ObjectRef` of its result."""
        return connected("result").submit("wait", self.id)

    @durable
    def stream(self) -> DurableStream:
        """What a generator yields, from the oldest value that is kept: the one that its reader asked for last, which
        that reader may have had. For a driver that goes on where another has ended; two at a time take each other's
        values away.

        Raises: TypeError when it is no generator."""
        if self.kind not in STREAMING:
            raise TypeError(f"{self!r} streams nothing, it is no generator: result() is a ref of what it returns")
        return stream_of(self.id)

    @durable
    def status(self) -> dict[str, Any]:
        """Its row: `state`, `host`, `node`, `epoch` and what it was started with."""
        row: dict[str, Any] = connected("status").ask("lookup", self.id)
        return row

    @durable
    def send(self, topic: str, value: Any = None) -> None:
        """Send a message; on return it is durable, and `receive(topic)` gets it exactly once. What one thread (or one
        task of a coroutine) sends arrives in that order; threads may share a handle, and it can be passed on.

        Raises: NoSuchCoroutineError when the coroutine has ended, CannotSaveError."""
        from ray_durable.checkpoint.codec import dumps_given

        payload = dumps_given(value, "message", self.function)
        sender, number = numbered()
        connected("send").ask("send", self.id, sender, number, topic, payload)

    @durable
    def inspect(self) -> Any:
        """Where it stands: each frame with function, file, line and locals, as readable values."""
        return connected("inspect").ask("inspect", self.id)

    @durable
    def migrate(self, node_id: str | None = None) -> bool:
        """Move it at its next yield point to the node whose id begins with `node_id`, or to the least loaded other one.

        Whether it went. Raises: NoSuchCoroutineError when there is no such node."""
        went: bool = connected("migrate").ask("migrate", self.id, node_id)
        return went

    @durable
    def cancel(self) -> bool:
        """Cancel it at its next yield point: its `finally` blocks run, and `ray.get` raises CoroutineCancelledError.

        False when it had ended already."""
        cancelled: bool = connected("cancel").ask("cancel", self.id)
        return cancelled


@durable
def get_handle(name: str, namespace: str | None = None) -> DurableHandle:
    """The coroutine of this name or id, also after the driver that started it is gone.

    Raises: NoSuchCoroutineError, NotConnectedError.
    Example: ray_durable.get_handle("order-42").send("approval", "yes")"""
    return DurableHandle(connected(f"get_handle({name!r})").ask("lookup", name, namespace))


@durable
def list() -> Any:
    """A row per coroutine that the controller knows, the oldest first."""
    return connected("list").ask("rows")

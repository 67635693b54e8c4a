"""A ref that a coroutine holds and did not make: one in a list that its caller gave it, say.

Once its value is here, that is saved, as of any other ref. Until then a checkpoint holds the ref as Ray hands refs on,
to borrow it again where the coroutine goes on: it is pending elsewhere, in the process that made the call. So such a
call is lost with that process, as everywhere in Ray, and with its cluster. Whoever asks for it then is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray_durable.actors import cluster
from ray_durable.errors import RefLostError

__all__ = ["Borrowed", "StillPending", "lend", "own_calls_may_be_lent"]


@dataclass(frozen=True, slots=True)
class Borrowed:
    """A pending ref in a checkpoint: of which cluster it is, and what Ray needs to borrow it."""

    cluster: str
    ref: str
    parts: tuple[Any, ...]

    def borrow(self) -> Any:
        """The ref, in this process. Raises: RefLostError in another cluster."""
        if cluster.cluster_id() != self.cluster:
            raise RefLostError(self.ref)
        return cluster.borrow_ref(self.parts)


class StillPending(TypeError):
    """A call of this process is not finished, and cannot be lent, as this process is not to be relied on."""

    def __init__(self, ref: Any) -> None:
        super().__init__(ref)
        self.ref = ref

    def __str__(self) -> str:
        return f"{self.ref!r} is of a call that this host has made, and is not ready: get its value first"


@dataclass(slots=True)
class Policy:
    """Whether calls that this process has made may be lent: not those of a host, which others outlive."""

    own_calls: bool = True


policy = Policy()


def own_calls_may_be_lent(allowed: bool) -> None:
    policy.own_calls = allowed


def lend(ref: Any) -> Borrowed:
    """What a checkpoint holds of a pending ref. Raises: StillPending for a host's own."""
    owner, parts = cluster.lend_ref(ref)
    if owner and not policy.own_calls:
        raise StillPending(ref)
    return Borrowed(cluster.cluster_id(), ref.hex(), parts)

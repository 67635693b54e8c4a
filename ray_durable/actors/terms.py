"""Who leads on this storage: one cluster at a time, one controller term at a time (PROTOCOL.md, rules 13 and 18).

A cluster claims `cluster/<n>`, a controller `controller/<n>`. While a cluster lives, its controller overwrites a
counter beside its claim; another cluster takes over only when that counter has stood still for a whole lease by its
own clock, or when it is told to. A cluster that finds a later claim has lost: it stops, and never seals back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from ray_durable.checkpoint.names import claim, claims
from ray_durable.checkpoint.stores import Store
from ray_durable.clock import Clock
from ray_durable.errors import NotFoundError, StorageInUseError

__all__ = ["Claim", "Standing", "beat", "lead_cluster", "next_term", "standing"]

CLUSTERS = "cluster/"
CONTROLLERS = "controller/"
LOOKS_PER_LEASE = 10


@dataclass(frozen=True, slots=True)
class Claim:
    """One cluster's claim to this storage."""

    number: int
    cluster: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What a cluster is on a storage: its leader, a newcomer, or one that was replaced."""

    ours: Claim | None
    last: Claim | None

    @property
    def leads(self) -> bool:
        return self.ours is not None and self.ours == self.last

    @property
    def replaced(self) -> bool:
        return self.ours is not None and self.ours != self.last


def standing(found: list[Claim], cluster: str) -> Standing:
    """Where `cluster` stands, given all claims in order."""
    ours = [one for one in found if one.cluster == cluster]
    return Standing(ours[-1] if ours else None, found[-1] if found else None)


def read_claims(store: Store) -> list[Claim]:
    return [Claim(number, json.loads(bytes(store.read(name)))["cluster"]) for number, name in claims(store, CLUSTERS)]


def counter_name(number: int) -> str:
    return f"alive/{number}"


def read_counter(store: Store, number: int) -> bytes:
    try:
        return bytes(store.read(counter_name(number)))
    except NotFoundError:
        return b""


def beat(store: Store, number: int, nonce: str) -> None:
    """Show that the cluster of this claim lives."""
    store.overwrite(counter_name(number), nonce.encode())


def lead_cluster(store: Store, cluster: str, storage: str, *, lease_s: float, takeover: bool, clock: Clock) -> int:
    """Make `cluster` the one that works on this storage; returns the number of its claim. Blocks for up to a lease when
    another one has worked here. Raises: StorageInUseError if that one lives, or has replaced this one."""
    now = standing(read_claims(store), cluster)
    if now.leads and now.ours is not None:
        return now.ours.number
    if now.replaced and now.last is not None:
        raise StorageInUseError(storage, now.last.cluster)
    if now.last is not None and not takeover:
        before = read_counter(store, now.last.number)
        for _ in range(LOOKS_PER_LEASE):
            clock.sleep(lease_s / LOOKS_PER_LEASE)
            if read_counter(store, now.last.number) != before:
                raise StorageInUseError(storage, now.last.cluster)
    number = claim(store, CLUSTERS, json.dumps({"cluster": cluster, "nonce": clock.unique()}).encode())
    beat(store, number, clock.unique())
    return number


def is_replaced(store: Store, number: int) -> bool:
    """Whether another cluster has claimed the storage after claim `number`."""
    return any(found > number for found, _ in claims(store, CLUSTERS))


def next_term(store: Store, clock: Clock) -> int:
    """The number of a new controller term, higher than all before it."""
    return claim(store, CONTROLLERS, json.dumps({"nonce": clock.unique()}).encode())

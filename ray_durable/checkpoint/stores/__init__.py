"""Where objects are kept: the contract of every store, opening one by its URL, and the test that it can be trusted.

A log is safe on a store that keeps one promise: of all creates of one name, at most one succeeds. Everything else a
store may do badly (fail, delay, lose the reply of a create that succeeded), and `fencing` copes. Stores know nothing of
records.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ray_durable.clock import SYSTEM_CLOCK, Clock
from ray_durable.errors import AlreadyExists, NotFoundError, StoreError, UnsafeStoreError

__all__ = ["AlreadyExists", "Listed", "NotFoundError", "Store", "check_name", "open_store", "probe"]

PROBE_WRITERS = 16
PROBE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, order=True)
class Listed:
    """One object as a listing shows it; `modified_s` is the store's own wall clock."""

    name: str
    size: int
    modified_s: float = 0.0


Listing = list[Listed]
Names = list[str]


class Store(ABC):
    """Objects by name. Names are `/`-separated parts; a name is created once, and read whole or by range.

    Every method is safe to call from several threads, and raises `StoreError` for what the store refuses.
    """

    url: str
    remote: bool = False
    """Whether a commit waits for a network: then several are kept in flight."""

    @abstractmethod
    def create(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Make an object that was not there; durable on return. Raises: AlreadyExists. After any other StoreError the
        object may be there or not: read it back."""

    @abstractmethod
    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """The object's bytes, or `length` of them from `start` (a negative one counts from the end). Raises:
        NotFoundError."""

    @abstractmethod
    def list(self, prefix: str) -> Listing:
        """All objects whose name begins with `prefix` (a whole folder: `logs/a/`), sorted by name. What a listing has
        shown is durable."""

    @abstractmethod
    def folders(self, prefix: str) -> Names:
        """The names of the folders right under the folder `prefix`, sorted."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""

    @abstractmethod
    def overwrite(self, name: str, data: bytes) -> None:
        """Make or replace an object. Only for liveness counters: nothing that must be fenced is written so."""

    def close(self) -> None:  # noqa: B027  (optional: most stores hold nothing)
        """Let go of connections and descriptors."""

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(url: str, **options: Any) -> Store:
    """Open the store that `url` names: a directory, `file://`, `memory://name`, `s3://`, `gs://`, `az://`.

    A cloud store takes credentials by the cloud's usual means; options in the query (`?endpoint=…&region=…`) or as
    keywords go before. A directory is made if it is not there. Raises: StoreError.
    Example: store = open_store("s3://bucket/prefix?region=eu-central-1")
    """
    scheme, _, rest = url.partition("://")
    if not _ or len(scheme) == 1:
        from ray_durable.checkpoint.stores.local import LocalStore

        return LocalStore(url)
    match scheme:
        case "file":
            from ray_durable.checkpoint.stores.local import LocalStore

            parts = urlsplit(url)
            if parts.netloc not in ("", "localhost"):
                raise StoreError("open", url, "a file URL names a path of this machine: file:///path")
            return LocalStore(unquote(parts.path))
        case "memory":
            from ray_durable.checkpoint.stores.memory import open_memory

            return open_memory(rest)
        case "s3" | "gs" | "az":
            from ray_durable.checkpoint.stores.remote import RemoteStore

            parts = urlsplit(url)
            return RemoteStore(scheme, parts.netloc, parts.path.strip("/"), {**dict(parse_qsl(parts.query)), **options})
    raise StoreError("open", url, "no such kind of store; give a directory, file://, memory://, s3://, gs:// or az://")


def check_name(name: str) -> str:
    """`name`, which must stay below the store's root. Raises: StoreError."""
    if not name or name[0] in "/." or name[-1] == "/" or "//" in name or "/." in name or "\0" in name:
        raise StoreError(
            "use", name, "not a name of an object: parts joined by '/', none empty or with a dot before it"
        )
    return name


def probe(store: Store, clock: Clock = SYSTEM_CLOCK, writers: int = PROBE_WRITERS, size: int = PROBE_BYTES) -> None:
    """Race `writers` creates of one name with large bodies, and refuse a store that lets two through.

    A store may fail here and there, as long as exactly one body is there in the end and nobody else was told that it
    won. Raises: UnsafeStoreError; StoreError when the store cannot be written to or read at all.
    """
    name = f"probe/{clock.unique()}"
    outcomes = race(lambda n: store.create(name, bytes([n]) * size), writers)
    winners = [n for n, outcome in enumerate(outcomes) if outcome is None]
    try:
        found = store.read(name)
    except NotFoundError:
        error = next((o for o in outcomes if o is not None), None)
        raise StoreError("probe", name, f"no create succeeded; one said: {error}") from error
    try:
        if len(winners) > 1:
            raise UnsafeStoreError("probe", name, f"{len(winners)} of {writers} racing creates succeeded")
        if len(found) != size or found != found[:1] * size or (winners and found[0] != winners[0]):
            raise UnsafeStoreError("probe", name, "what is stored is not what the winner of the race wrote")
        try:
            store.create(name, b"late")
        except AlreadyExists:
            pass
        else:
            raise UnsafeStoreError("probe", name, "a create of an object that was there succeeded")
        if name not in (listed.name for listed in store.list("probe/")):
            raise UnsafeStoreError("probe", name, "an object that was created is not listed")
    finally:
        store.delete(name)


def race(act: Callable[[int], None], runners: int) -> list[BaseException | None]:
    """Run `act(0..runners-1)` in threads that start at once; what each raised, None where nothing."""
    outcomes: list[BaseException | None] = [None] * runners
    barrier = threading.Barrier(runners)

    def run(n: int) -> None:
        barrier.wait()
        try:
            act(n)
        except StoreError as error:
            outcomes[n] = error

    threads = [threading.Thread(target=run, args=(n,), name=f"probe-{n}") for n in range(runners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes

"""The store in memory: for tests and for trying things out. It serves one process only and is gone with it."""

from __future__ import annotations

import threading

from ray_durable.checkpoint.stores import Listed, Listing, Names, Store, check_name
from ray_durable.errors import AlreadyExists, NotFoundError


class MemoryStore(Store):
    """Objects in a dictionary. `memory://name` opens the one of that name in this process."""

    def __init__(self, url: str = "memory://") -> None:
        self.url = url
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()

    def create(self, name: str, data: bytes | bytearray | memoryview) -> None:
        with self.lock:
            if check_name(name) in self.objects:
                raise AlreadyExists("create", name)
            self.objects[name] = bytes(data)

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        found = self.objects.get(check_name(name))
        if found is None:
            raise NotFoundError("read", name)
        if start < 0:
            start = max(0, len(found) + start)
        return found[start:] if length is None else found[start : start + length]

    def list(self, prefix: str) -> Listing:
        with self.lock:
            return [Listed(name, len(self.objects[name])) for name in self.names(prefix)]

    def folders(self, prefix: str) -> Names:
        with self.lock:
            below = [name[len(prefix) :].partition("/") for name in self.names(prefix)]
        return sorted({folder for folder, slash, _ in below if slash})

    def names(self, prefix: str) -> Names:
        return sorted([name for name in self.objects if name.startswith(prefix)])

    def delete(self, name: str) -> None:
        with self.lock:
            self.objects.pop(check_name(name), None)

    def overwrite(self, name: str, data: bytes) -> None:
        with self.lock:
            self.objects[check_name(name)] = bytes(data)


opened: dict[str, MemoryStore] = {}
opened_lock = threading.Lock()


def open_memory(name: str) -> MemoryStore:
    """The store of that name in this process; an unnamed one is new each time."""
    if not name:
        return MemoryStore()
    with opened_lock:
        return opened.setdefault(name, MemoryStore(f"memory://{name}"))

"""Stores that fail on purpose, for the tests of what is built on stores."""

from __future__ import annotations

from collections.abc import Callable

from ray_durable.checkpoint.stores import Store
from ray_durable.checkpoint.stores.memory import MemoryStore
from ray_durable.errors import StoreError


class Faulty(Store):
    """A store whose calls first ask `fault(operation, name)`: None goes through, "before" fails before the effect,
    "after" fails after it (a lost reply), a callable is called first."""

    def __init__(self, inner: Store, fault: Callable[[str, str], object]) -> None:
        self.inner, self.fault = inner, fault
        self.url, self.remote = inner.url, inner.remote
        self.calls: list[tuple[str, str]] = []

    def act(self, operation, name, run):
        self.calls.append((operation, name))
        fault = self.fault(operation, name)
        if callable(fault):
            fault()
        if fault == "before":
            raise StoreError(operation, name, "cut before")
        result = run()
        if fault == "after":
            raise StoreError(operation, name, "cut after")
        return result

    def create(self, name, data):
        return self.act("create", name, lambda: self.inner.create(name, data))

    def read(self, name, start=0, length=None):
        return self.act("read", name, lambda: self.inner.read(name, start, length))

    def list(self, prefix):
        return self.act("list", prefix, lambda: self.inner.list(prefix))

    def folders(self, prefix):
        return self.act("list", prefix, lambda: self.inner.folders(prefix))

    def delete(self, name):
        return self.act("delete", name, lambda: self.inner.delete(name))

    def overwrite(self, name, data):
        return self.act("overwrite", name, lambda: self.inner.overwrite(name, data))


class Measured(MemoryStore):
    """Knows the most that was ever in it."""

    def __init__(self):
        super().__init__()
        self.bytes = self.most = 0

    def create(self, name, data):
        super().create(name, data)
        self.bytes += len(data)
        self.most = max(self.most, self.bytes)

    def delete(self, name):
        self.bytes -= len(self.objects.get(name, b""))
        super().delete(name)

    def mark(self):
        """The most since the last mark."""
        most, self.most = self.most, self.bytes
        return most

"""A store whose requests are counted and timed by operation. Costs 1.2 µs a request; a local create takes 320 and more.

What a request means is not changed: the same results, the same errors. A create that meets an object, and a read that
finds none, are answers, not failures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ray_durable.checkpoint.stores import Listed, Store
from ray_durable.clock import SYSTEM_CLOCK, Clock
from ray_durable.errors import AlreadyExists, NotFoundError
from ray_durable.metrics import Metrics

__all__ = ["MeteredStore"]

T = TypeVar("T")


class MeteredStore(Store):
    """`inner`, with its requests counted in `metrics`.

    Example: store = MeteredStore(open_store(url), metrics)
    """

    def __init__(self, inner: Store, metrics: Metrics, clock: Clock = SYSTEM_CLOCK) -> None:
        self.inner, self.metrics, self.clock = inner, metrics, clock
        self.url, self.remote = inner.url, inner.remote

    def measured(self, operation: str, request: Callable[..., T], *arguments: Any) -> T:
        began = self.clock.monotonic()
        try:
            return request(*arguments)
        except (AlreadyExists, NotFoundError):
            raise
        except BaseException:
            self.metrics.store_errors.add(1, operation)
            raise
        finally:
            self.metrics.store_requests.add(1, operation)
            self.metrics.store_time.observe(self.clock.monotonic() - began, 1, operation)

    def create(self, name: str, data: bytes | bytearray | memoryview) -> None:
        self.measured("create", self.inner.create, name, data)

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        return self.measured("read", self.inner.read, name, start, length)

    def folders(self, prefix: str) -> list[str]:
        return self.measured("list", self.inner.folders, prefix)

    def list(self, prefix: str) -> list[Listed]:
        return self.measured("list", self.inner.list, prefix)

    def delete(self, name: str) -> None:
        self.measured("delete", self.inner.delete, name)

    def overwrite(self, name: str, data: bytes) -> None:
        self.measured("overwrite", self.inner.overwrite, name, data)

    def close(self) -> None:
        self.inner.close()

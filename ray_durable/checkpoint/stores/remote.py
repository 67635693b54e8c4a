"""s3, gs and az as a store, through obstore.

A create is a conditional put, and is never repeated in here: whoever creates reads back what stands there, and only he
can tell his own object from another's. Everything else is repeated a few times, with short jittered pauses; all is
counted.
Calls are blocking: from a small thread pool one costs 3 µs of CPU, 60 µs through asyncio.

Options, in the URL's query or as keywords: `endpoint`, `region`, `timeout_s` (default 5), `retries` (default 3), and
any option of obstore's for that cloud (`account_name`, `conditional_put`, …). Credentials come by the cloud's usual
means: environment, instance or workload identity.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import obstore
import obstore.store
from obstore import exceptions as failures

from ray_durable.checkpoint.stores import Listed, Listing, Names, Store, check_name
from ray_durable.clock import SYSTEM_CLOCK, Clock
from ray_durable.errors import AlreadyExists, NotFoundError, StoreError, StoreFullError
from ray_durable.metrics import NO_METRICS, Metrics

T = TypeVar("T")
KINDS = {"s3": obstore.store.S3Store, "gs": obstore.store.GCSStore, "az": obstore.store.AzureStore}
NO_SUCH_STORE = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
FINAL = (
    failures.PermissionDeniedError,
    failures.UnauthenticatedError,
    failures.NotSupportedError,
    failures.InvalidPathError,
)
PAUSE_S = 0.05


class RemoteStore(Store):
    """Objects of one bucket or container, below `prefix`. Raises: StoreError for options that its cloud lacks."""

    remote = True

    def __init__(
        self,
        scheme: str,
        bucket: str,
        prefix: str,
        options: dict[str, Any],
        clock: Clock = SYSTEM_CLOCK,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        self.url = f"{scheme}://{bucket}/{prefix}"
        self.prefix = f"{prefix}/" if prefix else ""
        self.clock, self.metrics = clock, metrics
        options = dict(options)
        self.retries = int(options.pop("retries", 3))
        timeout_s = float(options.pop("timeout_s", 5))
        client: dict[str, Any] = {
            "timeout": timedelta(seconds=timeout_s),
            "connect_timeout": timedelta(seconds=timeout_s),
        }
        if str(options.get("endpoint", "")).startswith("http://"):
            client["allow_http"] = True
        if scheme == "gs" and "endpoint" in options:
            options["base_url"] = options.pop("endpoint")  # Google's name for it
        try:
            # Its own retries would repeat for minutes, out of sight: none, and ours.
            self.inner: Any = KINDS[scheme](
                bucket,
                client_options=client,
                retry_config={"max_retries": 0},
                **{k: str(v) for k, v in options.items()},
            )
        except (failures.BaseError, ValueError, TypeError) as error:
            raise StoreError("open", self.url, one_line(error)) from error

    def create(self, name: str, data: bytes | bytearray | memoryview) -> None:
        path = self.prefix + check_name(name)
        with self.counted("create"):
            try:
                obstore.put(self.inner, path, bytes(data), mode="create", use_multipart=False)
            except (failures.AlreadyExistsError, failures.PreconditionError):
                raise AlreadyExists("create", name) from None
            except (failures.BaseError, OSError) as error:
                raise failure("create", name, error) from error

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        path = self.prefix + check_name(name)

        def get() -> bytes:
            if start == 0 and length is None:
                return bytes(obstore.get(self.inner, path).bytes())
            size = int(obstore.head(self.inner, path)["size"])
            first = max(0, size + start) if start < 0 else min(start, size)
            last = size if length is None else min(size, first + length)
            return bytes(obstore.get_range(self.inner, path, start=first, end=last)) if last > first else b""

        return self.repeated("read", name, get)

    def list(self, prefix: str) -> Listing:
        folder = self.prefix + prefix.rpartition("/")[0]

        def get() -> Listing:
            found = [
                Listed(each["path"].removeprefix(self.prefix), each["size"], each["last_modified"].timestamp())
                for page in obstore.list(self.inner, folder or None, chunk_size=1000)
                for each in page
            ]
            return sorted(listed for listed in found if listed.name.startswith(prefix))

        return self.repeated("list", prefix, get)

    def folders(self, prefix: str) -> Names:
        def get() -> Names:
            found = obstore.list_with_delimiter(self.inner, (self.prefix + prefix).rstrip("/") or None)
            return sorted(path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"])

        return self.repeated("list", prefix, get)

    def delete(self, name: str) -> None:
        path = self.prefix + check_name(name)

        def act() -> None:
            with contextlib.suppress(failures.NotFoundError, FileNotFoundError):
                obstore.delete(self.inner, path)

        self.repeated("delete", name, act)

    def overwrite(self, name: str, data: bytes) -> None:
        path = self.prefix + check_name(name)
        self.repeated("overwrite", name, lambda: obstore.put(self.inner, path, data, use_multipart=False))

    def repeated(self, operation: str, name: str, act: Callable[[], T]) -> T:
        """`act()`, a few times if it fails in a passing way."""
        for retry in range(self.retries + 1):
            with self.counted(operation):
                try:
                    return act()
                except (failures.BaseError, OSError) as error:
                    refused = failure(operation, name, error)
                    if isinstance(refused, NotFoundError) or isinstance(error, FINAL) or retry == self.retries:
                        raise refused from error
            self.metrics.retries.add(1, "store")
            self.clock.sleep(PAUSE_S * 2**retry * (0.5 + self.clock.random()))
        raise AssertionError("the last retry returns or raises")

    @contextlib.contextmanager
    def counted(self, operation: str) -> Any:
        began = self.clock.monotonic()
        self.metrics.store_requests.add(1, operation)
        try:
            yield
        except (AlreadyExists, NotFoundError):
            raise
        except (StoreError, failures.BaseError, OSError):
            self.metrics.store_errors.add(1, operation)
            raise
        finally:
            self.metrics.store_time.observe(self.clock.monotonic() - began, 1, operation)


def failure(operation: str, name: str, error: Exception) -> StoreError:
    """Our error for one of obstore's."""
    text = one_line(error)
    if isinstance(error, failures.NotFoundError | FileNotFoundError):
        if operation == "read" and not any(sign in text for sign in NO_SUCH_STORE):
            return NotFoundError(operation, name)
        return StoreError(operation, name, text)
    if isinstance(error, failures.PermissionDeniedError | failures.UnauthenticatedError):
        return StoreFullError(operation, name, text)
    return StoreError(operation, name, text)


def one_line(error: Exception) -> str:
    """What an error of obstore's says, without its debug print of sources."""
    text = " ".join(str(error).split("Debug source:")[0].split())
    return text[:400] or type(error).__name__

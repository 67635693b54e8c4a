"""`init` and `shutdown`: from a storage URL to a controller that runs."""

from __future__ import annotations

import os
import threading
from typing import Any

from ray_durable.config import Settings
from ray_durable.errors import SettingError

__all__ = ["connected", "init", "shutdown"]


class Connection:
    """This process's client, once it has one."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.client: Any = None
        self.settings: Settings | None = None


connection = Connection()


def init(
    storage: str | os.PathLike[str] | None = None,
    *,
    takeover: bool = False,
    controller_node: str | None = None,
    ray_init: dict[str, Any] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Connect this process to the cluster's controller, which is made now if there is none, and go on with every
    unfinished coroutine in the storage.

    `storage`: a directory, or a `file://`, `s3://`, `gs://`, `az://` or `memory://` URL; default
    `RAY_DURABLE_STORAGE`, else a directory in the user's data folder. `takeover`: do not wait for another cluster
    on this storage to show that it is dead. `controller_node`: id of the node that the controller prefers, default
    the head. `ray_init`: passed on to `ray.init` when Ray is not connected yet. Every setting of
    `ray_durable.config` may be given by its name. When a controller runs already, its settings stay in force; a
    `storage` that is not its own is refused.
    Returns `term`, `storage`, and `metrics`, the address of the controller's `/metrics`.
    Raises: SettingError, StorageInUseError, UnsafeStoreError, StoreError.
    Example: ray_durable.init("s3://bucket/prefix", lease_s=5)"""
    import ray

    from ray_durable import operations
    from ray_durable.actors import refs
    from ray_durable.actors.client import Client

    if storage is not None:
        settings["storage"] = located(storage)
    loaded = Settings.load(**settings)
    if not ray.is_initialized():
        ray.init(**{"ignore_reinit_error": True, **(ray_init or {})})
    operations.install()
    refs.install()
    with connection.lock:
        client, ready = Client.start(loaded, takeover=takeover, node=controller_node)
        if storage is not None and directory_of(loaded.storage) != directory_of(ready["storage"]):
            raise SettingError("storage", loaded.storage, f"this cluster stores in {ready['storage']!r} already")
        connection.client, connection.settings = client, loaded
    return ready


def located(storage: Any) -> Any:
    """A directory by its full path, as other processes have other working directories; a URL as it is."""
    if storage == "":
        raise SettingError("storage", storage, "give a directory or a URL")
    if isinstance(storage, os.PathLike) or (isinstance(storage, str) and "://" not in storage):
        return os.path.abspath(os.path.expanduser(storage))
    return storage


def directory_of(storage: str) -> str:
    return os.path.normpath(storage.removeprefix("file://")) if storage.startswith(("/", "file://")) else storage


def shutdown() -> None:
    """Forget the connection. Coroutines, hosts and the controller go on; `ray.shutdown()` ends a local cluster."""
    with connection.lock:
        connection.client = None


def connected(what: str) -> Any:
    """This process's client; in a process that has none, that of the cluster's controller.

    Raises: NotConnectedError, naming `what` needs it."""
    with connection.lock:
        if connection.client is None:
            from ray_durable.actors.client import Client

            connection.client = Client.find(Settings.load().namespace, what)
        return connection.client

"""The store that the settings name, as every process of a cluster opens it: counted, with their limits and keys."""

from __future__ import annotations

from ray_durable.checkpoint.stores import Store, open_store
from ray_durable.checkpoint.stores.metered import MeteredStore
from ray_durable.config import Settings
from ray_durable.metrics import Metrics

__all__ = ["open_metered"]


def open_metered(settings: Settings, metrics: Metrics) -> Store:
    """Open `settings.storage`. Raises: StoreError."""
    options = {"timeout_s": settings.store_timeout_s, "retries": settings.store_retries}
    return MeteredStore(open_store(settings.storage, **options), metrics)

"""Code beside the checkpoints: what frames refer to, stored once, before the first checkpoint that needs it."""

from __future__ import annotations

import hashlib

from ray_durable.checkpoint.stores import Store
from ray_durable.compiler.identity import exported, set_provider
from ray_durable.errors import AlreadyExists, NotFoundError

__all__ = ["CodeShelf"]


def code_name(key: str) -> str:
    return f"code/{hashlib.blake2b(key.encode(), digest_size=20).hexdigest()}"


class CodeShelf:
    """Stores this process's exported code, and gives frames code that the process does not have."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.shelved = 0
        set_provider(self.fetch)

    def shelve(self) -> None:
        """Store what was exported since the last call. Blocks; it is rare: once per function and fingerprint."""
        found = exported()
        if len(found) == self.shelved:
            return
        for key, code in list(found.items())[self.shelved :]:
            try:
                self.store.create(code_name(key), code)
            except AlreadyExists:
                pass  # the same code: its name is its fingerprint
            self.shelved += 1

    def fetch(self, key: str) -> bytes | None:
        """The code that was stored under a key of `exported()`, or None."""
        try:
            return bytes(self.store.read(code_name(key)))
        except NotFoundError:
            return None

"""Code beside the checkpoints: what frames refer to, stored once, before the first checkpoint that needs it.

It is run when it is loaded, so it is wrapped as every object of a log is: checked by its digest, and by its signature
and decrypted when there are keys.
"""

from __future__ import annotations

import hashlib
import os

from ray_durable.checkpoint.footer import Form, unwrap, wrap
from ray_durable.checkpoint.keys import NO_KEYS, Keys
from ray_durable.checkpoint.stores import Store
from ray_durable.compiler.identity import exported, set_provider
from ray_durable.errors import AlreadyExists, DamagedError, NotFoundError

__all__ = ["CodeShelf"]

WRITER = "code"


def code_name(key: str) -> str:
    return f"code/{hashlib.blake2b(key.encode(), digest_size=20).hexdigest()}"


class CodeShelf:
    """Stores this process's exported code, and gives frames code that the process does not have."""

    def __init__(self, store: Store, keys: Keys = NO_KEYS) -> None:
        self.store, self.keys = store, keys
        self.shelved = 0
        set_provider(self.fetch)

    def shelve(self) -> None:
        """Store what was exported since the last call. Blocks; it is rare: once per function and fingerprint."""
        found = exported()
        if len(found) == self.shelved:
            return
        for key, code in list(found.items())[self.shelved :]:
            try:
                self.store.create(code_name(key), wrap(WRITER, 0, os.urandom(16), code, Form.CODE, self.keys))
            except AlreadyExists:
                pass  # the same code: its name is its fingerprint
            self.shelved += 1

    def fetch(self, key: str) -> bytes | None:
        """The code that was stored under a key of `exported()`, or None. Raises: DamagedError."""
        name = code_name(key)
        try:
            footer, code = unwrap(name, self.store.read(name), self.keys)
        except NotFoundError:
            return None
        if footer.form is not Form.CODE:
            raise DamagedError("read", name, "it is not code", 0)
        return bytes(code)

"""Ray's object store in virtual time: an object is there for as long as the process that owns it.

What coroutines do with references is the real `refs`; only Ray's own functions are these. So a frame that held a
reference as it is would have nothing to go on with after its host has died (rule 17).
"""

from __future__ import annotations

import contextlib
import copyreg
import types
from unittest.mock import patch

import ray

from ray_durable.actors import cluster, refs

TASK_S = 0.15

refs.install()


class WorldRef:
    """In the place of `ray.ObjectRef`."""

    def __init__(self, objects, key, owner):
        self.objects, self.key, self.owner = objects, key, owner

    def hex(self):
        return self.key

    def binary(self):
        return self.key.encode()

    def there(self):
        return self.objects.loop.time() >= self.objects.values[self.key][0]

    def value(self):
        if self.owner is not None and not self.owner.alive:
            raise ray.exceptions.OwnerDiedError(self.key, "", "")
        return self.objects.values[self.key][1]


class Doubled:
    """A Ray task's function."""

    def remote(self, number):
        return self._remote((number,), {})

    def _remote(self, args, kwargs, **options):
        ref = WorldObjects.current.make(2 * args[0], WorldObjects.current.dice.expovariate(1 / TASK_S))
        refs.note_call(ref, "task", self, args, kwargs, options)
        return ref

    def __reduce__(self):
        return "doubled"


doubled = Doubled()


class WorldObjects:
    """All objects of one world. `here`: the process whose code runs just now; None: a client's, which always lives."""

    current = None

    def __init__(self, loop, dice):
        self.loop, self.dice = loop, dice
        self.values, self.refs, self.here = {}, {}, None

    def make(self, value, after_s=0.0):
        key = f"{self.dice.getrandbits(64):016x}"
        self.values[key] = self.loop.time() + after_s, value
        self.refs[key] = WorldRef(self, key, self.here)
        return self.refs[key]

    def inside(self, process, act):
        """`act`, as what that process does."""

        def acting(*args, **kwargs):
            before, self.here = self.here, process
            try:
                return act(*args, **kwargs)
            finally:
                self.here = before

        return acting

    def on_completed(self, ref, done):
        at, _ = self.values[ref.key]

        def completed():
            try:
                value, error = ref.value(), None
            except ray.exceptions.OwnerDiedError as lost:
                value, error = None, lost
            done(value, error)

        self.loop.call_later(max(0.0, at - self.loop.time()) + self.dice.expovariate(1 / 0.01), completed)

    def wait(self, waiting, *, num_returns=1, timeout=None):
        ready = [ref for ref in waiting if ref.there()]
        return ready, [ref for ref in waiting if ref not in ready]

    @classmethod
    def find(cls, key):
        return cls.current.refs[key]

    @contextlib.contextmanager
    def in_use(self):
        """Ray's functions, as `refs` knows them, are this store's."""
        seams = types.SimpleNamespace(
            ObjectRef=WorldRef, get=WorldRef.value, wait=self.wait, put=self.make, exceptions=ray.exceptions
        )
        copyreg.pickle(WorldRef, lambda ref: refs.reduce_ref(ref))
        with (
            patch.object(refs, "ray", seams),
            patch.object(cluster, "on_completed", self.on_completed),
            patch.object(cluster, "is_here", WorldRef.there),
            patch.object(cluster, "value_of", WorldRef.value),
            patch.object(WorldObjects, "current", self),
        ):
            yield

"""A store as bad as a real one may be: slow, failing before or after the effect, late, doubled, and stale in its lists.

What it keeps is the one promise that logs need: of all creates of one name while it is there, one succeeds.
"""

from __future__ import annotations

from ray_durable.checkpoint.stores import Listed, Store, check_name
from ray_durable.errors import AlreadyExists, NotFoundError, StoreError


class Bucket:
    """The objects, which outlive every process. `since`: when each was made."""

    def __init__(self):
        self.objects = {}
        self.since = {}

    def create(self, world, name, data):
        if name in self.objects:
            raise AlreadyExists("create", name)
        self.objects[name] = data
        self.since[name] = world.now


class Lossless:
    """Chances of each fault, per request."""

    before = after = late = double = stale = slow = 0.0
    delay_s = 0.005


class Lossy(Lossless):
    before, after, late, double, stale, slow = 0.03, 0.03, 0.02, 0.02, 0.05, 0.1
    delay_s = 0.03


class WorldStore(Store):
    """One process's way to the bucket."""

    url = "world://"
    remote = False

    def __init__(self, world, process, bucket, faults):
        self.world, self.process, self.bucket, self.faults = world, process, bucket, faults

    def ask(self, operation, name, effect):
        world, faults = self.world, self.faults()
        slowly = 15 if operation == "create" and world.chance(faults.slow) else 1  # so that later ones overtake it
        world.sleep(slowly * world.random.expovariate(1 / faults.delay_s))
        if world.chance(faults.before):
            world.note("store failed before")
            raise StoreError(operation, name, "lost on the way there")
        if operation == "create" and world.chance(faults.late):
            self.later(effect)
            world.note("store put late")
            raise StoreError(operation, name, "timed out")
        try:
            result = effect()
        finally:
            if operation == "create" and world.chance(faults.double):
                self.later(effect)
                world.note("store put doubled")
            slowly = 15 if operation == "create" and world.chance(faults.slow) else 1  # so that later ones overtake it
        world.sleep(slowly * world.random.expovariate(1 / faults.delay_s))
        if world.chance(faults.after):
            world.note("store lost a reply")
            raise StoreError(operation, name, "lost on the way back")
        return result

    def later(self, effect):
        """The effect happens once more, or at last, some time from now; the network needs no process for that."""

        def happen():
            try:
                effect()
            except StoreError:
                pass

        self.world.push(self.world.random.expovariate(1 / 2.0), self.world.network, happen)

    def create(self, name, data):
        body = bytes(data)
        self.ask("create", name, lambda: self.bucket.create(self.world, check_name(name), body))

    def read(self, name, start=0, length=None):
        def effect():
            if name not in self.bucket.objects:
                raise NotFoundError("read", name)
            found = self.bucket.objects[name]
            first = max(0, len(found) + start) if start < 0 else start
            return found[first:] if length is None else found[first : first + length]

        return self.ask("read", name, effect)

    def list(self, prefix):
        def effect():
            hidden = self.world.now - (0.2 if self.world.chance(self.faults().stale) else 0)
            return sorted(
                Listed(name, len(body), self.bucket.since[name])
                for name, body in self.bucket.objects.items()
                # A listing may lag behind new segments; nothing real lags behind a base and shows its deletions.
                if name.startswith(prefix) and (self.bucket.since[name] <= hidden or not name[-16:].isdecimal())
            )

        return self.ask("list", prefix, effect)

    def folders(self, prefix):
        def effect():
            below = [name.removeprefix(prefix) for name in self.bucket.objects if name.startswith(prefix)]
            return sorted({name.split("/")[0] for name in below if "/" in name})

        return self.ask("list", prefix, effect)

    def delete(self, name):
        self.ask("delete", name, lambda: self.bucket.objects.pop(name, None))

    def overwrite(self, name, data):
        def effect():
            self.bucket.objects[name] = data
            self.bucket.since[name] = self.world.now

        self.ask("overwrite", name, effect)

import os
import stat
import threading

import pytest

from ray_durable.checkpoint.stores import Listed, open_store, probe
from ray_durable.checkpoint.stores.local import LocalStore
from ray_durable.checkpoint.stores.memory import MemoryStore
from ray_durable.errors import AlreadyExists, StoreError, StoreFullError, UnsafeStoreError
from tests.checkpoint.store_contract import StoreContract
from tests.checkpoint.stores import Faulty


class TestStores(StoreContract):
    pass


class Lax(MemoryStore):
    """Lets a create replace what is there, as a store without conditional puts does."""

    def create(self, name, data):
        self.overwrite(name, data)


class Racy(MemoryStore):
    """Checks and puts in two steps."""

    def create(self, name, data):
        if name in self.objects:
            raise AlreadyExists("create", name)
        threading.Event().wait(0.001)  # others run meanwhile
        self.objects[name] = bytes(data)


@pytest.mark.parametrize("kind", [Lax, Racy])
def test_the_probe_refuses_a_store_that_lets_two_creates_through(kind):
    with pytest.raises(UnsafeStoreError):
        probe(kind())


def test_the_probe_accepts_a_store_that_loses_replies():
    probe(Faulty(MemoryStore(), lambda operation, name: "after" if operation == "create" else None))


def test_the_probe_says_why_a_store_cannot_be_written_to():
    with pytest.raises(StoreError, match="cut before"):
        probe(Faulty(MemoryStore(), lambda operation, name: "before" if operation == "create" else None))


def test_one_url_names_each_kind_of_store(tmp_path):
    for url in (str(tmp_path / "a"), f"file://{tmp_path}/b%20c"):
        with open_store(url) as store:
            store.create("x", b"1")
    assert (tmp_path / "b c" / "x").read_bytes() == b"1"
    assert open_store("memory://one") is open_store("memory://one")
    assert open_store("memory://") is not open_store("memory://")
    for url in ("ftp://host/x", "file://elsewhere/x"):
        with pytest.raises(StoreError):
            open_store(url)


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/below"):
        open_store(str(tmp_path / "file" / "below"))


def test_a_failed_create_leaves_nothing_behind(tmp_path):
    class Full:
        def __getattr__(self, name):
            return getattr(os, name)

        def write(self, file, data):
            os.write(file, bytes(data)[:10])
            raise OSError(28, "No space left on device")

    for unnamed in (True, False):
        store = LocalStore(tmp_path / str(unnamed), system=Full())
        store.unnamed_files = unnamed and store.unnamed_files
        with pytest.raises(StoreFullError, match="No space left"):
            store.create("a/b", b"x" * 100)
        assert store.list("") == []
        assert [name for _, _, files in os.walk(store.path) for name in files] == []


def test_short_writes_are_finished(tmp_path):
    class Slow:
        def __getattr__(self, name):
            return getattr(os, name)

        def write(self, file, data):
            return os.write(file, bytes(data)[:7])

    store = LocalStore(tmp_path, system=Slow())
    store.create("a", bytes(range(256)))
    assert store.read("a") == bytes(range(256))


def test_what_is_not_ours_is_not_listed(tmp_path):
    store = LocalStore(tmp_path)
    store.create("logs/a/1", b"1")
    (tmp_path / "logs" / ".nfs000").write_text("")
    (tmp_path / ".tmp").mkdir()
    assert [each.name for each in store.list("")] == ["logs/a/1"]
    assert isinstance(store.list("")[0], Listed)
    assert store.list("")[0].modified_s > 1e9


def test_a_name_whose_directory_was_not_synced_is_not_read_before_it_is(tmp_path):
    class Failing:
        broken = False

        def __getattr__(self, name):
            return getattr(os, name)

        def fsync(self, file):
            if self.broken:
                raise OSError(5, "Input/output error")
            os.fsync(file)

    store = LocalStore(tmp_path, system=(system := Failing()))
    store.create("logs/w/0", b"x")
    system.broken = True
    with pytest.raises(StoreError):
        store.create("logs/w/1", b"x")
    with pytest.raises(StoreError):
        store.read("logs/w/1")
    system.broken = False
    assert store.read("logs/w/1") == b"x"


def test_many_folders_do_not_use_up_descriptors(tmp_path):
    store = LocalStore(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for n in range(300):
        store.create(f"logs/{n}/0", b"x")
    assert len(os.listdir("/proc/self/fd")) - before <= 2 * 65  # with each, a file for what comes next
    store.close()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_objects_are_readable_by_the_group_as_the_umask_says(tmp_path):
    store = LocalStore(tmp_path)
    store.create("a", b"")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) & 0o400

"""SIGKILL at every system call of every sequence, and a power cut at every one: nothing acknowledged is lost."""

import os
import subprocess
import sys
import threading

import pytest

from ray_durable.checkpoint.stores.local import LocalStore
from ray_durable.checkpoint.stores.memory import MemoryStore
from tests.checkpoint.scenarios import SCENARIOS, check
from tests.checkpoint.servers import REPOSITORY

POINTS_AT_LEAST = {"commits": 35, "sealing": 25, "compaction": 90, "retirement": 35}


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("scenario", "named"), [*((each, "unnamed") for each in SCENARIOS), ("commits", "named")])
def test_a_kill_at_any_system_call_loses_nothing(scenario, named, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.checkpoint.crash_driver", scenario, str(tmp_path), named],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) >= POINTS_AT_LEAST[scenario]


class ForgetfulDisk:
    """`os`, and beside it what would be left after a power cut: data only once it is synced, names only once their
    folder is. `on_call` is asked after every call."""

    def __init__(self, on_call):
        self.on_call = on_call
        self.lock = threading.RLock()
        self.files = {}  # descriptor -> inode
        self.now = {}  # path -> inode
        self.durable = {}  # path -> inode or None for a removal; applied in the order of syncs
        self.pending = []  # (folder, path, inode or None)

    def __getattr__(self, name):
        act = getattr(os, name)
        note = getattr(type(self), f"note_{name}", None)

        def call(*args, **kwargs):
            result = act(*args, **kwargs)
            with self.lock:
                if note is not None:
                    note(self, result, *args, **kwargs)
                self.on_call(self)
            return result

        return call

    def note_open(self, file, path, flags, mode=0o777, dir_fd=None):
        self.files[file] = {"data": b"", "synced": b""}
        if not flags & os.O_TMPFILE == os.O_TMPFILE:
            self.name(path, self.files[file])

    def note_write(self, written, file, data):
        self.files[file]["data"] += bytes(memoryview(data)[:written])

    def note_fdatasync(self, _, file):
        self.files[file]["synced"] = self.files[file]["data"]

    def note_link(self, _, source, name, dst_dir_fd=None, **__):
        path = os.path.join(os.readlink(f"/proc/self/fd/{dst_dir_fd}"), name)
        inode = self.files[int(source.rpartition("/")[2])] if source.startswith("/proc/") else self.now[source]
        self.name(path, inode)

    def note_unlink(self, _, path):
        self.name(path, None)

    def note_rename(self, _, source, path):
        self.name(path, self.now[source])
        self.name(source, None)

    def note_mkdir(self, _, path, mode):
        self.name(path, "folder")

    def name(self, path, inode):
        self.now[path] = inode
        self.pending.append((os.path.dirname(path), path, inode))

    def note_fsync(self, _, file):
        folder = os.readlink(f"/proc/self/fd/{file}")
        for _, path, inode in [each for each in self.pending if each[0] == folder]:
            self.durable[path] = inode
        self.pending = [each for each in self.pending if each[0] != folder]

    def after_power_cut(self, root, lucky):
        """What is left: of what was not synced nothing, or, if `lucky`, all names (with the data that was synced)."""
        names = dict(self.durable)
        if lucky:
            for _, path, inode in self.pending:
                names[path] = inode
        objects = {}
        for path, inode in names.items():
            if inode in (None, "folder") or "/.tmp/" in path:
                continue
            folder = os.path.dirname(path)
            while folder != root and names.get(folder) == "folder":
                folder = os.path.dirname(folder)
            if folder == root:  # all folders above it are durable
                objects[os.path.relpath(path, root)] = inode["synced"]
        return objects


@pytest.mark.timeout(240)
@pytest.mark.parametrize("lucky", [False, True], ids=["nothing-unsynced-survives", "names-survive"])
@pytest.mark.parametrize(("scenario", "named"), [*((each, "unnamed") for each in SCENARIOS), ("commits", "named")])
def test_a_power_cut_at_any_system_call_loses_nothing(scenario, named, lucky, tmp_path):
    promises, points, failures = [], 0, []

    def cut(disk):
        nonlocal points
        points += 1
        left = MemoryStore()
        left.objects = disk.after_power_cut(str(tmp_path), lucky)
        try:
            check(left, list(promises))
        except AssertionError as error:
            failures.append((points, str(error)[:300]))

    disk = ForgetfulDisk(cut)
    store = LocalStore(tmp_path, system=disk)
    if named == "named":
        store.unnamed_files = False
    SCENARIOS[scenario](store, lambda *facts: promises.append(facts))
    store.close()
    assert failures == []
    assert points >= POINTS_AT_LEAST[scenario]
    check(LocalStore(tmp_path), promises)


def test_a_disk_that_forgets_shows_a_missing_sync(tmp_path):
    """The test of the test: without its syncs the store loses what it has promised."""

    class Careless(LocalStore):
        def create_in(self, directory, leaf, data):
            fsync, self.system.fsync = self.system.fsync, lambda file: None
            try:
                super().create_in(directory, leaf, data)
            finally:
                self.system.fsync = fsync

    promises = []
    disk = ForgetfulDisk(lambda disk: None)
    SCENARIOS["commits"](Careless(tmp_path, system=disk), lambda *facts: promises.append(facts))
    left = MemoryStore()
    left.objects = disk.after_power_cut(str(tmp_path), lucky=False)
    with pytest.raises(AssertionError):
        check(left, promises)

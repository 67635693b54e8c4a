"""A directory as a store, with real durability, also for several processes on one (or one shared) file system.

create  an unnamed file: write, fdatasync; link it to its name, which is atomic and fails if the name is taken; fsync
        the directory. The next unnamed file is opened before that fsync: 10 µs there, 150 on its own, when the kernel
        has slept. So a name never shows a half-written object, and a crash leaves nothing behind. Measured:
        0.32-0.43 ms; with a named temporary file (write, fdatasync, link, unlink, fsync directory) 0.52-0.70.
        File systems without unnamed files (NFS, some overlays) get that older sequence, temporary files in `.tmp`.
list    fsyncs the directories it reads, so that what it has shown stays: between another process's link and its
        fsync, a name can be seen that a power cut would take away again.

`system` is where system calls go; crash tests put a counting or forgetful one in place of `os`.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import Any

from ray_durable.checkpoint.stores import Listed, Listing, Names, Store, check_name
from ray_durable.clock import SYSTEM_CLOCK, Clock
from ray_durable.errors import AlreadyExists, NotFoundError, StoreError, StoreFullError

TEMPORARY = ".tmp"
DIRECTORIES_OPEN = 64
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})
NO_UNNAMED_FILES = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})


class LocalStore(Store):
    """Objects are files below `path`. Raises StoreError when that cannot be made into a directory."""

    def __init__(self, path: str | os.PathLike[str], system: Any = os, clock: Clock = SYSTEM_CLOCK) -> None:
        self.path = os.path.abspath(os.path.expanduser(os.fspath(path)))
        self.url = f"file://{self.path}"
        self.system = system
        self.clock = clock
        self.directories: dict[str, int] = {}
        self.unsynced: set[int] = set()  # directories with a name that may not be durable
        self.lock = threading.Lock()
        self.unnamed_files = hasattr(os, "O_TMPFILE")
        self.spares: dict[int, int] = {}  # by directory, an unnamed file that is open already
        try:
            self.make_directory(self.path)
        except OSError as error:
            raise failure("open", self.path, error) from error

    def create(self, name: str, data: bytes | bytearray | memoryview) -> None:
        folder, _, leaf = check_name(name).rpartition("/")
        try:
            directory = self.directories.get(folder) or self.open_directory(folder)
            try:
                self.create_in(directory, leaf, data)
            finally:
                if self.directories.get(folder) != directory:
                    os.close(directory)
        except FileExistsError:
            raise AlreadyExists("create", name) from None
        except OSError as error:
            raise failure("create", name, error) from error

    def create_in(self, directory: int, leaf: str, data: bytes | bytearray | memoryview) -> None:
        if self.unnamed_files:
            try:
                self.create_unnamed(directory, leaf, data)
            except OSError as error:
                if error.errno not in NO_UNNAMED_FILES:
                    raise
                self.unnamed_files = False
        if not self.unnamed_files:
            self.create_named(directory, leaf, data)
        try:
            self.system.fsync(directory)
        except OSError:
            self.unsynced.add(directory)
            raise

    def create_unnamed(self, directory: int, leaf: str, data: bytes | bytearray | memoryview) -> None:
        system = self.system
        file = self.spares.pop(directory, None) or self.open_unnamed(directory)
        try:
            self.write_all(file, data)
            system.fdatasync(file)
            # A directory given for the source makes this linkat(2), which follows the link as link(2) does not.
            system.link(f"/proc/self/fd/{file}", leaf, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=True)
        finally:
            system.close(file)
        if directory in self.directories.values() and directory not in self.spares:
            try:
                self.spares[directory] = self.open_unnamed(directory)
            except OSError:
                pass  # this object has its name; whoever creates the next one is told

    def open_unnamed(self, directory: int) -> int:
        file: int = self.system.open(".", os.O_TMPFILE | os.O_WRONLY, 0o644, dir_fd=directory)
        return file

    def create_named(self, directory: int, leaf: str, data: bytes | bytearray | memoryview) -> None:
        system = self.system
        temporary = self.write_temporary(data)
        try:
            system.link(temporary, leaf, dst_dir_fd=directory)
        finally:
            system.unlink(temporary)

    def write_temporary(self, data: bytes | bytearray | memoryview) -> str:
        system = self.system
        folder = os.path.join(self.path, TEMPORARY)
        self.make_directory(folder)
        path = os.path.join(folder, self.clock.unique())
        file = system.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        try:
            self.write_all(file, data)
            system.fdatasync(file)
        except OSError:
            system.unlink(path)
            raise
        finally:
            system.close(file)
        return path

    def write_all(self, file: int, data: bytes | bytearray | memoryview) -> None:
        written = self.system.write(file, data)
        while written < len(data):
            written += self.system.write(file, memoryview(data)[written:])

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        try:
            if self.unsynced:  # a writer that looks for what it failed to create must not take it for durable
                self.sync_again(name.rpartition("/")[0])
            with open(os.path.join(self.path, check_name(name)), "rb", buffering=0) as file:
                if start:
                    size = os.fstat(file.fileno()).st_size
                    file.seek(max(0, size + start) if start < 0 else start)
                return file.readall() if length is None else read_exactly(file, length)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFoundError("read", name) from None
        except OSError as error:
            raise failure("read", name, error) from error

    def sync_again(self, folder: str) -> None:
        directory = self.directories.get(folder)
        if directory in self.unsynced:
            self.system.fsync(directory)
            self.unsynced.discard(directory)

    def list(self, prefix: str) -> Listing:
        folder = prefix.rpartition("/")[0]
        found: Listing = []
        try:
            self.walk(folder, found)
        except OSError as error:
            raise failure("list", prefix, error) from error
        return sorted(listed for listed in found if listed.name.startswith(prefix))

    def walk(self, folder: str, found: Listing) -> None:
        try:
            file = os.open(os.path.join(self.path, folder), os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            below = []
            with os.scandir(file) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        below.append(name)
                        continue
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # deleted since the directory was read
                    found.append(Listed(name, status.st_size, status.st_mtime))
            self.sync_listed(file)
        finally:
            os.close(file)
        for name in below:
            self.walk(name, found)

    def sync_listed(self, directory: int) -> None:
        try:
            self.system.fsync(directory)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EINVAL):  # read-only: nothing there is still to be made durable
                raise

    def folders(self, prefix: str) -> Names:
        try:
            with os.scandir(os.path.join(self.path, prefix)) as entries:
                return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise failure("list", prefix, error) from error

    def delete(self, name: str) -> None:
        try:
            self.system.unlink(os.path.join(self.path, check_name(name)))
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise failure("delete", name, error) from error

    def overwrite(self, name: str, data: bytes) -> None:
        folder = check_name(name).rpartition("/")[0]
        try:
            self.make_directory(os.path.join(self.path, folder))
            self.system.rename(self.write_temporary(data), os.path.join(self.path, name))
        except OSError as error:
            raise failure("overwrite", name, error) from error

    def open_directory(self, folder: str) -> int:
        """A descriptor of a folder, which is made durable when it is new. The first ones stay open; further ones (a
        process that writes below very many folders) are closed by the caller."""
        path = os.path.join(self.path, folder) if folder else self.path
        with self.lock:
            if folder in self.directories:
                return self.directories[folder]
            self.make_directory(path)
            file = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            if len(self.directories) < DIRECTORIES_OPEN:
                self.directories[folder] = file
            return file

    def make_directory(self, path: str) -> None:
        if os.path.isdir(path):
            return
        parent = os.path.dirname(path)
        self.make_directory(parent)
        try:
            self.system.mkdir(path, 0o777)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
        file = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.system.fsync(file)
        finally:
            os.close(file)

    def close(self) -> None:
        with self.lock:
            for file in (*self.spares.values(), *self.directories.values()):
                os.close(file)
            self.spares.clear()
            self.directories.clear()


def read_exactly(file: Any, length: int) -> bytes:
    parts = []
    while length > 0 and (part := file.read(length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def failure(operation: str, name: str, error: OSError) -> StoreError:
    """The error class that an OSError of a store comes to."""
    kind = StoreFullError if error.errno in FULL else StoreError
    return kind(operation, name, error.strerror or str(error))

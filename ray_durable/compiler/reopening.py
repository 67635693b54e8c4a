"""`open`: a file for reading that a frame can hold. It is saved as its path and position, and opened again on demand.

Promise: what is read after a resume is what the file natively would have given next, at any position, also in the
middle of `for line in file`. What is in the file is not saved: another host reads the file that has this path there.
"""

from __future__ import annotations

import builtins
import io
import os
from typing import Any, Literal, TypeAlias, overload

from ray_durable.errors import CannotReopenError

__all__ = ["ReopenableBytes", "ReopenableText", "open"]

Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Options = tuple[int, str | None, str | None, str | None]  # buffering, encoding, errors, newline
PIECE = 1 << 20
WRITES = frozenset("wax+")
READING_ONLY = (
    "and what is written may not be on disk when a frame is saved. Write between two yield points with the builtin "
    "`open`, and close the file before the second"
)


class Reopenable(io.IOBase):
    """What text and binary files share: the native file, or the position at which it is to be opened again."""

    def __init__(self, path: str | bytes, name: Any, mode: str, options: Options) -> None:
        self.name, self.mode = name, mode
        self._path, self._options = path, options
        self._native: Any = None
        self._base, self._given = 0, 0  # a position that `seek` takes, and what was read since, in characters or bytes
        self._size = 0  # of the file, when it was saved
        self._closed = False

    def __reduce__(self) -> tuple[Any, ...]:
        if self._native is not None and not self._closed:
            self._size = os.fstat(self._native.fileno()).st_size
            try:
                self._base, self._given = self._native.tell(), 0
            except (OSError, ValueError):
                pass  # some decoders cannot tell (CPython's of UTF-8 with a signature among them): it is read again
        state = self._base, self._given, self._size, self._closed
        return again, (type(self) is ReopenableText, self._path, self.name, self.mode, self._options, *state)

    @property
    def native(self) -> Any:
        """The file itself, which is opened here if it is not yet. Do not keep it across a yield point.

        Raises: CannotReopenError when it is gone, or shorter than it was; ValueError when this file was closed."""
        if self._native is None:
            if self._closed:
                raise ValueError("I/O operation on closed file.")
            self._native = opened(self._path, self.mode, self._options, self._base, self._given, self._size)
        return self._native

    def __next__(self) -> Any:
        line = self.readline()  # a native text file refuses `tell` between two `next`s
        if not line:
            raise StopIteration
        return line

    def read(self, size: int | None = -1, /) -> Any:
        found = self.native.read(size)
        self._given += len(found)
        return found

    def readline(self, size: int | None = -1, /) -> Any:
        found = self.native.readline(-1 if size is None else size)
        self._given += len(found)
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._base, self._given = self.native.seek(offset, whence), 0
        return self._base

    def tell(self) -> int:
        """The position, also in the middle of an iteration. Of a text file it is a number only `seek` understands."""
        found: int = self.native.tell()
        return found

    def fileno(self) -> int:
        found: int = self.native.fileno()
        return found

    def isatty(self) -> bool:
        return False

    def readable(self) -> bool:
        self.native  # noqa: B018 - raises if it is closed
        return True

    seekable = readable

    def close(self) -> None:
        self._closed = True
        if self._native is not None:
            self._native.close()

    @property
    def closed(self) -> bool:
        return self._closed

    def __repr__(self) -> str:
        return f"<ray_durable.open({self.name!r}, {self.mode!r}){' closed' if self._closed else ''}>"


class ReopenableText(Reopenable, io.TextIOBase):
    """A text file for reading, as `open` returns it."""

    # (typeshed declares these writeable, which they are not)
    @property
    def encoding(self) -> Any:  # type: ignore[override]
        return self._options[1]

    @property
    def errors(self) -> Any:  # type: ignore[override]
        return self._options[2]

    @property
    def newlines(self) -> Any:  # type: ignore[override]
        """The kinds of line end met so far, since the file was last opened."""
        return self.native.newlines


class ReopenableBytes(Reopenable, io.BufferedIOBase):
    """A binary file for reading, as `open` returns it."""

    def read1(self, size: int = -1, /) -> bytes:
        found: bytes = getattr(self.native, "read1", self.native.read)(size)
        self._given += len(found)
        return found

    def readinto(self, buffer: Any, /) -> int:
        found: int = self.native.readinto(buffer)
        self._given += found
        return found

    readinto1 = readinto

    def peek(self, size: int = 0, /) -> bytes:
        found: bytes = self.native.peek(size)
        return found


@overload
def open(
    file: Path, mode: Literal["r", "rt", "tr"] = ..., buffering: int = ..., encoding: str | None = ...,
    errors: str | None = ..., newline: str | None = ...,
) -> ReopenableText: ...  # fmt: skip
@overload
def open(file: Path, mode: Literal["rb", "br"], buffering: int = ...) -> ReopenableBytes: ...
@overload
def open(
    file: Path, mode: str, buffering: int = ..., encoding: str | None = ..., errors: str | None = ...,
    newline: str | None = ...,
) -> ReopenableText | ReopenableBytes: ...  # fmt: skip
def open(
    file: Path, mode: str = "r", buffering: int = -1, encoding: str | None = None, errors: str | None = None,
    newline: str | None = None,
) -> ReopenableText | ReopenableBytes:  # fmt: skip
    """Open a file for reading that can be held at a yield point, with the arguments of the builtin `open`.

    A frame saves its path, made absolute, its position and how it was opened; after a resume it is opened again when it
    is first used, and goes on at that position. So the path must lead to the same content on every host: on a shared
    file system, say. What was appended meanwhile is read; that it became shorter is an error.
    Raises: CannotReopenError for a mode that writes, and for what cannot be read again from a position (a pipe, a
    descriptor); after a resume, when it is first used, if the file is gone or became shorter.

    Example: for line in ray_durable.open("/shared/orders.csv", encoding="utf-8"): ray.get(process.remote(line))"""
    if not isinstance(file, str | bytes | os.PathLike):
        raise CannotReopenError(repr(file), f"a {type(file).__name__} cannot be opened again; give a path")
    given = os.fspath(file)
    if isinstance(mode, str) and WRITES & {*mode}:
        raise CannotReopenError(os.fsdecode(given), f"mode {mode!r} writes, {READING_ONLY}")
    path = os.path.abspath(given)
    native: Any = builtins.open(path, mode, buffering, encoding, errors, newline)  # noqa: SIM115
    if not native.seekable():
        native.close()
        raise CannotReopenError(os.fsdecode(given), "a pipe or terminal cannot be read again from a position")
    is_text = isinstance(native, io.TextIOBase)
    kind = ReopenableText if is_text else ReopenableBytes
    if is_text:  # as it is here: another host may have other defaults
        encoding, errors = native.encoding, native.errors
    made = kind(path, given, mode, (buffering, encoding, errors, newline))
    made._native = native
    return made


def again(
    is_text: bool, path: Any, name: Any, mode: str, options: Options, base: int, given: int, size: int, closed: bool
) -> Reopenable:
    """What a pickle calls: the file at its position, not opened yet."""
    made: Reopenable = (ReopenableText if is_text else ReopenableBytes)(path, name, mode, options)
    made._base, made._given, made._size, made._closed = base, given, size, closed
    return made


def opened(path: str | bytes, mode: str, options: Options, base: int, given: int, size: int) -> Any:
    """The native file, `given` characters or bytes after the position `base`, if it has not less than `size` bytes."""
    try:
        native = builtins.open(path, mode, *options)  # noqa: SIM115
    except OSError as error:
        raise CannotReopenError(os.fsdecode(path), error.strerror or str(error), base) from error
    now = os.fstat(native.fileno()).st_size
    if now < size:
        native.close()
        raise CannotReopenError(os.fsdecode(path), f"it had {size} bytes, and has {now}", base)
    native.seek(base)
    while given > 0 and (passed := native.read(min(given, PIECE))):
        given -= len(passed)
    return native

"""Every error of ray_durable, under one base class.

An error says what happened, where, what still holds and what to do; the same facts are its fields, and are passed on
as `args`, so that an error survives pickle and a trip through Ray.

    RayDurableError
    ├── CompileError                 the compiler refuses a function
    │   └── UnsupportedSyntaxError   a construct that it does not know
    ├── CaptureError                 a suspended object cannot be captured
    │   └── CannotPickleError        nor pickled: it is not durable, or it runs
    ├── RestoreError                 a frame cannot be resumed
    │   └── CodeChangedError         its function is not the one it began with
    ├── CannotSaveError              a local cannot be pickled
    ├── CannotReopenError            nor a file opened again where it was
    ├── StoreError                   the object store refused, or is not fit for use
    │   ├── DamagedError             an object fails its checksum or signature
    │   └── UnsafeStoreError         the store lets two writers create one object
    ├── FencedError                  this writer's log was sealed by another
    ├── NotConnectedError            this process has no controller to talk to
    ├── NoSuchCoroutineError         no coroutine of that name or id
    ├── NameTakenError               an unfinished coroutine has that name
    ├── StaleTermError               a command of a controller that was replaced
    ├── StorageInUseError            another live cluster works on this storage
    ├── HostStartError               no host for this coroutine starts
    ├── HostCrashedError             its host processes end, again and again
    ├── CoroutineCancelledError      what a cancelled coroutine's result is
    └── ...                          see each class
"""

from __future__ import annotations


class RayDurableError(Exception):
    """Base of every error that ray_durable raises."""


class SettingError(RayDurableError):
    """A setting has no such name, or a value that cannot be. Fields: `source` (name or variable), `value`, `reason`."""

    def __init__(self, source: str, value: object, reason: str) -> None:
        super().__init__(source, value, reason)
        self.source, self.value, self.reason = source, value, reason

    def __str__(self) -> str:
        given = "" if self.value is None else f" = {self.value!r}"
        return f"{self.source}{given}: {self.reason}."


class CompileError(RayDurableError):
    """The compiler refuses a function, when it is first compiled. Fields: `reason`, `filename`, `lineno`."""

    def __init__(self, reason: str, filename: str = "", lineno: int = 0) -> None:
        super().__init__(reason, filename, lineno)
        self.reason, self.filename, self.lineno = reason, filename, lineno

    def __str__(self) -> str:
        return f"{self.filename}:{self.lineno}: {self.reason}" if self.filename else self.reason


class UnsupportedSyntaxError(CompileError):
    """A function holds a construct that the compiler does not know; nothing was compiled. Fields as `CompileError`."""


class CaptureError(RayDurableError):
    """A suspended object cannot be captured. Fields: `reason`, `function`, `filename`, `lineno`, as far as known."""

    def __init__(self, reason: str, function: str = "", filename: str = "", lineno: int = 0) -> None:
        super().__init__(reason, function, filename, lineno)
        self.reason, self.function, self.filename, self.lineno = reason, function, filename, lineno

    def __str__(self) -> str:
        where = f"{self.filename}:{self.lineno}, {self.function}(): " if self.filename else ""
        return where + self.reason


class CannotPickleError(CaptureError, TypeError):
    """A generator or coroutine cannot be pickled: it is not durable, or runs. Fields as `CaptureError`."""


class RestoreError(RayDurableError):
    """A frame cannot be resumed, and nothing of it was run. Fields: `reason`, `function`."""

    def __init__(self, reason: str, function: str = "") -> None:
        super().__init__(reason, function)
        self.reason, self.function = reason, function

    def __str__(self) -> str:
        return f"{self.function}: {self.reason}" if self.function else self.reason


class CodeChangedError(RestoreError):
    """A frame's function is no longer the code that it began with, and that code is not at hand or not allowed.

    Fields: those of `RestoreError`, `diff` (unified, from the code it began with to the code here; "" if unknown)."""

    def __init__(self, reason: str, function: str = "", diff: str = "") -> None:
        super().__init__(reason, function)
        self.args = (reason, function, diff)
        self.diff = diff

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.diff}" if self.diff else super().__str__()


class StoreError(RayDurableError):
    """The object store could not do what was asked. Fields: `operation`, `name` (the object), `reason`."""

    def __init__(self, operation: str, name: str, reason: str) -> None:
        super().__init__(operation, name, reason)
        self.operation, self.name, self.reason = operation, name, reason

    def __str__(self) -> str:
        return f"{self.operation} of {self.name!r} in the store: {self.reason}."


class AlreadyExists(StoreError):
    """A create-only put met an object of that name."""

    def __init__(self, operation: str, name: str, reason: str = "an object of that name exists") -> None:
        super().__init__(operation, name, reason)


class NotFoundError(StoreError):
    """The store has no object of that name."""

    def __init__(self, operation: str, name: str, reason: str = "no such object") -> None:
        super().__init__(operation, name, reason)


class StoreFullError(StoreError):
    """The store has no room, or may not be written to. What was durable stays; nothing was half-written."""


class DamagedError(StoreError):
    """An object fails its checksum, its signature or its form, and nothing of it is loaded.

    Fields: those of `StoreError`, `offset` (bytes into the object; -1: the whole), `coroutines` (ids that it concerns,
    as far as they can still be read).
    """

    def __init__(
        self, operation: str, name: str, reason: str, offset: int = -1, coroutines: tuple[str, ...] = ()
    ) -> None:
        super().__init__(operation, name, reason)
        self.args = (operation, name, reason, offset, coroutines)
        self.offset, self.coroutines = offset, coroutines

    def __str__(self) -> str:
        where = f" at byte {self.offset}" if self.offset >= 0 else ""
        who = f" It concerns {', '.join(self.coroutines[:5])}." if self.coroutines else ""
        return f"{self.name!r} is damaged{where}: {self.reason}. Nothing of it was loaded.{who}"


class UnsafeStoreError(StoreError):
    """The store let two writers create one object: a log there could not be fenced, so nothing was begun."""


class FencedError(RayDurableError):
    """This writer's log was ended by another, and it can write or release nothing more.

    Fields: `writer` (whose log), `by` (who sealed it, or wrote under its name), `number` (of the segment that met it).
    """

    def __init__(self, writer: str, by: str, number: int) -> None:
        super().__init__(writer, by, number)
        self.writer, self.by, self.number = writer, by, number

    def __str__(self) -> str:
        return (
            f"The log {self.writer!r} was taken over by {self.by!r} at segment {self.number}. What was acknowledged "
            "before stands, and its coroutines go on elsewhere; end this process."
        )


class LogStoppedError(RayDurableError):
    """The log's store failed for too long; what was not acknowledged is not durable. Fields: `writer`, `reason`."""

    def __init__(self, writer: str, reason: str) -> None:
        super().__init__(writer, reason)
        self.writer, self.reason = writer, reason

    def __str__(self) -> str:
        return (
            f"The log {self.writer!r} stopped: {self.reason}. What was acknowledged stands; "
            "seal this log and adopt its coroutines elsewhere once the store works again."
        )


class CannotSaveError(RayDurableError):
    """A value in a coroutine's state cannot be pickled, or one that it is given, or that it returns, yields or raises.

    Fields: `path` (to the value: `locals.clients[3].sock`, `return value[0]`), `type_name`, `reason`, and, as far as
    known, `function`, `filename`, `lineno` of the frame that holds it.
    """

    GIVEN = ("return value", "yielded value", "exception", "message", "call")

    def __init__(
        self, path: str, type_name: str, reason: str, function: str = "", filename: str = "", lineno: int = 0
    ) -> None:
        super().__init__(path, type_name, reason, function, filename, lineno)
        self.path, self.type_name, self.reason = path, type_name, reason
        self.function, self.filename, self.lineno = function, filename, lineno

    @property
    def variable(self) -> str:
        """The local that leads to the value; the whole path where none does."""
        local = self.path.removeprefix("locals.").partition(".")[0].partition("[")[0]
        return local if local and self.path.startswith("locals.") else self.path

    def of(self, given: str, function: str) -> CannotSaveError:
        """The same error about what a function gives or is given, one of `GIVEN`, instead of a frame's local."""
        if self.filename:
            return self  # it is in a frame after all: of a coroutine that was to be given
        step = "" if not self.path or self.path[0] in "[." else "."
        return CannotSaveError(f"{given}{step}{self.path}", self.type_name, self.reason, function)

    def __str__(self) -> str:
        given = next((given for given in self.GIVEN if self.path.startswith(given)), None)
        if given is not None:
            part = self.path.removeprefix(given)
            what = f"The {given} {'to' if given == 'message' else 'of'} {self.function}()"
            return (
                f"{what} cannot be saved: {f'its {part}' if part else 'it'} is a {self.type_name}, which cannot be "
                f"pickled ({self.reason}). Give plain data in its place, or what another process can open again: a "
                "path, an address, a key."
            )
        where = f"{self.filename}:{self.lineno}, {self.function}(): " if self.filename else ""
        return (
            f"{where}{self.path} is a {self.type_name}, which cannot be pickled ({self.reason}). The checkpoint before "
            f"stands. Create {self.variable!r} inside the code that uses it, or delete it before this yield point."
        )


class CannotReopenError(RayDurableError, OSError):
    """A file cannot be opened by `ray_durable.open`, or not be read on from where it was after a resume.

    Fields: `path`, `reason`, `position` (as `tell` gave it; None when it was not read yet)."""

    def __init__(self, path: str, reason: str, position: int | None = None) -> None:
        super().__init__()
        self.args = (path, reason, position)  # OSError itself would take them for an errno and its text
        self.path, self.reason, self.position = path, reason, position

    def __str__(self) -> str:
        if self.position is None:
            return f"{self.path}: {self.reason}."
        return (
            f"{self.path} cannot be read on from position {self.position}, where this coroutine was: {self.reason}. "
            "Each host opens it by this path: keep it as it is, or longer, on storage that all of them share."
        )


# ---------------------------------------------------------------- coroutines and their cluster


class NotConnectedError(RayDurableError):
    """Something needs a cluster with a controller, and this process is not connected to one."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"{self.what} needs a running ray_durable: call ray_durable.init() first."


class RefLostError(RayDurableError):
    """A coroutine holds a ref that it was given, whose call was pending when its cluster ended. Fields: `ref`."""

    def __init__(self, ref: str) -> None:
        super().__init__(ref)
        self.ref = ref

    def __str__(self) -> str:
        return (
            f"ObjectRef({self.ref}) was pending when its Ray cluster ended, and is lost with it, as whoever made that "
            "call was not durable. Have the coroutine make such calls itself: they are made again."
        )


class NoSuchCoroutineError(RayDurableError):
    """No coroutine has this name or id, or its retention is over. Fields: `name`, `reason`."""

    def __init__(self, name: str, reason: str = "no coroutine has this name or id") -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name!r}: {self.reason}."


class NameTakenError(RayDurableError):
    """An unfinished coroutine has this name. Fields: `name`, `id` (of that one)."""

    def __init__(self, name: str, id: str) -> None:
        super().__init__(name, id)
        self.name, self.id = name, id

    def __str__(self) -> str:
        return (
            f"a coroutine named {self.name!r} is not finished (id {self.id}). Nothing was started. "
            f"Choose another name, or get that one with get_if_exists=True or ray_durable.get_handle({self.name!r})."
        )


class StaleTermError(RayDurableError):
    """A command came from a controller that another one has replaced. Fields: `given`, `current`."""

    def __init__(self, given: int, current: int) -> None:
        super().__init__(given, current)
        self.given, self.current = given, current

    def __str__(self) -> str:
        return f"this command is of term {self.given}, but term {self.current} leads: it was not carried out."


class StorageInUseError(RayDurableError):
    """Another live cluster works on this storage. Fields: `storage`, `cluster`."""

    def __init__(self, storage: str, cluster: str) -> None:
        super().__init__(storage, cluster)
        self.storage, self.cluster = storage, cluster

    def __str__(self) -> str:
        return (
            f"{self.storage} is in use by another live cluster ({self.cluster}). Nothing was changed. "
            f"Use another storage prefix, stop that cluster, or pass takeover=True to take its coroutines over now."
        )


class HostStartError(RayDurableError):
    """A coroutine was given up before it began: no host starts with what it asks for. Fields: `name` (or id), `tries`,
    `reason`."""

    def __init__(self, name: str, tries: int, reason: str) -> None:
        super().__init__(name, tries, reason)
        self.name, self.tries, self.reason = name, tries, reason

    def __str__(self) -> str:
        return (
            f"{self.name!r} has not begun, and was given up: no host with its runtime_env has started in {self.tries} "
            f"tries. {self.reason} Nothing of it was run. Mend the runtime_env and start it again."
        )


class HostCrashedError(RayDurableError):
    """A coroutine was given up: the processes that ran it have ended, one after the other. Fields: `name` (or id),
    `function`, `times`."""

    def __init__(self, name: str, function: str, times: int) -> None:
        super().__init__(name, function, times)
        self.name, self.function, self.times = name, function, times

    def __str__(self) -> str:
        return (
            f"{self.name!r} ({self.function}) was given up: {self.times} host processes in a row have ended while they "
            "ran the same step of it. Look for native code that crashes or blocks, for os._exit, and at memory."
        )


class CoroutineCancelledError(RayDurableError):
    """The coroutine was cancelled: what `ray.get` raises for it. Fields: `id`."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.id = id

    def __str__(self) -> str:
        return f"coroutine {self.id} was cancelled."


class CoroutineExitedError(RayDurableError):
    """A coroutine has raised SystemExit, KeyboardInterrupt or another exception that is no `Exception`; it is the
    `__cause__`. Fields: `coroutine`, `raised`."""

    def __init__(self, coroutine: str, raised: str) -> None:
        super().__init__(coroutine, raised)
        self.coroutine, self.raised = coroutine, raised

    def __str__(self) -> str:
        return (
            f"the coroutine {self.coroutine!r} has raised {self.raised}, which ended it, and it alone. Return a value, "
            "or raise an Exception, to end one."
        )


class CoroutineCancelled(BaseException):
    """Thrown into a cancelled coroutine at its yield point, so that its `finally` blocks run. Not for catching."""


class OptionError(RayDurableError, ValueError):
    """An option of `@ray_durable.remote` or `.options()` is unknown or cannot be. Fields: `option`, `reason`."""

    def __init__(self, option: str, reason: str) -> None:
        super().__init__(option, reason)
        self.option, self.reason = option, reason

    def __str__(self) -> str:
        return f"option {self.option!r}: {self.reason}. Nothing was started."

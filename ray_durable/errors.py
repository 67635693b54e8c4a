"""Every error of ray_durable, under one base class.

An error says what happened, where, what still holds and what to do; the same facts are its fields, and are passed on
as `args`, so that an error survives pickle and a trip through Ray.

    RayDurableError
    ├── CompileError                 the compiler refuses a function
    │   └── UnsupportedSyntaxError   a construct that it does not know
    ├── CaptureError                 a suspended object cannot be captured
    ├── RestoreError                 a frame cannot be resumed
    │   └── CodeChangedError         its function is not the one it began with
    ├── CannotSaveError              a local cannot be pickled
    ├── StoreError                   the object store refused, or is not fit for use
    │   ├── DamagedError             an object fails its checksum or signature
    │   └── UnsafeStoreError         the store lets two writers create one object
    ├── FencedError                  this writer's log was sealed by another
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

"""Which value could not be saved, and the way to it: `locals.clients[3].sock`.

Only walked when a checkpoint has failed, so it may be slow: every part is pickled by itself, and the deepest one that
fails with no failing part of its own is the culprit. Parts are what the picklers would store: items of containers,
attributes, the locals of suspended generators and coroutines.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ray_durable.errors import CannotSaveError

DEPTH_MAX = 50
PARTS_MAX = 10_000
NATIVE = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)


def cannot_save(state: Any, refusal: Exception, dumps: Callable[[Any], bytes]) -> CannotSaveError:
    """The error for a `state` that `dumps` refused with `refusal`."""
    search = Search(dumps)
    search.walk(state, "", 0)
    if search.culprit is None:
        return CannotSaveError("state", type(state).__name__, shown(refusal))
    path, value, reason = search.culprit
    function, filename, lineno = search.frame_of_culprit
    return CannotSaveError(path or "state", type_name(value), shown(reason), function, filename, lineno)


class Search:
    """Depth first, into the parts that cannot be saved."""

    def __init__(self, dumps: Callable[[Any], bytes]) -> None:
        self.dumps = dumps
        self.seen: dict[int, Any] = {}
        self.culprit: tuple[str, Any, Exception] | None = None
        self.frame: tuple[str, str, int] = ("", "", 0)
        self.frame_of_culprit = self.frame

    def refused(self, value: Any) -> Exception | None:
        import cloudpickle

        from ray_durable.checkpoint.codec import REFUSALS, Pickling

        refusal: Exception | None = None
        for by_cloudpickle in (False, True):
            pickling = Pickling()
            pickler: Any = cloudpickle.Pickler(pickling, 5) if by_cloudpickle else pickling.pickler
            try:
                pickler.dump(value)
                return None
            except REFUSALS as error:
                refusal = error
        return refusal

    def walk(self, value: Any, path: str, depth: int) -> bool:
        """Whether the culprit is in `value`; then it is found."""
        if id(value) in self.seen or depth > DEPTH_MAX or len(self.seen) > PARTS_MAX:
            return False
        self.seen[id(value)] = value  # kept alive, so that ids stay unique
        reason = self.refused(value)
        if reason is None:
            return False
        outer = self.frame
        for label, part in self.parts(value, path):
            if self.walk(part, label, depth + 1):
                return True
        self.culprit = (path, value, reason)
        self.frame_of_culprit = self.frame
        self.frame = outer
        return True

    def parts(self, value: Any, path: str) -> Iterator[tuple[str, Any]]:
        """What `value` is made of, each with its path."""
        if isinstance(value, NATIVE):
            yield from self.frame_parts(value, path)
        elif isinstance(value, Mapping):
            for key, part in list(value.items()):
                yield f"{path}[{key!r}]", part
            for key in list(value):
                yield f"{path}.key({short(key)})", key
        elif isinstance(value, list | tuple | set | frozenset):
            for n, part in enumerate(list(value)):
                yield f"{path}[{n}]", part
        elif isinstance(value, types.FunctionType):
            for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
                if not is_empty(cell):
                    yield f"{path}.<closure>.{name}", cell.cell_contents
        elif isinstance(value, types.MethodType):
            yield f"{path}.__self__", value.__self__
        elif not isinstance(value, type):
            for name, part in attributes(value).items():
                yield (f"{path}.{name}" if path else name), part

    def frame_parts(self, value: Any, path: str) -> Iterator[tuple[str, Any]]:
        from ray_durable.compiler import capture
        from ray_durable.errors import RayDurableError

        try:
            frame = capture(value)
        except (RayDurableError, TypeError, ValueError):
            return  # not durable: it is the culprit itself
        while frame is not None and hasattr(frame, "values"):
            self.frame = (frame.function, frame.filename, frame.lineno)
            cells = {name: cell.cell_contents for name, cell in frame.cells.items() if not is_empty(cell)}
            for name, part in {**frame.values, **cells, **frame.temporaries}.items():
                yield f"locals.{name}", part
            frame = frame.delegate


def attributes(value: Any) -> dict[str, Any]:
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            private = name.startswith("__") and not name.endswith("__")
            mangled = f"_{kind.__name__.lstrip('_')}{name}" if private else name
            if hasattr(value, mangled):
                found[name] = getattr(value, mangled)
    found.pop("__weakref__", None)
    return found


def is_empty(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return True
    return False


def type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def shown(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."

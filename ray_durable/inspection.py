"""What a person sees of a coroutine: its stack, each frame with its source line, and locals as short readable values.

Made where the coroutine is (in its host, or from its newest checkpoint in the store) and sent on as plain data. It runs
no code of the user's: a value of an unknown type is shown by its type and its instance dictionary, never by its
`__repr__`, which may be slow, fail, or have effects.
"""

from __future__ import annotations

import dataclasses
import enum
import html
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray_durable.compiler.frame import Frame
    from ray_durable.runner import Coroutine

__all__ = ["BranchView", "CoroutineView", "FrameView", "LocalView", "shorten", "view_branches", "view_frames"]

TEXT_MAX = 72
ITEMS_MAX = 4
DEPTH_MAX = 3
LARGE_BYTES = 1024
PLAIN_MODULES = frozenset({"datetime", "decimal", "fractions", "pathlib", "uuid", "zoneinfo", "ipaddress", "re"})


@dataclass(frozen=True, slots=True)
class LocalView:
    """A local variable: its value in a few words, its type, and its size in bytes where that is known and large."""

    name: str
    type: str
    value: str
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class FrameView:
    """One activation: where it stands, the user's source line there, and its locals."""

    function: str
    file: str
    line: int
    source: str
    locals: tuple[LocalView, ...]


@dataclass(frozen=True, slots=True)
class BranchView:
    """A line of control: the main one (number 0), or one that `gather` runs beside it. Its innermost frame is last."""

    number: int
    waits_for: str | None
    frames: tuple[FrameView, ...]


@dataclass(frozen=True, slots=True)
class CoroutineView:
    """A coroutine as `handle.inspect()` and `ray-durable inspect` show it. It has branches while a host runs it."""

    id: str
    name: str | None
    function: str
    state: str
    node: str | None = None
    host: str | None = None
    epoch: int = 0
    seq: int | None = None
    error: str | None = None
    branches: tuple[BranchView, ...] = ()

    @property
    def frames(self) -> tuple[FrameView, ...]:
        """The frames of the main branch, outermost first."""
        return self.branches[0].frames if self.branches else ()

    def to_plain(self) -> dict[str, Any]:
        """As dicts, lists and scalars, ready for JSON."""
        plain: dict[str, Any] = dataclasses.asdict(self)
        return plain

    def __str__(self) -> str:
        return "\n".join(text_lines(self))

    def __repr__(self) -> str:
        return f"<{self.name or self.id} {self.state}>\n{self}"

    def _repr_html_(self) -> str:
        return as_html(self)


def headline(view: CoroutineView) -> list[tuple[str, str]]:
    """What is known of the coroutine as a whole, as pairs of label and text."""
    known = {
        "state": view.state,
        "function": view.function,
        "id": view.id,
        "node": view.node,
        "host": view.host,
        "checkpoint": f"seq {view.seq}, epoch {view.epoch}" if view.seq is not None else None,
        "error": view.error,
    }
    return [(label, text) for label, text in known.items() if text]


def text_lines(view: CoroutineView) -> Iterator[str]:
    """Written like a traceback, outermost frame first, which everyone can read."""
    yield view.name or view.id
    for label, text in headline(view):
        yield f"  {label}: {text}"
    for branch in view.branches:
        if title := branch_title(branch):
            yield f"  {title}"
        for frame in branch.frames:
            yield f'  File "{frame.file}", line {frame.line}, in {frame.function}'
            yield f"    {frame.source}"
            for local in frame.locals:
                yield f"      {local.name} = {local.value}"


def branch_title(branch: BranchView) -> str:
    waits = f"waits for {branch.waits_for}" if branch.waits_for else ""
    return waits if branch.number == 0 else f"beside it, branch {branch.number} {waits}".rstrip()


def as_html(view: CoroutineView) -> str:
    """A heading, and per frame its place, source line and a table of locals. All that is the user's is escaped."""
    e = html.escape
    parts = [f"<div><strong>{e(view.name or view.id)}</strong><br>"]
    parts += [f"<small>{e(label)}: {e(text)}</small><br>" for label, text in headline(view)]
    for branch in view.branches:
        parts.append(f"<small>{e(branch_title(branch))}</small>")
        parts += map(frame_html, branch.frames)
    return "".join(parts) + "</div>"


def frame_html(frame: FrameView) -> str:
    e = html.escape
    left = "<td style='text-align:left'>"
    rows = "".join(
        f"<tr>{left}<code>{e(v.name)}</code></td>{left}{e(v.type)}</td>{left}<code>{e(v.value)}</code></td></tr>"
        for v in frame.locals
    )
    table = f"<table><tr><th>local</th><th>type</th><th>value</th></tr>{rows}</table>" if rows else ""
    where = f"<code>{e(frame.function)}</code> at {e(frame.file)}:{frame.line}"
    return f"<p>{where}<br><code>{e(frame.source)}</code></p>{table}"


def view_branches(coroutine: Coroutine) -> tuple[BranchView, ...]:
    """Every branch of a coroutine that stands still just now; to be called where it runs, between two steps."""
    from ray_durable.compiler.capture import capture

    return tuple(
        BranchView(branch.number, describe_request(branch.request), view_frames(capture(branch.root)))
        for branch in coroutine.branches()
    )


def describe_request(request: Any) -> str | None:
    """What a branch waits for, in words."""
    from ray_durable import operations

    match request:
        case None:
            return None
        case operations.Sleep(until=until):
            return f"its timer at {datetime.fromtimestamp(until):%Y-%m-%d %H:%M:%S}"
        case operations.Receive(topic=topic, until=until):
            limit = "" if until is None else f", until {datetime.fromtimestamp(until):%Y-%m-%d %H:%M:%S}"
            return f"a message under {topic!r}{limit}"
        case operations.Pause():
            return "its turn"
        case _:
            return WAITS_FOR.get(type(request).__name__, type(request).__name__)


WAITS_FOR = {  # requests of the layers above, which cannot be imported here
    "Emit": "its streamed value to be taken",
    "Emitted": "its streamed value to be taken",
    "Answered": "its turn",
    "Fetch": "values of object references",
    "WaitFor": "object references to be ready",
    "Wait": "a task, lock or queue of its own",
}


def view_frames(outermost: Frame) -> tuple[FrameView, ...]:
    """The frames of a suspended coroutine as plain data, outermost first, without this package's own.

    Example: view_frames(capture(gen))[-1].line
    """
    return tuple(
        FrameView(
            function=frame.unit.qualname,
            file=frame.filename,
            line=frame.lineno,
            source=source_line(frame),
            locals=tuple(view_local(name, value) for name, value in frame.locals.items()),
        )
        for frame in outermost.chain()
        if not frame.unit.module.startswith("ray_durable.")
    )


def source_line(frame: Frame) -> str:
    """The user's line, from the text that was compiled: the file may have changed since, or be on another machine."""
    lines = frame.unit.source.text.splitlines()
    at = frame.lineno - frame.unit.source.firstlineno
    return lines[at].strip() if 0 <= at < len(lines) else ""


def view_local(name: str, value: Any) -> LocalView:
    size = size_of(value)
    shown = size if size is not None and size >= LARGE_BYTES else None
    text = shorten(value)
    return LocalView(name, type(value).__qualname__, f"{text} ({bytes_text(shown)})" if shown else text, shown)


def size_of(value: Any) -> int | None:
    """Bytes held by text, buffers and arrays; None where it would take user code, or a long walk, to find out."""
    if type(value) in (bytes, bytearray, str):
        return len(value)
    if type(value).__module__.partition(".")[0] in ("numpy", "pyarrow", "torch"):
        size = getattr(value, "nbytes", None)
        return size if isinstance(size, int) else None
    return None


def bytes_text(size: float) -> str:
    """`1536` as `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def shorten(value: Any, depth: int = DEPTH_MAX) -> str:
    """`value` in one line of some 70 characters at most, by its type and contents; runs no code of a user's class."""
    text = SHORT.get(type(value), short_object)(value, depth)
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"


def short_text(value: str | bytes | bytearray, depth: int) -> str:
    kept = TEXT_MAX - 24
    if len(value) <= kept:
        return repr(value)
    return f"{value[:kept]!r}… {len(value):,} " + ("characters" if isinstance(value, str) else "bytes")


def short_int(value: int, depth: int) -> str:
    # `repr` of an int beyond 4,300 digits raises
    return repr(value) if value.bit_length() < 200 else f"int of about {int(value.bit_length() * math.log10(2))} digits"


def short_items(opening: str, closing: str) -> Callable[[Any, int], str]:
    def short(value: Any, depth: int) -> str:
        if depth == 0:
            return f"{type(value).__name__} of {len(value):,}"
        shown = [shorten(item, depth - 1) for item, _ in zip(value, range(ITEMS_MAX), strict=False)]
        if len(value) > ITEMS_MAX:
            return f"{type(value).__name__} of {len(value):,}: {opening}{', '.join(shown)}, …{closing}"
        if not shown and opening == "{":
            return f"{type(value).__name__}()"
        return opening + ", ".join(shown) + ("," if opening == "(" and len(shown) == 1 else "") + closing

    return short


def short_dict(value: Mapping[Any, Any], depth: int) -> str:
    if depth == 0:
        return f"dict of {len(value):,}"
    pairs = zip(value.items(), range(ITEMS_MAX), strict=False)
    shown = [f"{shorten(key, depth - 1)}: {shorten(item, depth - 1)}" for (key, item), _ in pairs]
    if len(value) > ITEMS_MAX:
        return f"dict of {len(value):,}: {{{', '.join(shown)}, …}}"
    return "{" + ", ".join(shown) + "}"


def short_object(value: Any, depth: int) -> str:
    kind = type(value)
    module, name = kind.__module__, kind.__qualname__
    if issubclass(kind, type):
        return f"class {value.__module__}.{value.__qualname__}"
    if issubclass(kind, enum.Enum):
        return f"{name}.{value._name_}"
    if module.partition(".")[0] in PLAIN_MODULES:
        return repr(value)
    if module.partition(".")[0] in ("numpy", "torch") and hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{name} {tuple(value.shape)} {value.dtype}"
    if module.partition(".")[0] == "pandas" and hasattr(value, "shape"):
        return f"{name} {tuple(value.shape)}"
    if module == "ray" or module.startswith("ray."):
        return f"<{name}>"
    if module == "builtins" and name in ("function", "builtin_function_or_method", "method"):
        return f"{name} {value.__qualname__}"
    fields = instance_dict(value)
    if depth and type(fields) is dict and fields:
        shown = [f"{field}={shorten(fields[field], depth - 1)}" for field in list(fields)[:ITEMS_MAX]]
        return f"{name}({', '.join(shown)}{', …' if len(fields) > ITEMS_MAX else ''})"
    return f"<{name}>"


def instance_dict(value: Any) -> Any:
    try:
        return object.__getattribute__(value, "__dict__")  # not the class's own `__getattribute__`, nor a property
    except AttributeError:
        return None


def short_repr(value: Any, depth: int) -> str:
    return repr(value)


SHORT: dict[type, Callable[[Any, int], str]] = {
    bool: short_repr,
    int: short_int,
    float: short_repr,
    complex: short_repr,
    type(None): short_repr,
    type(...): short_repr,
    range: short_repr,
    slice: short_repr,
    str: short_text,
    bytes: short_text,
    bytearray: short_text,
    list: short_items("[", "]"),
    tuple: short_items("(", ")"),
    set: short_items("{", "}"),
    frozenset: short_items("{", "}"),
    dict: short_dict,
}

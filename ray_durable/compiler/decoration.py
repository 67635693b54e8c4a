"""`durable`: a function in, a durable one of the same kind out."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Any, TypeVar

from ray_durable.compiler.backedges import closure_of
from ray_durable.compiler.replacements import suspending
from ray_durable.compiler.unit import Compiled, Kind, Mode, Source, Unit
from ray_durable.errors import CompileError

Function = TypeVar("Function", bound=Callable[..., Any])


def durable(function: Function) -> Function:
    """Make `function` durable: its generators or coroutines can be captured at every yield point and resumed.

    Works on functions, methods, static and class methods. Name, signature, defaults, closure and kind stay; the
    objects that it makes are CPython's own. A plain function keeps running as it is; hosts run its twin, in which
    calls suspend.
    Raises: CompileError, when the source is not at hand; UnsupportedSyntaxError, naming file, line and construct.

    Example:
        @durable
        def counter(n):
            for i in range(n):
                yield i
    """
    if isinstance(function, staticmethod | classmethod):
        return type(function)(durable(function.__func__))
    if not isinstance(function, FunctionType):
        raise CompileError(f"{function!r} is no function that was written in Python; put durable on a `def`")
    if "__durable__" in function.__dict__:
        return function
    from ray_durable.compiler import sources

    return decorated(function, sources.source_of(function))  # type: ignore[return-value]


def decorated(function: FunctionType, source: Source) -> FunctionType:
    """The durable form of `function`, whose text is `source`."""
    from ray_durable.compiler import identity, pipeline

    unit = None if kind_of(function) == "plain" else pipeline.compile_source(source, "native", function.__code__)
    made = twin_like(function, unit) if unit is not None else copied(function)
    compiled = new_compiled()
    fill(compiled, made, function, source, unit)
    made.__dict__["__durable__"] = compiled
    made.__dict__["upgrade"] = partial(identity.set_upgrade, source)
    return made


def new_compiled() -> Compiled:
    """One without fields, for `fill`."""
    return Compiled.__new__(Compiled)


def fill(compiled: Compiled, made: FunctionType, function: FunctionType, source: Source, unit: Unit | None) -> None:
    """Say what `made` is, the durable form of `function`, and let frames find it."""
    from ray_durable.compiler import identity, pipeline, references

    references.register()  # from here on there are suspended objects that `pickle` can take
    kind = kind_of(function)
    fingerprint = unit.fingerprint if unit is not None else pipeline.fingerprint_of(source)
    twin = partial(make_twin, made, function, source, kind)
    Compiled.__init__(compiled, kind, function, source, fingerprint, unit, twin, function=made)
    identity.remember(compiled)


def compile_again(compiled: Compiled, state: tuple[Source, FunctionType]) -> None:
    """Give a function that came by value (`cloudpickle`, Ray) the code that this process compiles for it: only that is
    known to be durable."""
    from ray_durable.compiler import pipeline, sources

    source, made = state
    code = sources.code_of(source)
    unit = None if kind_of(made) == "plain" else pipeline.compile_source(source, "native", code)
    made.__code__ = code if unit is None else unit.code
    fill(compiled, made, like(made, code), source, unit)


def copied(function: FunctionType) -> FunctionType:
    return like(function, function.__code__)


def twin_like(function: FunctionType, unit: Unit) -> FunctionType:
    return like(function, unit.code)


def like(function: FunctionType, code: Any) -> FunctionType:
    """`function` with other code: the same name, defaults, annotations and, by name, closure."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    closure = closure_of(code, cells)
    made = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, closure)
    functools.update_wrapper(made, function)
    del made.__dict__["__wrapped__"]
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def make_twin(made: FunctionType, function: FunctionType, source: Source, kind: Kind, mode: Mode = "twin") -> Any:
    """What a host calls instead of the function."""
    from ray_durable.compiler import pipeline

    if kind in ("coroutine", "async_generator") and mode == "twin":
        return made
    return twin_like(function, pipeline.compile_source(source, mode, function.__code__))


def kind_of(function: Any) -> Kind:
    """The kind of a function, by its code."""
    if inspect.iscoroutinefunction(function):
        return "coroutine"
    if inspect.isasyncgenfunction(function):
        return "async_generator"
    return "generator" if inspect.isgeneratorfunction(function) else "plain"


def compiled_of(function: Any) -> Compiled | None:
    """What the compiler keeps of a durable function (or method, partial); None for another callable."""
    while isinstance(function, MethodType | partial | staticmethod | classmethod):
        function = function.func if isinstance(function, partial) else function.__func__
    found = getattr(function, "__durable__", None)
    return found if isinstance(found, Compiled) else None


def twin_of(function: Any, *, back_edges: bool = False) -> Callable[..., Any] | None:
    """What a host calls instead of `function`, with the same arguments; None for an ordinary callable.

    For a plain function: a generator function whose result comes with StopIteration. For a generator function: one with
    the same yields, in which calls suspend too. For `async def`: the durable function. Bound methods and partials keep
    their arguments. `back_edges`: loops too can be suspended, at the end of a pass, when `back_edges_due()` was called.
    """
    if isinstance(function, MethodType):
        inner = twin_of(function.__func__, back_edges=back_edges)
        return None if inner is None else MethodType(inner, function.__self__)
    if isinstance(function, partial):
        inner = twin_of(function.func, back_edges=back_edges)
        return None if inner is None else partial(inner, *function.args, **function.keywords)
    compiled = compiled_of(function)
    if compiled is not None:
        twin: Callable[..., Any] = compiled.looping_twin if back_edges else compiled.twin
        return twin
    return suspending(function)

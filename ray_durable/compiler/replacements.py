"""What stands in for a call or an awaited object inside durable code.

Upper layers register callables (`suspends`: time.sleep, ray.get) and types of awaitables (`awaits`: ray.ObjectRef);
undecorated generators and coroutines that durable code delegates to are adopted: compiled on first use, as they stand
un-started. Everything here is on the path of a call, hence the plain dictionaries.
"""

from __future__ import annotations

import gc
import inspect
import operator
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from sys import getrefcount
from types import AsyncGeneratorType, CodeType, CoroutineType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any

from ray_durable.compiler.unit import CO_ITERABLE_COROUTINE, UNITS, Unit
from ray_durable.errors import CompileError

Callback = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Replacement:
    """What is called instead of a registered callable: `yield from twin(…)`, and in async code `coroutine(…)`, or
    `await awaited(…)`."""

    callable: Any  # keeps its id from being used again
    twin: Callback | None
    coroutine: Callback | None
    awaited: Callback | None


REPLACEMENTS: dict[int, Replacement] = {}  # by id of the callable, as not all of them can be hashed
AWAITS: dict[type, Callable[[Any], Any]] = {}


def suspends(
    callable: Any, twin: Callback | None, coroutine: Callback | None = None, *, awaited: Callback | None = None
) -> None:
    """Let calls of `callable` inside durable code suspend.

    `twin`: a durable generator function with the same parameters (or one that returns an iterator), delegated to in
    plain and generator functions, and in `async def` bodies too unless `coroutine` is given: that is called there
    instead, and its result used in its place.
    `awaited`: called instead by `await callable(…)`, where `callable` is not awaitable natively; default `coroutine`.

    Example: suspends(time.sleep, durable_sleep)
    """
    REPLACEMENTS[id(callable)] = Replacement(callable, twin, coroutine, awaited or coroutine)


def awaits(kind: type, adapt: Callable[[Any], Any]) -> None:
    """Let `await x`, with an x of exactly this type, await `adapt(x)` inside durable code.

    Example: awaits(ray.ObjectRef, wait_for_ref)
    """
    AWAITS[kind] = adapt


def suspending(function: Any) -> Callback | None:
    """What a twin delegates to instead of calling `function`; None where an ordinary call is right."""
    found = REPLACEMENTS.get(id(function))
    if found is not None:
        return found.twin
    kind = type(function)
    if kind is FunctionType:
        compiled = function.__dict__.get("__durable__")
        if compiled is None:
            unit = UNITS.get(id(function.__code__))
            if (unit is not None and unit.kind == "plain") or id(function.__code__) in INSIDE:
                return twin_of_nested(function)
            if unit is None and function.__code__.co_flags & GENERATOR_FLAGS == CO_GENERATOR:
                return maker_of(function)
        elif compiled.kind == "plain":
            twin: Callback = compiled.twin
            return twin
    elif kind is MethodType:
        inner = suspending(function.__func__)
        return None if inner is None else MethodType(inner, function.__self__)
    elif kind is partial:
        inner = suspending(function.func)
        return None if inner is None else partial(inner, *function.args, **function.keywords)
    elif kind not in BUILTIN_KINDS and not isinstance(function, type):
        called = kind.__dict__.get("__call__")
        inner = suspending(called) if type(called) is FunctionType else None
        return None if inner is None else MethodType(inner, function)
    return None


def maker_of(function: FunctionType) -> Callback | None:
    """What is delegated to instead of calling an undecorated generator function: returns a durable generator at once,
    wherever that may be kept and stepped through."""
    from ray_durable.compiler.adoption import maker

    made = maker(function)
    return None if made is None else named_like(function, partial(making, made))


def making(function: Callback, /, *arguments: Any, **keywords: Any) -> Generator[Any, Any, Any]:
    return function(*arguments, **keywords)
    yield


def twin_of_nested(function: FunctionType) -> Callback | None:
    """The twin of a plain function, or lambda, that was defined inside durable code."""
    from ray_durable.compiler.decoration import like
    from ray_durable.compiler.pipeline import compile_function

    known = NESTED_TWINS.get(id(function.__code__))
    if known is None:
        try:
            unit = compile_function(function, "twin")
        except CompileError:  # a lambda's source may be gone
            unit = None
        known = NESTED_TWINS[id(function.__code__)] = (function.__code__, unit)
    return None if known[1] is None else like(function, known[1].code)


CO_GENERATOR = inspect.CO_GENERATOR
GENERATOR_FLAGS = CO_GENERATOR | CO_ITERABLE_COROUTINE
NESTED_TWINS: dict[int, tuple[CodeType, Unit | None]] = {}  # by id of the native code, which is kept alive here
INSIDE: dict[int, CodeType] = {}  # by id: plain lambdas inside durable code, and restored functions that stood there
BOUND = frozenset({MethodType, type([].append), type("".__str__)})
BUILTIN_KINDS = frozenset({type(len), type(str.join), type("".__str__), type})


def method_site(receiver: Any, name: str, found: Any) -> tuple[Any, Any, Callback | None]:
    """What a call `receiver.name(…)`, whose attribute is `found`, may remember: a type of receivers or a callee that
    need no further check; and what to delegate to instead, if anything."""
    return remembered(receiver, name, found, suspending(found))


def method_site_async(receiver: Any, name: str, found: Any) -> tuple[Any, Any, Callback | None]:
    """The same for `async def` bodies."""
    return remembered(receiver, name, found, suspending_async(found))


def remembered(receiver: Any, name: str, found: Any, twin: Callback | None) -> tuple[Any, Any, Callback | None]:
    if twin is not None:
        return None, None, twin
    kind = type(receiver)
    if type(found) in BOUND and found.__self__ is receiver and kind is not ModuleType:
        own = getattr(kind, name, None)
        if type(found) is not MethodType or found.__func__ is own:
            return kind, None, None  # a method of the type: the same for all of its instances
    # what belongs to a module stays; anything else would be kept alive by the place that calls it
    return None, found if kind is ModuleType else None, None


def suspending_async(function: Any) -> Callback | None:
    """Like `suspending`, for `async def` bodies: what to await instead of a plain call."""
    found = REPLACEMENTS.get(id(function))
    if found is not None and found.coroutine is not None:
        return named_like(function, partial(immediately, found.coroutine))
    twin = suspending(function)
    return None if twin is None else named_like(function, partial(awaiting, twin))


def named_like(function: Any, stand_in: partial[Any]) -> partial[Any]:
    """`stand_in`, under the name by which CPython calls `function` when a call has a keyword twice."""
    for name in ("__module__", "__qualname__"):
        if (value := getattr(function, name, None)) is not None:
            setattr(stand_in, name, value)
    return stand_in


async def immediately(function: Callback, /, *arguments: Any, **keywords: Any) -> Any:
    """Call without suspending; durable code awaits this like the others."""
    return function(*arguments, **keywords)


def awaiting(twin: Callback, /, *arguments: Any, **keywords: Any) -> Any:
    """The awaitable of a twin's run."""
    return Awaited(twin(*arguments, **keywords))


def replaced(function: Any) -> Any:
    """The callee of `await f(…)`: what is registered in the place of f, else f itself."""
    found = REPLACEMENTS.get(id(function))
    if found is None or found.awaited is None:
        return function
    return found.awaited


def ready(awaitable: Any) -> Any:
    """What `await` awaits: registered types adapted, coroutines of undecorated functions adopted."""
    kind = type(awaitable)
    if kind is CoroutineType:
        return awaitable if id(awaitable.cr_code) in UNITS else adopt(awaitable)
    if kind is GeneratorType:  # by `types.coroutine`
        return awaitable if id(awaitable.gi_code) in UNITS else adopt(awaitable)
    adapt = AWAITS.get(kind)
    if adapt is not None:
        return adapt(awaitable)
    steps = getattr(kind, "__await__", None)
    if type(steps) is FunctionType:  # a class of the user's: what it delegates to may be durable
        return Awaited(adopt_steps(steps(awaitable)))
    return awaitable


class Awaited:
    """An awaitable whose steps are those of `generator`, as a durable awaitable's were when it was captured."""

    __slots__ = ("generator",)

    def __init__(self, generator: Any) -> None:
        self.generator = generator

    def __await__(self) -> Any:
        return self.generator

    __iter__ = __await__  # for a `yield from` under `types.coroutine`


def adopt_steps(steps: Any) -> Any:
    """What an `__await__` returned, with an undecorated generator or coroutine in it adopted."""
    kind = type(steps)
    if kind is GeneratorType:
        return steps if id(steps.gi_code) in UNITS else adopt(steps)
    if kind is COROUTINE_WRAPPER:
        coroutine = next(each for each in gc.get_referents(steps) if type(each) is CoroutineType)
        return steps if id(coroutine.cr_code) in UNITS else adopt(coroutine).__await__()
    return steps


def coroutine_wrapper() -> type:
    """The type of what `coroutine.__await__()` returns."""

    async def probe() -> None: ...

    coroutine = probe()
    found = type(coroutine.__await__())
    coroutine.close()
    return found


COROUTINE_WRAPPER = coroutine_wrapper()
HOLDERS = frozenset({enumerate, filter, map, zip})
ADOPTABLE = HOLDERS | {GeneratorType}


def delegate(source: Any) -> Any:
    """What `yield from` (or a loop) runs through: generators of undecorated functions are adopted."""
    kind = type(source)
    if kind is GeneratorType:
        return source if id(source.gi_code) in UNITS else adopt(source)
    if kind is AsyncGeneratorType:
        return source if id(source.ag_code) in UNITS else adopt(source)
    if kind is CoroutineType:  # in a generator function under `types.coroutine`
        return source if id(source.cr_code) in UNITS else adopt(source)
    if kind is COROUTINE_WRAPPER:
        return adopt_steps(source)
    if type(getattr(kind, "__iter__", None)) is FunctionType:  # a class of the user's, whose generator may be durable
        iterator = iter(source)
        return delegate(iterator) if type(iterator) is GeneratorType else Awaited(iterator)
    if kind in HOLDERS and getrefcount(source) <= 2:
        return adopted_alone(source)
    return source


def adopted_alone(iterator: Any) -> Any:
    """An iterator whose type is in `ADOPTABLE`, and which nobody else has: generators of undecorated functions, also
    those that only it steps through, are adopted."""
    if type(iterator) is GeneratorType:
        return iterator if id(iterator.gi_code) in UNITS else adopt(iterator)
    make, held, *state = iterator.__reduce__()
    alone = 3 if make is zip else 4  # `each`, the question, and the tuple, which is a zip's own
    steps: list[Any] = []
    for each in held:
        is_ours = type(each) in ADOPTABLE and getrefcount(each) <= alone
        steps.append(adopted_alone(each) if is_ours else each)
    if all(map(operator.is_, held, steps)):
        return iterator
    made = make(*steps)
    for each in state:
        made.__setstate__(each)
    return made


def manager(source: Any) -> Any:
    """The manager of a `with`: the generator inside one of `contextlib` is adopted."""
    if (generator := generator_of(source)) is not None:
        source.gen = delegate(generator)
    return source


def generator_of(manager: Any) -> Any:
    """The generator of a `contextlib` manager; None for other values, whose own `__getattr__` is not asked."""
    return getattr(manager, "gen", None) if type(manager).__module__ == "contextlib" else None


def adopt(suspended: Any) -> Any:
    """The durable equivalent of an un-started native object; the object itself where there is none."""
    from ray_durable.compiler.adoption import adopted

    return adopted(suspended)

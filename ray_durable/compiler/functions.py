"""Functions that no import finds: pickled by their source, with the cells and globals that they use.

A function of a module is pickled by name, as ever. One of `__main__`, a notebook, an `exec` or a function's body is
pickled as its `Source`, its defaults and attributes, its closure and the globals that it names. It is compiled again
where it is loaded, so a checkpoint does not depend on one Python version's bytecode. Cells are pickled as objects of
their own, so that functions that share a variable go on sharing it; so are namespaces, so that functions of one module
go on sharing its globals. Cycles (recursion, mutual recursion, a function in its own cell) are kept: every object is
made empty first, and filled when all that it refers to exists.

A lambda, or a function whose source is gone, goes the way of `cloudpickle`: by bytecode, for the same Python version.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import inspect
import io
import os
import sys
import types
import typing
import weakref
from typing import Any

from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.compiler import sources
from ray_durable.compiler.replacements import INSIDE
from ray_durable.compiler.unit import Source, unit_of
from ray_durable.errors import CompileError

Reduced = tuple[Any, ...]
MAIN = "__main__"
PICKLE_KNOWS = (type(None), type(...), type(NotImplemented))


# ---- cells -----------------------------------------------------------------------------------------------------------


def new_cell() -> types.CellType:
    return types.CellType()


def fill_cell(cell: types.CellType, contents: tuple[Any]) -> None:
    cell.cell_contents = contents[0]


def reduce_cell(cell: types.CellType) -> Reduced:
    """A closure cell, made empty and then filled; one without a value stays so."""
    try:
        contents = (cell.cell_contents,)
    except ValueError:
        return new_cell, ()
    return new_cell, (), contents, None, None, fill_cell


# ---- modules and namespaces ------------------------------------------------------------------------------------------


def reduce_module(module: types.ModuleType) -> Reduced:
    """A module, by its name."""
    return importlib.import_module, (module.__name__,)


class Namespace:
    """Stands for the globals of functions that no import finds; unpickled, it is the dict itself.

    Functions of one namespace share it. Each puts in the names that it uses; what is there already stays."""

    __slots__ = ("__weakref__", "variables")

    def __init__(self, variables: dict[str, Any]) -> None:
        self.variables = variables

    def __reduce__(self) -> Reduced:
        main = sys.modules.get(MAIN)
        if main is not None and main.__dict__ is self.variables:
            return new_namespace, (MAIN, main_file(), SESSION)
        origin = ORIGINS.get(id(self.variables))
        if origin is not None:
            return new_namespace, origin
        return new_namespace, (self.variables.get("__name__"),)


NAMESPACES: weakref.WeakValueDictionary[int, Namespace] = weakref.WeakValueDictionary()  # by id of the dict
SESSION = SYSTEM_CLOCK.unique()  # tells this process from others


def main_file() -> str | None:
    """The script that this process runs, if it runs one."""
    filename = getattr(sys.modules.get(MAIN), "__file__", None)
    return os.path.abspath(filename) if filename else None


def new_namespace(name: str | None, filename: str | None = None, session: str | None = None) -> dict[str, Any]:
    """An empty namespace; or that of `__main__`, in the process that pickled it or another run of the same script."""
    if session == SESSION or (filename is not None and filename == main_file()):
        return sys.modules[MAIN].__dict__
    origin = name, filename, session
    made = INTERNED.get(origin) if session is not None else None
    if made is None:
        made = {"__name__": name, "__builtins__": builtins}
        if session is not None:  # all that comes from one driver shares its globals, as it did there
            INTERNED[origin] = made
            ORIGINS[id(made)] = origin
    return made


Origin = tuple[str | None, str | None, str | None]  # name, script and session of a namespace
INTERNED: dict[Origin, dict[str, Any]] = {}
ORIGINS: dict[int, Origin] = {}  # by id of the dict, which `INTERNED` keeps


def namespace_of(variables: dict[str, Any]) -> str | Namespace:
    """How a pickled function names its globals: by module, or by value."""
    name = variables.get("__name__")
    if isinstance(name, str) and name != MAIN:
        module = sys.modules.get(name)
        if module is not None and module.__dict__ is variables and getattr(module, "__spec__", None) is not None:
            return name
    found = NAMESPACES.get(id(variables))
    if found is None:
        found = NAMESPACES[id(variables)] = Namespace(variables)
    return found


def globals_of(namespace: str | dict[str, Any]) -> dict[str, Any]:
    """The live dict that `namespace_of` named."""
    if isinstance(namespace, str):
        return (sys.modules.get(namespace) or importlib.import_module(namespace)).__dict__
    return namespace


def used_globals(code: types.CodeType, namespace: str | Namespace) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The globals that a function names, if they go by value, and the submodules that it reaches through them."""
    if isinstance(namespace, str):
        return {}, ()
    names = names_in(code)
    used = {name: namespace.variables[name] for name in sorted(names) if name in namespace.variables}
    packages = [value.__name__ for value in used.values() if isinstance(value, types.ModuleType)]
    reached = {f"{package}.{name}" for package in packages for name in names} & sys.modules.keys()
    return used, tuple(sorted(reached))


@functools.lru_cache(maxsize=4096)
def names_in(code: types.CodeType) -> frozenset[str]:
    """All global and attribute names in a code object and those nested in it."""
    nested = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return frozenset(code.co_names).union(*(names_in(inner) for inner in nested))


# ---- functions -------------------------------------------------------------------------------------------------------


def is_importable(function: Any) -> bool:
    """Whether importing its module finds this very object, in any process: so not in `__main__`."""
    module_name = getattr(function, "__module__", None)
    if module_name == "builtins":  # not all are there: `mappingproxy` is not, nor is `NoneType`, which pickle knows
        return function in PICKLE_KNOWS or getattr(builtins, function.__qualname__, None) is function
    found: Any = sys.modules.get(module_name) if module_name and module_name != MAIN else None
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is function


def reduce_function(function: types.FunctionType) -> Any:
    """A function by its source; NotImplemented if it goes by name, as pickle does by itself."""
    if is_importable(function):
        return NotImplemented
    try:
        source = sources.source_of(function)
    except CompileError:
        return reduce_by_bytecode(function)
    namespace = namespace_of(function.__globals__)
    attributes = {name: value for name, value in vars(function).items() if name not in NOT_KEPT}
    durable = "__durable__" in vars(function)
    code = vars(function)["__durable__"].original.__code__ if durable else function.__code__
    state = (
        *used_globals(code, namespace),
        function.__defaults__,
        function.__kwdefaults__,
        function.__annotations__ or None,
        attributes or None,
        *filter(None, [getattr(function, "__type_params__", ())]),
    )
    arguments: Reduced = (source, namespace, function.__closure__ or (), durable)
    if not durable and (unit_of(code) is not None or id(code) in INSIDE):
        arguments = (*arguments, True)
    return make_function, arguments, state, None, None, fill_function


SUSPENDABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
NOT_KEPT = frozenset({"__durable__", "__wrapped__", "upgrade"})  # `durable` makes them anew


def make_function(
    source: Source,
    namespace: str | dict[str, Any],
    cells: tuple[types.CellType, ...],
    durable: bool,
    inside: bool = False,
) -> types.FunctionType:
    """A function from its source; `fill_function` does the rest. `inside`: it stood in durable code."""
    code = sources.code_of(source)
    by_name = dict(zip(source.free, cells, strict=True))
    closure = tuple(by_name[name] for name in code.co_freevars)
    made = types.FunctionType(code, globals_of(namespace), source.qualname.rpartition(".")[2], None, closure)
    made.__qualname__ = source.qualname
    made.__module__ = source.module
    if inside:
        return suspending_again(made)
    return compile_again(made, source) if durable else made


def suspending_again(made: types.FunctionType) -> types.FunctionType:
    """A function that suspends where it did when it stood inside durable code."""
    from ray_durable.compiler.adoption import maker

    if not made.__code__.co_flags & SUSPENDABLE:
        INSIDE[id(made.__code__)] = made.__code__
        return made
    return maker(made) or made


def compile_again(made: types.FunctionType, source: Source) -> types.FunctionType:
    """The durable function that `made`, its source, was compiled to."""
    from ray_durable.compiler import identity

    return identity.durable_from(made, source)


def fill_function(function: types.FunctionType, state: tuple[Any, ...]) -> None:
    used, submodules, defaults, keyword_defaults, annotations, attributes, *later = state
    for name in submodules:
        importlib.import_module(name)
    for name, value in used.items():
        function.__globals__.setdefault(name, value)
    compiled = vars(function).get("__durable__")
    for each in (function,) if compiled is None else (function, compiled.original):
        each.__defaults__ = defaults
        each.__kwdefaults__ = keyword_defaults
        each.__annotations__ = annotations or {}
        if later and sys.version_info >= (3, 12):
            each.__type_params__ = later[0]
        each.__dict__.update(attributes or {})


def reduce_by_bytecode(value: Any) -> Any:
    """By `cloudpickle`: a function without source, or a class that no import finds."""
    import cloudpickle

    return cloudpickle.CloudPickler(io.BytesIO()).reducer_override(value)


@functools.cache
def class_parts() -> dict[type, Any]:
    """How `cloudpickle` reduces what classes hold: properties, a dataclass's marks, bytecode … Not memoryviews, which
    it makes bytes of."""
    import cloudpickle

    parts = {kind: reduce for kind, reduce in cloudpickle.CloudPickler.dispatch_table.items() if kind is not memoryview}
    parts[functools.cached_property] = reduce_cached_property
    parts |= dict.fromkeys((typing.TypeVar, typing.ParamSpec, typing.TypeVarTuple), reduce_type_parameter)
    return parts


def reduce_type_parameter(found: Any) -> Any:
    """By name, or, of a definition inside a function, by value."""
    if isinstance(found, typing.TypeVar) and not getattr(found, "__infer_variance__", False):  # a class may share it
        import cloudpickle

        return cloudpickle.CloudPickler.dispatch_table[type(found)](found)
    name = found.__name__
    if found.__module__ != MAIN and getattr(sys.modules.get(found.__module__), name, None) is found:
        return name
    names = ("bound", "covariant", "contravariant", "infer_variance")
    given = {each: value for each in names if (value := getattr(found, f"__{each}__", None))}
    if sys.version_info >= (3, 13) and found.has_default():
        given["default"] = found.__default__
    return new_type_parameter, (type(found), name, getattr(found, "__constraints__", ()), given)


def new_type_parameter(kind: Any, name: str, constraints: tuple[Any, ...], given: dict[str, Any]) -> Any:
    return kind(name, *constraints, **given)


def reduce_cached_property(found: functools.cached_property[Any]) -> Any:
    """Without its lock, which Python 3.11 gives it."""
    return cached_property, (found.func, found.attrname)


def cached_property(function: Any, name: str | None) -> Any:
    made = functools.cached_property(function)
    made.attrname = name
    return made

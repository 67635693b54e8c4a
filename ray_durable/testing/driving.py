"""Drivers: the objects that a conformance run gives to a package in the place of its own generators and coroutines.

The object must stay the same one while the durable generator behind it is replaced at every suspension, so it is a
native generator of its own, the driver. `driver_of` writes one for each function, so that as little
of it as possible shows: it has the function's signature, name, file, line, closure and kind; its un-started frame holds
the arguments; it adds one frame to the stack and none to tracebacks, and holds no value longer than natively.

An object that delegates to a driver is captured down to it, and restored onto the same driver: told to stand, that
takes two steps without driving anything on. (So the code of a coroutine's driver is a generator's, with another flag:
it can suspend without awaiting anything, and then be awaited again.)
"""

from __future__ import annotations

import ast
import collections
import ctypes
import sys
import types
import weakref
from collections.abc import Callable, Generator
from typing import Any

from ray_durable.compiler.parsing import parse
from ray_durable.compiler.unit import CO_ITERABLE_COROUTINE, Unit, register, unit_of
from ray_durable.testing.bodies import CODE, CONSTANTS, show

CO_VARARGS, CO_VARKEYWORDS, CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR = 0x04, 0x08, 0x20, 0x80, 0x200
KINDS = (CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR)
START = "start\0"  # the constant in whose place the code gets its `Start`

STEPS = """
def factory({free}):
    {kind} driver({parameters}):
        {own} = {start!r}.begin((lambda: ({free})).__closure__, {arguments})
        {forget}
        while True:
            try:
                {own}.item = {step}
            except {ended} as {error}:
                return{value}
            except BaseException as {error}:
                {own}.strip({error})
                raise
            {own}.renew()
            try:
                {own}.sent = {pause}
                while {own}.taken("standing"):
                    yield
                    {own}.sent = {pause}
            except BaseException as {error}:
                {own}.strip({error})
                {own}.thrown = {error}
"""
STEP, NEXT = "{own}.method()({own}.argument())", "await {own}.step()"
PAUSE = "yield {own}.taken('item')"
WORDS = {
    CO_GENERATOR: ("def", STEP, "StopIteration", " {error}.value", PAUSE),
    CO_COROUTINE: ("def", STEP, "StopIteration", " {error}.value", "yield from {own}.pause()"),
    CO_ASYNC_GENERATOR: ("async def", NEXT, "StopAsyncIteration", "", PAUSE),
}  # by kind: the definition, a step, how it says that it is the last, what is returned then, how the driver suspends


class Driven:
    """A suspended object that is driven, and what goes into it next; as natively, none of that is held meanwhile."""

    __slots__ = ("item", "passed", "renewed", "sent", "standing", "suspended", "thrown")

    def __init__(self, suspended: Any, renewed: Callable[[Any], Any]) -> None:
        self.suspended = suspended
        self.renewed = renewed
        self.sent: Any = None
        self.thrown: BaseException | None = None
        self.item: Any = None
        self.passed: Callable[[], Any] = type(None)  # the driver that it delegates to since it was replaced
        self.standing: Any = None  # true: a step leads to where it may be awaited again, and one more back

    def taken(self, name: str) -> Any:
        value = getattr(self, name)
        setattr(self, name, None)
        return value

    def method(self) -> Any:
        return self.suspended.send if self.thrown is None else self.suspended.throw

    def argument(self) -> Any:
        return self.taken("sent" if self.thrown is None else "thrown")

    def step(self) -> Any:
        """The awaitable of an async generator's next step."""
        if self.thrown is not None:
            return without_hooks(self.suspended.athrow, self.taken("thrown"))
        return without_hooks(self.suspended.asend, self.taken("sent"))

    def renew(self) -> None:
        """Replace what has suspended, unless it has not run since: it only passes on what it delegates to."""
        delegate = self.delegate()
        if delegate is None or delegate is not self.passed():
            self.suspended = untraced(self.renewed, self.suspended)
            forget_left()
            delegate = self.delegate()
            self.passed = type(None) if delegate is None else weakref.ref(delegate)

    def delegate(self) -> Any:
        """The driver that it delegates to, and that has not ended: so the same one says that nothing ran."""
        read = DELEGATES.get(type(self.suspended))
        found = None if read is None else read(self.suspended)
        return found if is_driver(found) and FRAMES[type(found)](found) is not None else None

    def pause(self) -> Generator[Any, Any, Any]:
        """What the driver of a coroutine delegates to, so that CPython knows that it is being awaited."""
        return (yield self.taken("item"))

    def strip(self, error: BaseException) -> None:
        """Take drivers off the top of a traceback."""
        traceback = error.__traceback__
        while traceback is not None and runs_driver(traceback.tb_frame):
            traceback = traceback.tb_next
        error.__traceback__ = traceback


LEFT: list[tuple[weakref.ref[Any], types.FrameType]] = []  # frames of objects that were replaced


def forget_left() -> None:
    """Clear the frames in `LEFT` whose object has gone, so that nothing is run by it."""
    for original, native in LEFT:
        if original() is None:
            native.clear()
    LEFT.clear()


def without_hooks(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call, while async generators that are started are not shown to the event loop: it knows their drivers."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return function(*arguments)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def untraced(function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
    """Call, while whoever traces, profiles or monitors is not told what happens."""
    if GET_TRACE() is None and GET_PROFILE() is None and not MONITORS:
        return function(*arguments, **named)
    thread = PYTHON.PyThreadState_Get()
    PYTHON.PyThreadState_EnterTracing(thread)
    try:
        return function(*arguments, **named)
    finally:
        PYTHON.PyThreadState_LeaveTracing(thread)


MONITORS: set[tuple[int, int]] = set()  # callbacks of `sys.monitoring`: the tool, and the event
PYTHON = ctypes.PyDLL(None)
PYTHON.PyThreadState_Get.restype = ctypes.c_void_p
PYTHON.PyThreadState_EnterTracing.argtypes = PYTHON.PyThreadState_LeaveTracing.argtypes = (ctypes.c_void_p,)
GET_FRAME, GET_TRACE, GET_PROFILE = sys._getframe, sys.gettrace, sys.getprofile  # as they are before `hiding`


class Start:
    """Makes the object that a driver drives, on the driver's first step."""

    def __init__(self, code: types.CodeType, renewed: Callable[[Any], Any], let_go: Callable[[Any], None]) -> None:
        self.code, self.renewed, self.let_go = code, renewed, let_go
        self.awaitable: types.CodeType | None = None  # the code as `types.coroutine` leaves it

    def begin(self, cells: Any, /, *args: Any, **kwargs: Any) -> Driven:
        return untraced(self.driven, GET_FRAME(1), cells, *args, **kwargs)  # type: ignore[no-any-return]

    def driven(self, driver: types.FrameType, cells: Any, /, *args: Any, **kwargs: Any) -> Driven:
        code = self.code
        if driver.f_code.co_flags & CO_ITERABLE_COROUTINE:  # by `types.coroutine`, later
            code = self.awaitable = self.awaitable or code.replace(co_flags=code.co_flags | CO_ITERABLE_COROUTINE)
            if unit := unit_of(code):
                show(driver.f_code, code, unit.resume())
        made = types.FunctionType(code, driver.f_globals, code.co_name, None, cells)
        suspended = made(*args, **kwargs)
        self.let_go(suspended)
        return Driven(suspended, self.renewed)


def driver_of(code: types.CodeType, renewed: Callable[[Any], Any], let_go: Callable[[Any], None]) -> types.CodeType:
    """The code of a function whose objects drive those of the durable function with this code; functions inside are
    driven likewise.

    `renewed` gives what goes on in the place of an object that has suspended. `let_go` is told of each object that is
    made: its driver answers for it, so that dropped it must neither run nor warn."""
    unit = unit_of(code)
    assert unit is not None, code
    resume = unit.resume()  # now, not under a test's tracer or clock
    unit.code = with_drivers(code, renewed, let_go)
    unit.resume_code = with_drivers(resume, renewed, let_go)
    return registered(driver_code(unit.code, Start(unit.code, renewed, let_go)), unit, unit.code)


def with_drivers(code: types.CodeType, renewed: Callable[[Any], Any], let_go: Callable[[Any], None]) -> types.CodeType:
    """Durable code whose inner functions that suspend are drivers."""
    constants = list(code.co_consts)
    for index, each in enumerate(constants):
        if not isinstance(each, types.CodeType) or id(CONSTANTS(each)) in CODES:
            continue
        unit = unit_of(each)
        constants[index] = inner = with_drivers(each, renewed, let_go)
        if unit is not None and unit.kind != "plain" and each.co_name.isidentifier():  # else a generator expression
            COUNTS["functions"] += 1
            unit.resume_code = with_drivers(unit.resume(), renewed, let_go)
            constants[index] = registered(driver_code(inner, Start(inner, renewed, let_go)), unit, inner)
    if all(new is old for new, old in zip(constants, code.co_consts, strict=True)):
        return code
    found, unit = code.replace(co_consts=tuple(constants)), unit_of(code)
    if unit is not None:
        register(found, unit)
        KEPT.append((code, found))
    return found


def registered(driver: types.CodeType, unit: Unit, fresh: types.CodeType) -> types.CodeType:
    register(driver, unit)  # to durable code a driver is durable, and needs no adoption
    show(driver, fresh, unit.resume())
    CODES[id(CONSTANTS(driver))] = driver
    return driver


COUNTS: collections.Counter[str] = collections.Counter()  # of functions, and of suspensions by what became of them
KEPT: list[tuple[types.CodeType, types.CodeType]] = []  # units are found by the ids of code objects
PAUSE_CODE = Driven.pause.__code__
CODES = {id(CONSTANTS(PAUSE_CODE)): PAUSE_CODE}  # by id of their constants, which copies of a code object share


def runs_driver(frame: types.FrameType) -> bool:
    return id(CONSTANTS(CODE(frame))) in CODES


def is_driver(suspended: Any) -> bool:
    kind = type(suspended)
    if kind is types.GeneratorType:
        return id(CONSTANTS(suspended.gi_code)) in CODES
    if kind is types.CoroutineType:
        return id(CONSTANTS(suspended.cr_code)) in CODES
    return kind is types.AsyncGeneratorType and id(CONSTANTS(suspended.ag_code)) in CODES


DELEGATES: dict[type, Callable[[Any], Any]] = {
    types.GeneratorType: vars(types.GeneratorType)["gi_yieldfrom"].__get__,
    types.CoroutineType: vars(types.CoroutineType)["cr_await"].__get__,
}
FRAMES: dict[type, Callable[[Any], Any]] = {  # as they are before `hiding`
    types.GeneratorType: vars(types.GeneratorType)["gi_frame"].__get__,
    types.CoroutineType: vars(types.CoroutineType)["cr_frame"].__get__,
    types.AsyncGeneratorType: vars(types.AsyncGeneratorType)["ag_frame"].__get__,
}


def driven_in(frame: Any) -> Driven | None:
    """What the driver with this frame drives, if it has begun."""
    variables = frame.f_locals
    found = next((value for value in variables.values() if type(value) is Driven), None)
    if sys.version_info < (3, 13):
        variables.clear()  # the frame keeps this dictionary, and with it what its values refer to
    return found


def stand(driver: Any) -> None:
    """Let a suspended driver, of a generator or a coroutine, be delegated to anew: by something whose first step leads
    it back to where it is now."""
    found = driven_in(FRAMES[type(driver)](driver))
    assert found is not None
    found.standing = True
    driver.send(None)


def driver_code(code: types.CodeType, start: Start) -> types.CodeType:
    """The code of a driver with the signature, free variables and place of `code`."""
    kind = next(kind for kind in KINDS if code.co_flags & kind)
    parameters, arguments, names = signature(code)
    taken = {*names, *code.co_freevars}
    own, error = (unlike(name, taken) for name in ("driven", "error"))
    definition, step, ended, value, pause = (word.format(own=own, error=error) for word in WORDS[kind])
    text = STEPS.format(
        free=", ".join(code.co_freevars), parameters=", ".join(parameters), arguments=", ".join(arguments),
        forget=f"del {', '.join(names)}" if names else "", start=START, own=own, error=error,
        kind=definition, step=step, ended=ended, value=value, pause=pause,
    )  # fmt: skip
    tree = parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.expr | ast.arg | ast.excepthandler):
            node.lineno = node.end_lineno = code.co_firstlineno
            node.col_offset = node.end_col_offset = 0
    found = inside(inside(compile(tree, code.co_filename, "exec", dont_inherit=True)))
    flags = found.co_flags & ~CO_GENERATOR | CO_COROUTINE if kind == CO_COROUTINE else found.co_flags
    constants = tuple(start if each == START else each for each in found.co_consts)
    return found.replace(co_name=code.co_name, co_qualname=code.co_qualname, co_consts=constants, co_flags=flags)


def inside(code: types.CodeType) -> types.CodeType:
    return next(each for each in code.co_consts if isinstance(each, types.CodeType))


def unlike(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def signature(code: types.CodeType) -> tuple[list[str], list[str], list[str]]:
    """The parameters of `code` as a definition has them, how a call passes them on, and their names."""
    names = list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    positional, keywords = names[: code.co_argcount], names[code.co_argcount :]
    rest = list(code.co_varnames[len(names) :])
    parameters, arguments = list(positional), list(positional)
    if code.co_posonlyargcount:
        parameters.insert(code.co_posonlyargcount, "/")
    if code.co_flags & CO_VARARGS:
        names.append(rest.pop(0))
        parameters.append(f"*{names[-1]}")
        arguments.append(f"*{names[-1]}")
    elif keywords:
        parameters.append("*")
    parameters += keywords
    arguments += [f"{name}={name}" for name in keywords]
    if code.co_flags & CO_VARKEYWORDS:
        names.append(rest.pop(0))
        parameters.append(f"**{names[-1]}")
        arguments.append(f"**{names[-1]}")
    return parameters, arguments, names

"""What random programs are made with: managers, iterators, operands and helpers that log what is done to them."""

from __future__ import annotations

import contextlib
import functools

from ray_durable.compiler import durable
from tests.compiler.roundtrip import Step, pause


class Boom(Exception):
    pass


class Halt(BaseException):
    """No Exception."""


class Colour:
    red = 1


class Box:
    pause = staticmethod(pause)

    def __init__(self, v):
        self.v = v

    def add(self, *numbers, k=0):
        self.v += sum(numbers) + k
        return self.v


class Grid:
    """Operands whose every access is logged."""

    def __init__(self, log):
        super().__setattr__("log", log)

    def __getitem__(self, key):
        return len(self.log("get item", key) and str(key))

    def __setitem__(self, key, value):
        self.log("set item", key, value)

    def __delitem__(self, key):
        self.log("delete item", key)

    def __getattr__(self, name):
        self.log("get", name)
        return len(name)

    def __setattr__(self, name, value):
        self.log("set", name, value)

    def __delattr__(self, name):
        self.log("delete", name)

    def __imatmul__(self, other):
        self.log("@=", other)
        return self


class Odd:
    """An operand whose comparisons and truth are logged."""

    def __init__(self, log, n):
        self.log, self.n = log, n

    def __bool__(self):
        self.log("bool", self.n)
        return bool(self.n % 2)

    def __lt__(self, other):
        self.log("less", self.n, getattr(other, "n", other))
        return Odd(self.log, self.n + 1)

    def __gt__(self, other):
        self.log("more", self.n, getattr(other, "n", other))
        return Odd(self.log, self.n)


class Count:
    """A callable that counts."""

    def __init__(self):
        self.n = -1

    def __call__(self):
        self.n += 1
        return self.n


class Countdown:
    """An iterator without `__iter__`, behind `Down`."""

    def __init__(self, n):
        self.n = n

    def __next__(self):
        if self.n <= 0:
            raise StopIteration
        self.n -= 1
        return self.n


class Down:
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return Countdown(self.n)


class Items:
    """Iterated by index."""

    def __init__(self, n):
        self.n = n

    def __getitem__(self, index):
        if index >= self.n:
            raise IndexError
        return index


class Base:
    tag = 0

    def __init_subclass__(cls, tag=0):
        cls.tag = tag

    def __init__(self, log, n=1):
        self.log, self.n = log, n

    def plain(self, n):
        return self.log("base", self.n + n)

    def steps(self, n):
        try:
            yield self.n
        finally:
            self.log("base steps", n)
        return n

    async def co(self, n):
        return self.log("base co", await Step(n), self.n)

    async def agen(self, n):
        yield self.n
        await Step(n)
        yield n


def deco(log, n):
    """A decorator with an argument, which wraps."""

    def decorate(function):
        log("decorated", function.__name__, n)

        @functools.wraps(function)
        def wrapper(*args, **options):
            return function(*args, **options)

        return wrapper

    return decorate


def kept(function):
    return function


def marked(kind):
    kind.mark = kind.__name__
    return kind


def chosen(log, n, kind):
    """An exception type for an `except`."""
    log("catching", n)
    return kind


def told(error):
    """An exception with what came before it."""
    found = []
    while error is not None and len(found) < 5:
        found.append(
            (repr(error), repr(error.__cause__), error.__suppress_context__, getattr(error, "__notes__", None))
        )
        error = error.__context__
    return found


@contextlib.contextmanager
def managed(log, n):
    """A manager made of a generator."""
    log("enter", n)
    try:
        yield n
    except KeyError as error:
        log("suppressed", str(error))
    finally:
        log("leave", n)


@contextlib.asynccontextmanager
async def amanaged(log, n):
    log("enter", await Step(("entering", n)))
    try:
        yield n
    except KeyError as error:
        log("suppressed", str(error), await Step("suppressing"))
    finally:
        log("leave", await Step(("leaving", n)))


class Manager:
    def __init__(self, log, name, suppress=()):
        self.log, self.name, self.suppress = log, name, suppress

    def __enter__(self):
        return self.log("enter", self.name)

    def __exit__(self, kind, error, traceback):
        self.log("exit", self.name, kind and kind.__name__, str(error))
        return kind is not None and issubclass(kind, self.suppress)


class AsyncManager(Manager):
    async def __aenter__(self):
        await Step(("entering", self.name))
        return self.__enter__()

    async def __aexit__(self, *error):
        await Step(("leaving", self.name))
        return self.__exit__(*error)


class Ticker:
    def __init__(self, log, n):
        self.log, self.n = log, n

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.n <= 0:
            raise StopAsyncIteration
        self.n -= 1
        await Step(("tick", self.n))
        return self.n


def source(log, n):
    """A generator that says when it is closed."""
    try:
        for i in range(n):
            got = yield i
            log("source got", got)
    finally:
        log("source closed", n)
    return n


def gen(n):
    for i in range(n):
        yield i + 1


async def asource(log, n):
    for i in range(n):
        yield i


@durable
async def asteps(log, n):
    """An async generator that says what happens to it. Steps of one that is held suspend only if it is durable."""
    try:
        for i in range(n):
            log("sent", (yield i), await Step(("between", i)))
    except ValueError as error:
        log("thrown", repr(error), await Step("handling"))
        yield 7
    finally:
        log("asteps closed", await Step("closing"))


async def helper(log, n):
    """An undecorated coroutine function."""
    try:
        return log("helper", await Step(n))
    finally:
        log("helper left", n)


class Awaited:
    def __init__(self, log, n):
        self.log, self.n = log, n

    def __await__(self):
        return helper(self.log, self.n).__await__()


@durable
def child(log, n):
    """A durable function that suspends by itself."""
    try:
        return log("child", pause(("child", n)))
    finally:
        log("child left", n)

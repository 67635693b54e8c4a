"""Coroutines: every await is a yield point; async iteration and managers suspend in their own code."""

import asyncio
import contextlib
import functools

from ray_durable.compiler import durable, suspends
from tests.compiler.roundtrip import Step, pause


async def sub(log, n):
    try:
        got = await Step(("sub", n))
        log("got", got)
        return n * 2
    finally:
        log("leave", n)


async def deep(log, n):
    return (await deep(log, n - 1) if n else await Step("bottom")) or n


class Ticker:
    def __init__(self, log, n):
        self.log, self.n = log, n

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.n:
            raise StopAsyncIteration
        self.n -= 1
        self.log("tick", (await Step(("tick", self.n))))
        return self.n


class Manager:
    def __init__(self, log, name, suppress=()):
        self.log, self.name, self.suppress = log, name, suppress

    async def __aenter__(self):
        self.log("enter", self.name, await Step(("enter", self.name)))
        return self

    async def __aexit__(self, kind, error, traceback):
        self.log("exit", self.name, kind and kind.__name__, str(error), await Step(("exit", self.name)))
        return kind is not None and issubclass(kind, self.suppress)


class Delegating:
    def __init__(self, log):
        self.log = log

    def __await__(self):
        return sub(self.log, 7).__await__()


async def numbers(log, n):
    try:
        for i in range(n):
            got = yield i
            log("sent", got, await Step(("inner", i)))
    finally:
        log("numbers closed", await Step("closing"))


async def awaits(log):
    log(await Step(1), await sub(log, 2) + await sub(log, 3))
    x = [await Step(4), await deep(log, 5), await Delegating(log)]
    log(x)
    c = sub(log, 8)
    await Step("before")
    return await c


async def iteration(log):
    async for x in Ticker(log, 3):
        if x == 1:
            continue
        log(x, await Step("body"))
    else:
        log("else", await Step("else"))
    async for x in numbers(log, 5):
        log(x, await Step("n"))
        if x == 1:
            break
    else:
        log("never")
    try:
        async for x in [1]:
            pass
    except TypeError as e:
        log(str(e))
    async for y.z in Ticker(log, 1) if (y := type("Y", (), {})) else None:
        log(y.z)


async def managers(log):
    async with Manager(log, "a") as a, Manager(log, "b", ValueError):
        log(a.name, await Step(1))
        raise ValueError("suppressed")
    for n in range(3):
        async with Manager(log, n, KeyError):
            if n == 1:
                continue
            await Step(n)
            if n == 2:
                break
            raise KeyError
    async with Manager(log, "r"):
        return await Step("returned")


async def manager_raises(log):
    try:
        async with Manager(log, "x"):
            raise OSError(await Step("body"))
    except OSError as e:
        log("caught", e.args)
    try:
        async with 5:
            pass
    except TypeError as e:
        log(type(e).__name__)


async def contextlib_managers(log):
    @contextlib.asynccontextmanager
    async def opened(name):
        log("open", name, await Step(("open", name)))
        try:
            yield name
        except KeyError as e:
            log("swallowed", e, await Step("swallow"))
        finally:
            log("close", name, await Step(("close", name)))

    async with opened("x") as x:
        log(x, await Step(1))
        raise KeyError("k")
    async with opened("y"), contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(Manager(log, "s"))
        await Step(2)


async def comprehensions(log):
    log([await Step(n) for n in range(3)])
    log({n: await Step(m) async for n in Ticker(log, 2) for m in range(2) if await Step("if") != 99})
    log(sorted(map(str, {x async for x in numbers(log, 2)})))
    n = "kept"
    log([[await Step((n, m)) for m in range(n)] for n in range(2)], n)
    log([f() for f in [lambda: n for n in [await Step("x")]]])


async def generator_expressions(log):
    g = (await Step(x) async for x in numbers(log, 2))
    async for x in g:
        log(x, await Step("held"))
    h = (x for x in range(3))
    log(next(h), await Step("sync"), list(h))
    return [y async for y in (z async for z in Ticker(log, 2) if z)]


async def exceptions(log):
    try:
        await sub(log, 1)
        raise ValueError("v")
    except (ValueError, KeyError) as e:
        log(repr(e), await Step("handler"))
        try:
            raise TypeError from e
        except TypeError as t:
            log(repr(t.__cause__), await Step("nested"))
    else:
        log(await Step("else"))
    finally:
        log(await Step("finally"))
    return 1


durable_numbers = durable(numbers)


async def steps_of_async_generators(log):
    numbers = durable_numbers
    g = numbers(log, 3)
    log(await anext(g), await g.asend("sent"))
    try:
        log(await g.athrow(KeyError("thrown in")))
    except KeyError as e:
        log(repr(e))
    log(await anext(g, "default"))
    h = numbers(log, 3)
    log(await anext(h))
    await h.aclose()


async def conditions(log):
    if await Step(1):
        log("then")
    elif not await Step(2) and await Step(3) or log("x"):
        log("elif")
    while (n := await Step("w")) is not None and n < 5:
        log(n)
    assert await Step(4) != 99, await Step(5)
    return (await Step(6)) if await Step(7) else f"{await Step(8)!r:>{await Step(9) or 4}}"


async def agen(log):
    try:
        got = yield 1
        log(got, await Step("a"))
        async for x in numbers(log, 2):
            log((yield x))
        try:
            yield 2
        finally:
            log("inner", await Step("b"), (yield 3))
    except KeyError as e:
        log(repr(e), (yield "k"))
    finally:
        log("closed")
    return


async def agen_of_nothing(log):
    await Step(1)
    if False:
        yield


@durable
def plain_child(log, n):
    log("child", pause(("child", n)))
    return n + 1


async def plain_durable_calls(log):
    a = plain_child(log, 1)
    b = [plain_child(log, n) for n in range(2)]
    log(a, b, functools.partial(plain_child, log)(5), len(b), sorted(b))
    return plain_child(log, plain_child(log, 8))


class Holder:
    async def method(self, log):
        f = lambda: self
        log(await Step("m"), f() is self, type(self).__name__)
        return await self._Holder__hidden(log)

    async def __hidden(self, log):
        return await Step("hidden")


async def methods(log):
    class Inner(Holder):
        async def method(self, log):
            return await super().method(log), __class__.__name__

    return await Inner().method(log)


def sleep_native(n):
    return Step(("sleep", n))


async def closures(log):
    total = 0

    async def add(n):
        nonlocal total
        total += n
        await Step(("add", total))
        return total

    log(await add(1), await add(2), total)
    for k in range(2):
        await add(k)
    return total


async def comprehension_variables_in_lambdas(log):
    fs = [(lambda: n * 10) for n in range(3) if await Step(n) != 99]
    log([f() for f in fs], await Step("after"), [f() for f in fs])
    log([sorted([3, 1, 2], key=lambda v: await_free(v, n)) for n in [await Step("x"), 1] if await Step(n) != 98])
    log([sum(x * y for y in [1, 2]) + (await Step(x) or 0) for x in range(3)])
    held = [(x * y for y in [1, 2]) for x in range(2) if await Step(x) != 97]
    log(next(held[0]), await Step("held"), list(held[0]), list(held[1]))


def await_free(v, n):
    return -v * (n or 1)

"""`async for` and `async with`: left and gone on with in every way, inside one another; private names in classes."""

import contextlib
import sys

from tests.compiler.random_parts import Boom, Box, Manager, Ticker, asource, managed
from tests.compiler.roundtrip import Step


class Am:
    def __init__(self, log, n, value=None, swallow=False):
        self.log, self.n, self.value, self.swallow = log, n, value, swallow

    async def __aenter__(self):
        self.log("aenter", self.n, await Step(("en", self.n)))
        return self.value

    async def __aexit__(self, kind, error, tb):
        self.log("aexit", self.n, kind and kind.__name__, str(error), repr(sys.exception()), await Step(("ex", self.n)))
        return self.swallow


async def target_attr(log):
    class Holder:
        pass

    o = Holder()
    async with Am(log, 1, 5) as o.x, Am(log, 2, [1, (2, 3)]) as (a, (b, *c)):
        log(o.x, a, b, c, await Step(1))
    items = {}
    async with Am(log, 3, 9) as items[await Step("key")]:
        log(sorted(map(str, items)))
    return await Step("end")


async def target_fails(log):
    try:
        async with Am(log, 1, 5) as (a, b):
            log("never")
    except TypeError as e:
        log("caught", str(e), await Step("in"))
    async with Am(log, 2, 5, True) as (a, b):
        log("never")
    log(await Step("after"))


async def cont_in_with(log):
    async for x in Ticker(log, 4):
        async with Am(log, x, swallow=True):
            if x == 2:
                continue
            if x == 1:
                raise Boom("x")
            log("body", x, await Step(("b", x)))
        log("after", x)
    else:
        log("else", await Step("else"))
    log(await Step("z"))


async def break_in_with(log):
    for n in range(3):
        async for x in asource(log, 4):
            async with Am(log, x):
                try:
                    if x == n:
                        break
                finally:
                    log("fin", await Step(("f", x)))
        else:
            log("no")
        log("n", n)


async def return_in_with(log):
    async def inner(k):
        async for x in Ticker(log, 3):
            async with Am(log, x) as v:
                async with Am(log, "i"):
                    if k:
                        return (await Step("v"), x)
        return "none"

    log(await inner(1))
    log(await inner(0))


async def exc_exit(log):
    try:
        async with Am(log, 1):
            async with Am(log, 2, swallow=True):
                async with Am(log, 3):
                    raise KeyError(await Step("r"))
            log("swallowed", await Step("s"))
            raise ValueError("v") from OSError("o")
    except ValueError as e:
        log(repr(e.__cause__), repr(e.__context__))
        try:
            async with Am(log, 4):
                raise
        except ValueError as e2:
            log(e2 is e, await Step("again"))


async def agen_with(log):
    async with Am(log, 1):
        yield 1
        async with Am(log, 2) as x:
            yield 2
            async for y in asource(log, 3):
                if y == 1:
                    continue
                yield await Step(y)
            return


async def star_exc(log):
    try:
        async with Am(log, 1):
            raise ExceptionGroup("g", [KeyError(1), ValueError(2)])
    except* KeyError as g:
        async with Am(log, 2):
            log(repr(g), await Step("k"))
    except* ValueError:
        async for x in Ticker(log, 2):
            log(x, await Step("v"))


async def aiter_objects(log):
    class It:
        def __init__(self):
            self.n = 0

        def __aiter__(self):
            return self

        def __anext__(self):
            self.n += 1
            if self.n > 3:
                raise StopAsyncIteration
            return Step(self.n)

    async for x in It():
        log(x)

    class Bad:
        def __aiter__(self):
            return self

        def __anext__(self):
            return 5

    try:
        async for x in Bad():
            pass
    except TypeError as e:
        log(str(e), repr(e.__cause__), await Step("bad"))

    class Worse:
        def __aiter__(self):
            return 5

    try:
        async for x in Worse():
            pass
    except TypeError as e:
        log(str(e))
    try:
        async for x in 5:
            pass
    except TypeError as e:
        log(str(e))

    class NoExit:
        async def __aenter__(self):
            pass

    class Odd:
        def __aenter__(self):
            return 7

        def __aexit__(self, *e):
            return 8

    class Odder(Odd):
        async def __aenter__(self):
            return 7

    for m in NoExit(), Odd(), Odder(), 5:
        try:
            async with m:
                log("in", await Step("in"))
        except (TypeError, AttributeError) as e:
            log(str(e), await Step("t"))

    class Twice:
        async def __anext__(self):
            return await Step("x")

        def __aiter__(self):
            return self

    n = 0
    async for x in Twice():
        n += 1
        if n > 2:
            break


async def raised_stop(log):
    class It:
        def __aiter__(self):
            return self

        async def __anext__(self):
            await Step("t")
            raise self.error

    i = It()
    i.error = ValueError("no")
    try:
        async for x in i:
            pass
        else:
            log("else")
    except ValueError as e:
        log(repr(e), await Step("c"))
    i.error = StopAsyncIteration()
    async for x in i:
        pass
    else:
        log("else", await Step("e"))
    try:
        async for x in Ticker(log, 2):
            raise StopAsyncIteration("user")
    except StopAsyncIteration as e:
        log(repr(e), await Step("user"))


async def comps(log):
    r = [(x, y, await Step((x, y))) async for x in Ticker(log, 2) for y in range(2) if await Step("if") != 99]
    log(r)
    log({k: v async for k, v in pairs(log)})
    f = lambda: (x async for x in asource(log, 2))
    async for q in f():
        log(q, await Step("q"))
    g = (await Step(x) async for x in Ticker(log, 3))
    async for z in g:
        log(z)
    log([w async for w in (q async for q in asource(log, 2))])
    h = lambda: lambda y: (x + y async for x in asource(log, y))
    log([z async for z in h()(2)])


async def pairs(logged):
    async for a in asource(logged, 3):
        yield a, await Step(a)


async def sync_in_async(log):
    with Manager(log, 1), managed(log, 2) as m:
        async with Am(log, 3):
            with Manager(log, 4, ValueError):
                async for x in Ticker(log, 2):
                    if x:
                        raise ValueError(await Step(m))
    log(await Step("e"))


async def cells_and_locals(log):
    x = 1

    def f():
        nonlocal x

        def g():
            nonlocal x
            x += 1
            return x

        return g()

    async with Am(log, 1) as y:
        log(f(), sorted(locals()), await Step(1))
        del x
    try:
        f()
    except NameError as e:
        log(str(e), await Step(2))
    async for x in asource(log, 2):
        log(f(), x, sorted(locals()), await Step(x))


async def nested_finally(log):
    for i in range(2):
        try:
            async with Am(log, i):
                try:
                    if i:
                        return await Step("r")
                    continue
                finally:
                    async with Am(log, "fin"):
                        log("f", await Step("f"))
        finally:
            async for x in Ticker(log, 1):
                log("x", x)
            if i == 7:
                return 1


async def match_in(log):
    for v in (1, (2, 3), {"k": 4}, Box(5)):
        async with Am(log, "m", v) as w:
            match w:
                case int() if await Step("g"):
                    log("int")
                case (a, b) | {"k": a, **b}:
                    log(a, b, await Step("ab"))
                case Box(v=q):
                    log(q)
                    break
    else:
        log("no break")


async def while_with(log):
    n = 0
    while (n := n + 1) < 4 and await Step(n) != 99:
        async with Am(log, n):
            if n == 2:
                continue
            while True:
                async with Am(log, "w"):
                    break
            log(n)
    else:
        log("over", await Step("o"))


async def exitstack(log):
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(Am(log, 1))
        stack.enter_context(Manager(log, 2))

        @stack.push_async_exit
        async def ex(*e):
            log("pushed", await Step("p"))

        log(await Step("b"))

    @contextlib.asynccontextmanager
    async def cm():
        async with Am(log, "cm") as v:
            try:
                yield v
            except KeyError:
                log("sw", await Step("sw"))

    async with cm(), cm():
        raise KeyError(1)
    log(await Step("end"))


async def class_body(log):
    class C:
        a = 1

        async def m(self):
            async with Am(log, 1):
                return await self.__p(2)

        async def __p(self, n):
            return n + await Step(n)

        @property
        def z(self):
            return self.m()

        def __init__(self):
            super().__init__()

    class D(C):
        async def m(self):
            async for x in Ticker(log, 1):
                pass
            return [await super().m(), __class__.__name__]

    log(await D().m(), await C().z)


async def private_names(log):
    class Private:
        def __init__(self):
            self.__kept = 1

        async def __added(self, n, *, __more=0):
            def __inner():
                return self.__kept

            class Local:
                __own = 5

                def given(self):
                    return self.__own

            return n + await Step(n) + __inner() + Local().given() + len(dict(__key=__more)), __inner.__name__

        async def run(self):
            await Step("run")
            return await self.__added(2)

    log(await Private().run())

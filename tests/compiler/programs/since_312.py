"""What came with Python 3.12 and 3.13, in ordinary programs: type parameters and aliases, f-strings that hold any
expression, comprehensions that run in the function's frame. Each program takes `log`."""

from typing import TypeVar

from tests.compiler.programs.statements import Manager
from tests.compiler.roundtrip import pause


m = "global"


class Step:
    def __init__(self, value):
        self.value = value

    def __await__(self):
        return (yield self.value)


def aliases(log):
    n = int
    type Plain = list[n]
    type Pair[A, B: (int, str)] = tuple[A, B, n]
    type Tree[T] = T | list[Tree[T]]
    log((yield Plain.__name__), Plain.__value__, Pair.__type_params__, Tree.__value__)
    n = str
    log((yield Pair.__value__), Plain.__value__ if (yield 1) else Tree[n])
    for n in (bytes, float):
        type Each = dict[n, (lambda: n)()]
        yield Each.__value__
        log(Each.__value__, Each.__type_params__)
    type Never = never + (lambda: never)()
    try:
        yield Never.__value__
    except NameError as error:
        log(str(error), (yield "unbound"))
    never = 1
    return (yield Never.__value__), Never.__value__


def aliases_alone_hold_variables(log, *rest, key=None, **more):
    n = int
    type Plain = list[n]
    type Generic[T: (n, str)] = (T, n)
    yield 1
    n = str
    log(Plain.__value__, Generic.__value__, Generic.__type_params__[0].__constraints__, (yield 2))
    log(sorted(locals()))
    type Given = (key, rest, more)
    key, more = (yield 3), (yield 4)
    return Given.__value__


def bounds_alone_hold_variables(log):
    n = (yield 1) or "bound"

    def function[T: n](x: n, *, y: list[n] = (yield 2)) -> n:
        got = yield x, y
        return T.__bound__, got

    class Generic[T: (n, int)](*[object]):
        type Own = n
        n = 5
        type Both = list[n]
        def get(self, x: n):
            yield T.__constraints__

    n = "later"
    yield "suspended"
    log((yield from function(1)), function.__annotations__)
    log((yield from Generic().get(1)), Generic.Own.__value__, Generic.Both.__value__)
    return n


def aliases_hold_variables(log):
    total = 0

    def add(n):
        nonlocal total
        total += n
        return total

    type Total = total
    for n in range(3):
        log(add(n), Total.__value__ if n == 2 else None, (yield n))
        total += 1
    total = 50
    return Total.__value__, (yield Total.__name__)


def generic_functions[T: int, *Ts, **P](log, *rest: *Ts, key: T = 1, **more: P.kwargs) -> T:
    log([str(each) for each in (T, Ts, P)], (yield 1), T.__bound__)

    def inner[U: (T, str)](u: U, *more: *tuple[U, T], v: T = (yield "default")) -> list[U]:
        log(u, more, v)
        got = yield U.__constraints__
        for n in range(2):
            log((yield n, U), got)
        return U

    log(inner.__type_params__, inner.__annotations__, inner.__qualname__)
    found = yield from inner(1, 2)
    return found is inner.__type_params__[0], T, (yield 2)


async def generic_coroutines[T](log: T):
    async def inner[U](u: U) -> T:
        log(T, U)
        return await Step((u, U.__name__)), U

    async def each[U: T](n: U):
        for i in range(2):
            yield U, await Step(i)

    log(await inner(await Step(1)))
    async for one in each(2):
        log(one, T)
    return [str(t) async for t, _ in each(await Step(3))], [await inner(i) for i in range(2)]


async def generic_async_generators[T](log):
    def apply[U](f, u: U):
        return f(u), U

    yield T
    type Alias[V] = tuple[T, V]
    log((yield await Step(1)), apply(lambda v: (v, Alias[T]), T))
    yield Alias.__value__


def generic_classes(log):
    base, outer = (yield "base") and object or object, (yield "outer")

    @(yield "decorator") and (lambda c: c) or (lambda c: c)
    class Box[T: (int, str), *Ts](base):
        kind = outer
        type Items = list[T]

        def __init__(self, item: T):
            self.item = item

        def get[U](self, u: U) -> T | U:
            log((yield self.item, u), T, U, __class__.__name__, outer)
            type Both = tuple[T, U, __class__]
            yield str(Both.__value__[1])
            return Both.__value__[0] is T

        @classmethod
        def made[Self](cls, item):
            log(Self, (yield cls.__name__))
            return cls(item)

    class Further[U](Box[int]):
        def get(self, u):
            return (yield from super().get(u)), U, (yield "super")

    box = yield from Box.made(1)
    log(Box.__type_params__, Box.Items.__value__, Box.kind, Box.__qualname__, Box.get.__qualname__)
    log((yield from box.get("u")), (yield from Further(2).get("v")))
    return Further.__orig_bases__[0] == Box[int], Further.__type_params__


def private_type_parameters(log):
    class Named:
        def each[__T](self, x: __T):
            log((yield 1), x)
            type __Alias = list[__T]

            def inner[__U](u: __U):
                log((yield u), isinstance(__U, TypeVar), inner.__type_params__ == (__U,))

            yield from inner(x)
            return __Alias.__value__.__args__[0] is __T

    got = yield from Named().each(1)
    return got, list(Named.each.__annotations__)


def scopes_of_type_parameters(log):
    T = "outer"

    def shadows[T](t=T):
        log(T, (yield t))
        return T

    class Holds[T]:
        T = "of the class"
        type Alias = T

        def get(self):
            log(T, (yield 1))
            return T

    log((yield from shadows()), (yield from Holds().get()), Holds.Alias.__value__, T)
    X = 1

    def changes[X]():
        def reads():
            return X
        yield X
        return reads()

    got = yield from changes()
    return got is changes.__type_params__[0], X


def recursive_bounds(log):
    class Node:
        def link[T: Node](self, to: T) -> T:
            log(T.__bound__ is Node, (yield 1))
            return to

    found = yield from Node().link(Node())
    Node = None
    return type(found).__name__, Node, (yield 2)


class Private:
    def programs(self, log):
        def inner[__U](u: __U):
            class Holds[__V](dict[__V, int]):
                def get(self):
                    return __U is inner.__type_params__[0], __V is Holds.__type_params__[0], __class__
            type __Alias[__W] = tuple[__U, __W]
            log((yield u), Holds().get(), __Alias.__value__.__args__[0] is __U, (yield 1))

        return inner


def private_names_in_methods(log):
    yield from Private().programs(log)(5)


class Rooted:
    def private[__T](log, *rest: __T, key: __T = None, **more):
        def inner[__U](u: __U):
            yield __U is inner.__type_params__[0], __T is private_in_a_method.__type_params__[0]
            type __Alias[__V: __U] = tuple[__T, __V]
            log(__Alias.__value__.__args__[0] is __T, __Alias.__type_params__[0].__bound__ is __U, (yield u))

        yield from inner((yield 1))
        return __T.__bound__


private_in_a_method = Rooted.private


def lazy_calls(log):
    def call(what, *more):
        log("called", what)
        return what

    type Alias = list[call("alias", [n for n in (k for k in "ab")])]

    def function[T: call("bound")](x: call("annotation") = call("default")) -> call(tuple(n for n in range(2))):
        return (yield T.__bound__)

    class Generic[T](call(dict), metaclass=call(type)):
        type Inner = call(T)
        m = m
        type Looked = m

    log((yield 1), Alias.__value__, (yield from function()), Generic.Inner.__value__, Generic.Looked.__value__)
    return (yield 2), function.__annotations__


def plain_with_generics(log):
    def call(what):
        return log("called", what)

    type Alias = list[call("alias")]

    def function[T: call("bound")](x: list[T] = pause("default")) -> call("annotation"):
        return pause((x, T)), T.__bound__

    class Generic[T](dict[T, call(int)], metaclass=call(type)):
        def get(self):
            return pause(T)

    return Alias.__value__, function(), Generic().get(), pause(Generic.__orig_bases__)


def decorated_and_defaults(log):
    def noted(what):
        log("decorator", what)
        return lambda function: function

    @noted((yield "d1"))
    @noted((yield "d2"))
    def both[T](a=(yield "a"), *, b: T = (yield "b"), c=[(yield "c")]):
        yield a, b, c, T

    yield from both()

    @noted((yield "d3"))
    class Both[T](object):
        pass

    return both.__defaults__, both.__kwdefaults__, Both.__name__


def f_strings(log):
    a, width = 3.14159, 8
    yield f"{f"{f"{(yield "inner")}"}"}"
    log(f"{"a" "b"!r:>{(yield "width") and width or width}}{a:{width}.{(yield 2) and 2 or 3}f}")
    yield f"{'\n'.join(["x", str((yield "join"))])}{"\t"!r}"
    yield f"{
        (yield "over lines")  # with a comment: }
        # and another
    }"
    log(f"{(yield "debug")=}", f"{ a = }", f"{a=!s:>{width}}", f"{(yield 4)=:>{(yield 5) and 9 or 9}}")
    log(f"{{{(yield 6)}}}", f"{(lambda x: f"{x!r}")((yield 7))}", rf"\{(yield 8)}\n", f"{(yield 9)!r:^{width}}")
    log(f"""{f'''{f"{f'{(yield "deep")}'}"}'''}""", f"{ {"a": (yield 10)}["a"] }", f"{[n for n in range(3)]}")
    log(f"{(x := (yield 11))}{x:=^{width}}" if width else "", f"{a!s:{"<" if (yield 12) else ">"}{width}}")
    return f"{(yield 13):{f"{(yield 14) and ""}"}}", f"{a:{'>'}{(yield 15) and 12 or 11}}"


async def awaits_in_f_strings(log):
    log(f"{await Step(1)} {await Step("w") and "x" or "y":>{5}} {[f"{await Step(n)}" for n in range(2)]}")
    return f"{f"{await Step("a")}" + f"{await Step("b")!r}"}"


def inlined_comprehensions(log):
    x = "outer"
    log([x for x in (yield [1, 2]) or [3]], x, {x: y for x in range(2) for y in [x] if (lambda: x)() == y}, x)
    makers = [lambda: (x, y) for x in range(2) for y in [4]]
    log([each() for each in makers], x, (yield 2))
    log([[(x, y, z) for z in [x]] for x in "ab" for y in (lambda: x)()], x)
    try:
        [1 // n for n in [1, 0]]
    except ZeroDivisionError as error:
        log(str(error), error.__traceback__.tb_next is None, (yield 3))
    log([y := n for n in range(3)], y, [(yield_ := n) for n in [(yield 4)]], yield_)
    try:
        [unset for _ in [0] for unset in [unset]]
    except UnboundLocalError as error:
        log(str(error), (yield 5))
    del x
    log([x for x in "xy"])
    try:
        log(x)
    except UnboundLocalError as error:
        log(str(error), (yield 6))
    class Inner:
        items = [1, 2]
        x = "class"
        got = [(x, __name__) for x in items], x
        nested = [[z for z in items_] for items_ in [items]]
    return Inner.got, Inner.nested, (yield 7)


def comprehensions_with_cells(log):
    x = 0

    def reads():
        return x

    log([reads() for x in [5, 6]], x, (yield 1))
    x = 1
    log([(lambda: (x, reads()))() for x in [(yield 2), 7]], reads(), (yield 3))
    got = [lambda: x for x in (yield 4) or range(3)]
    log([f() for f in got], x, (yield 5))
    for x in [lambda: x for x in "ab"]:
        log(x(), (yield 6))
    return callable(reads())


async def async_comprehensions(log):
    async def each(n):
        for i in range(n):
            yield await Step(i)

    x = "outer"
    log([(x, await Step("e")) async for x in each(2) if await Step("if")], x)
    log({x: [y async for y in each(x)] async for x in each(2)}, x, {await Step(x) for x in "ab"})
    fs = [lambda: x async for x in each(2)]
    log([f() for f in fs], x)
    return [[await Step((i, j)) for j in range(i)] for i in range(3)]


def locals_in_comprehensions(log):
    a = yield 1
    log([sorted(locals()) for b in [1]], (yield 2))
    log([sorted({**locals(), "b": b}) for b in [a]])
    log([[sorted(locals()) for c in [1]] for b in [1] if (yield_ := 1)])
    log(sorted(k for k in locals()), [eval("b") for b in [4]], (yield 3))
    return [sorted(vars()) for b in "b"], [sorted(dir()) for b in "b"]


def except_star_and_groups(log):
    try:
        raise ExceptionGroup("g", [ValueError(1), ExceptionGroup("h", [KeyError(2), OSError(3)])])
    except* ValueError as group:
        log(repr(group), (yield 1))
    except* KeyError as group:
        log(repr(group), (yield 2))
        type Alias = type[group]
        log(Alias.__value__, (yield 3))
    except* OSError:
        log(repr(sys.exception()), f"{sys.exception()!r:>{(yield 4) and 5 or 6}}")


def matches(log):
    class Point[T]:
        __match_args__ = ("x", "y")

        def __init__(self, x: T, y: T):
            self.x, self.y = x, y

    for subject in (Point(1, 2), Point(0, 5), {"k": [1, 2, 3]}, "s"):
        match (yield "subject") and subject or subject:
            case Point(x=0, y=y) if (yield y):
                log("zero", f"{y=}{(yield f"{y}")}")
            case Point(x, y):
                type Found = Point[x]
                log([x for x in [y]], x, (yield x), Found.__value__.__args__)
            case {"k": [first, *rest], **others}:
                log(first, [rest for rest in rest], rest, others, (yield "map"))
            case str() as text if (f := f"{text}{(yield "guard")}"):
                log(f)


def managers_and_generics(log):
    with Manager(log, (yield "m")) as m, Manager(log, f"{m.name}{(yield "n")}", KeyError):
        def fails[E: BaseException](error: type[E]):
            try:
                raise (yield error.__name__) or error(E.__name__)
            finally:
                log(E, (yield "finally"))

        yield from fails(KeyError)
    return (yield "after")

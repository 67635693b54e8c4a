"""Plain functions: calls that suspend in a twin, and are ordinary calls otherwise."""

import contextlib
import functools
import sys

from ray_durable.compiler import durable
from tests.compiler.roundtrip import pause


@durable
def child(log, n):
    log("child", n, pause(("child", n)))
    return n * 2


@durable
def factorial(log, n):
    if n <= 1:
        return pause("bottom") and 1 or 1
    return n * factorial(log, n - 1)


class Service:
    def __init__(self, log):
        self.log = log

    @durable
    def run(self, n, *, scale=1):
        got = pause(("run", n))
        self.log("run", got)
        return n * scale

    @durable
    @classmethod
    def make(cls, n):
        pause("make")
        return cls.__name__, n

    @staticmethod
    @durable
    def free(n):
        return pause("free"), n

    def ordinary(self, n):
        return n + 1


def direct(log):
    a = pause(1)
    log(a)
    pause(2)
    b = child(log, 3) + child(log, 4)
    log(b, len("abc"), str(pause(5)))
    return pause(6), a


def loops_and_handlers(log):
    total = 0
    for n in range(3):
        try:
            if pause(n) == 2:
                raise ValueError(n)
            total += child(log, n)
        except ValueError as e:
            log(e, pause("handler"))
            continue
        finally:
            log("finally", pause("finally"))
    return total


def through_variables(log):
    f = child
    g = functools.partial(child, log)
    s = Service(log)
    h = s.run
    log(f(log, 1), g(2), h(3, scale=2), s.run(4), s.ordinary(5), Service.make(6), s.make(7), s.free(8))
    table = {"c": child, "l": len}
    return [table["c"](log, 9), table["l"]([1])]


def in_expressions(log):
    x = [pause(1), *map(str, [pause(2)]), {pause(3): pause(4)}]
    log(str(x), pause(5) if pause(6) else pause(7), pause(8) and pause(9) or 0)
    log(f"{pause(10)!r:>{pause(11) or 5}}")
    return (lambda v: v)(pause(12))


def comprehensions(log):
    log([pause(n) for n in range(3)])
    log(
        {n: pause(m) for n in range(2) for m in range(2) if pause((n, m)) != 99},
        sorted(map(str, {pause(n) for n in "ab"})),
    )
    n = 5
    log([[pause((n, m)) for m in range(n)] for n in range(3)], n)
    return [x for x in [pause("iterable")] if x != 99]


def recursive(log):
    return factorial(log, 4)


def nested_plain(log):
    def helper(n):
        return pause(("helper", n))

    def twice(n):
        return helper(n), helper(n + 1)

    return twice(1)


def callbacks(log):
    return sorted([3, 1, 2], key=lambda n: -n), list(map(abs, [-1])), pause("x")


def varied(log, *rest, key=1, **more):
    def show(*args, **kwargs):
        return args, kwargs

    return show(*rest, pause(1), key=pause(2), **more)


def walrus(log):
    while (n := pause("w")) is not None and n < 4:
        log(n)
    if (m := child(log, 1)) and m > 1:
        return m
    return n


def managed(log):
    class Manager:
        def __enter__(self):
            return log("enter", 1)

        def __exit__(self, *e):
            log("exit", str(e[1]))
            return e[0] is KeyError

    with Manager() as m:
        log(m, pause(1))
        raise KeyError(pause(2))
    with Manager():
        return pause(3)


def comprehension_variables_in_lambdas(log):
    def apply(function):
        return pause(function())

    log([apply(lambda: n) for n in range(3)])
    fs = [pause(n) or (lambda: n) for n in range(3)]
    return [f() if callable(f) else f for f in fs]


class Named:
    """Methods that suspend, under the names of those of builtin types."""

    @durable
    def append(self, value):
        return pause(value)

    @durable
    def get(self, value):
        return [pause(("get", value))]

    join = format = append


def methods_named_like_builtin_ones(log):
    found, own = [], Named()
    found.append(own.append(1))
    log(own.join(2), own.format(3), own.get(4))
    found.extend(own.append(n) for n in ())
    found = own
    return found.append(5)


def lambdas_that_suspend(log):
    scale = 2
    double = lambda value, by=pause("by"): pause((value, by)) * scale  # noqa: E731
    log(double(1), double(2, by=5))
    scale = 3
    log([f(4) for f in [lambda n: pause(n) or n, double]])
    nested = lambda: (lambda: pause(scale))()  # noqa: E731
    return nested()


def stop_iteration_of_plain_functions(log):
    numbers = iter([1])

    def taken():
        return next(numbers) + (pause("taken") or 0)

    def deeper():
        return taken()

    try:
        while True:
            log(taken())
    except StopIteration as e:
        log(repr(e), pause("ended"), repr(e.__context__))
    try:
        try:
            raise KeyError("k")
        except KeyError:
            try:
                log(deeper())
            finally:
                log(repr(sys.exception()), pause("finally"))
    except StopIteration as e:
        log(repr(e), repr(e.__context__), repr(e.__cause__))

    def generator():
        yield next(numbers)

    try:
        list(generator())
    except RuntimeError as e:
        log(repr(e), repr(e.__cause__))
    with contextlib.suppress(StopIteration):
        deeper()
        log("never")
    return (lambda: next(numbers))()


def parameter_in_a_cell(log):
    _log = 1
    show = lambda: log("cell")
    log(pause(_log), show(), sorted(locals()), sorted(vars()), "_at" in dir())
    return _log

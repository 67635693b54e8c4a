"""Ordinary generators: yields in and around every statement. Each program takes `log`."""

import contextlib
import sys


class Manager:
    def __init__(self, log, name, suppress=()):
        self.log, self.name, self.suppress = log, name, suppress
        log("made", name)

    def __enter__(self):
        self.log("enter", self.name)
        return self

    def __exit__(self, kind, error, traceback):
        self.log("exit", self.name, kind and kind.__name__, str(error), error is sys.exception())
        return kind is not None and issubclass(kind, self.suppress)


def assignments(log):
    a = b = yield 1
    log(a, b)
    c, (d, *e) = (yield 2), [1, 2, 3]
    log(c, d, e)
    f: int = yield 3
    g: int
    f += (yield 4) or 5
    log(f)
    del c
    return f


def conditions(log):
    for n in range(4):
        if n == 0:
            log("a", (yield n))
        elif (yield n) == 2:
            log("b")
            yield "b"
        elif n == 3:
            log("c")
        else:
            log("d", (yield "d"))
            if not (yield "e") and (log("f") or (yield "f")):
                log("g")
    if (yield "h"):
        pass
    else:
        yield "i"


def while_loops(log):
    n = 0
    while n < 3:
        n += 1
        if n == 2:
            yield "continue"
            continue
        log((yield n))
    else:
        log((yield "else"))
    while (yield "test") and n < 6:
        n += 1
        if (yield "more") == 9:
            break
    else:
        log("not broken", (yield "else2"))
    while True:
        n += 1
        try:
            if (yield n) or n > 8:
                break
        finally:
            log("finally", (yield "f"))
    return n


def for_loops(log):
    for a in [1, 2, 3]:
        for b in "xyz":
            if b == "y" and a == 2:
                break
            log(a, b, (yield a, b))
        else:
            log("else", (yield "inner else"))
            continue
        log("broken", (yield "after break"))
    else:
        yield "outer else"
    for _ in ():
        yield "never"
    else:
        yield "empty"
    for x[0] in ((x := [0]), 5) and [7, 8]:
        log(x, (yield x[0]))
    for x in (yield "iterable") or [1]:
        log(x)
    for y, *z in [(1, 2, 3), (yield "t") or (4,)]:
        log(y, z)


def for_target_suspends(log):
    a = {}
    for a[(yield "key") or 0] in [1, 2]:
        log(sorted(map(str, a.items())))


def for_target_has_a_generator_expression(log):
    items = [0, 0, 0]
    for items[sum(x for x in range(3)) % 3] in (yield 1) or [1, 2, 3]:
        log((yield list(items)))


def an_exception_closes_the_iterator_before_managers_exit(log):
    def numbers():
        try:
            yield from range(3)
        finally:
            log("closed")

    try:
        with Manager(log, "outer"):
            for n in numbers():
                with Manager(log, "inner"):
                    yield n
                    raise ValueError(n)
    except ValueError as error:
        log(repr(error))


def closing_iterators(log):
    def source():
        try:
            yield 1
            yield 2
        finally:
            log("closed")

    for x in source():
        yield x
        break
    log("after")
    try:
        for x in source():
            yield x
            raise KeyError(x)
    except KeyError:
        log("handler")
        yield "h"


def managers(log):
    with Manager(log, "a") as a, Manager(log, "b", (ValueError,)) as b:
        log(a.name, b.name, (yield 1))
        with Manager(log, "c"):
            yield 2
            raise ValueError("suppressed by b")
    log("after", (yield 3))
    with Manager(log, (yield 4)) as a.other:
        log(a.other.name)
        return (yield 5)


def manager_in_loop(log):
    for n in range(3):
        with Manager(log, n):
            if (yield n) == 99:
                return
            if n == 1:
                continue
            try:
                with Manager(log, "inner", KeyError):
                    yield "inner"
                    raise KeyError if n else IndexError
            except IndexError as e:
                log(type(e).__name__, (yield "e"))


def contextlib_managers(log):
    @contextlib.contextmanager
    def opened(name):
        log("open", name)
        try:
            yield name
        except KeyError as e:
            log("swallowed", e)
        finally:
            log("close", name)

    with opened("x") as x:
        log(x, (yield 1))
        raise KeyError("k")
    with contextlib.suppress(ValueError), opened("y"):
        yield 2
        raise ValueError


def deletions(log):
    d = {None: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5}
    try:
        del d[(yield 1)], d[(yield 2)]
    except KeyError as e:
        log(repr(e))
    log(d)
    x, y = 1, 2
    yield 3
    del x
    yield 4
    try:
        x
    except UnboundLocalError as e:
        log(str(e))


def global_and_nonlocal(log):
    count = 0

    def bump():
        nonlocal count
        count += 1
        return count

    global SHARED
    SHARED = 1
    bump()
    yield count
    log(bump(), count)
    SHARED += (yield SHARED) or 0
    count += 10
    yield bump()
    log(count, SHARED)


def imports(log):
    import os.path as path

    yield 1
    from collections import OrderedDict as D, deque
    import collections.abc

    log(path.join("a", "b"), D.__name__, (yield 2), deque([1]), collections.abc.Sized.__name__)


def delegation(log):
    def inner(n):
        try:
            got = yield "inner", n
            log("got", got)
            if n:
                return (yield from inner(n - 1)) or n
        finally:
            log("leave", n)
        return "bottom"

    log((yield from inner(3)))
    log((yield from [1, 2]))
    log((yield from "ab"))
    x = inner(0)
    yield next(x)
    log((yield from x))
    return (yield from (y for y in (5, 6)))


def docstring(log):
    """It has one."""
    yield docstring.__doc__


def walrus(log):
    if (n := (yield 1)) is None:
        log("none", n)
    while (m := (yield 2)) is not None and m < 5:
        log(m)
    print_ = [last := x for x in range(3)]
    log(last, print_, (y := 5) + (yield 3), y)


def matching(log):
    class Point:
        __match_args__ = ("x", "y")

        def __init__(self, x, y):
            self.x, self.y = x, y

    for subject in [1, "a", [1, 2, 3], {"k": 1, "z": 2}, Point(1, 2), None, (5, 6), 1.5]:
        match subject:
            case 1 | 2 as n:
                log("int", n, (yield n))
            case str(s) if log("guard", s):
                yield s
            case [first, *rest] if len(rest) == 2:
                log(first, rest, (yield "list"))
                continue
            case {"k": k, **others}:
                log(k, others, (yield "mapping"))
            case Point(x, y=y):
                log(x, y, (yield "point"))
            case None:
                pass
            case (a, b) if (yield "guard") or a == 5:
                log(a, b, (yield "pair"))
            case _:
                log("default", (yield "default"))
        log("after")


def matching_suspended_subject(log):
    match (yield "subject"), (yield "other"):
        case (None, None):
            log("none")
        case (int() as a, b) if (yield "first guard") == 99:
            log("never", a)
        case (a, int(b)) if b > 1:
            log("second", a, b, (yield "in second"))
        case x:
            log("x", x)
    match 5:
        case 6:
            yield "never"
    match [1, [2, (yield 3)]]:
        case [a, [b, c]]:
            return a, b, c


def returning_out_of_loops(log):
    def source(name):
        try:
            yield 1
            yield 2
        finally:
            log("closed", name)

    def search(kind):
        for x in source("outer"):
            with Manager(log, "m"):
                try:
                    for y in source("inner"):
                        for z in source("innermost"):
                            yield x, y, z
                            if kind == "return":
                                return log("value", x)
                            if kind == "break":
                                break
                        else:
                            log("exhausted")
                finally:
                    log("finally")
                    for w in source("in finally"):
                        if kind == "finally":
                            return (yield w)

    for kind in ("return", "break", "finally", "none"):
        log((yield from search(kind)))


def captured_without_a_value(log):
    def attempt(function):
        try:
            return function()
        except NameError as error:
            return type(error).__name__, str(error)

    def drop():
        nonlocal x
        del x

    read = lambda: x
    yield attempt(read)
    try:
        log(x)
    except UnboundLocalError as error:
        log(str(error))
    x = yield 1
    log(attempt(read))
    drop()
    yield 2
    try:
        log(x)
    except UnboundLocalError as error:
        log(str(error))
    try:
        del x
    except UnboundLocalError as error:
        log(str(error))
    try:
        x += 1
    except UnboundLocalError as error:
        log(str(error))
    yield attempt(read)
    try:
        raise ValueError("named")
    except ValueError as x:
        log(attempt(read))
        yield 3
    try:
        log(x)
    except UnboundLocalError as error:
        log(str(error))


class Restarting:
    """An iterator that begins again whenever it is asked for itself."""

    def __init__(self, log):
        self.log, self.n = log, None

    def __iter__(self):
        self.log("iter")
        self.n = 0
        return self

    def __next__(self):
        self.n += 1
        if self.n > 3:
            raise StopIteration("over")
        return self.n

    def send(self, value):
        self.log("sent", value)
        return next(self)


def iterators_that_begin_again(log):
    for x in Restarting(log):
        yield x
    log((yield from Restarting(log)))
    for x in [(x, y) for x in Restarting(log) for y in Restarting(log)]:
        log(x)
    made = (x for x in Restarting(log))
    yield next(made)
    log(list(made))

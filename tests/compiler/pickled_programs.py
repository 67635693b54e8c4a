# ruff: noqa: UP028  # the loops are the point
"""Programs that are pickled at every yield point, also from one Python version to another.

Each is a function of no arguments that makes a suspended object; `drive` runs one, sending numbers in. They keep in
their locals what is hard to carry: iterators of every kind, closures that share cells, exceptions in flight, managers,
delegates that are also locals, cycles.
"""

from __future__ import annotations

import collections
import contextlib
import itertools

from ray_durable.compiler import back_edges_due, durable, suspend_at_back_edges, twin_of

PROGRAMS = {}


def program(function):
    PROGRAMS[function.__name__] = function
    return function


def drive(obj, steps=None, start=0):
    """Send numbers in until it ends (or for `steps`), and return what came out; the last entry tells how it ended."""
    out = []
    sent = None if start == 0 else start
    try:
        while steps is None or len(out) < steps:
            out.append(repr(obj.send(sent)))
            sent = start + len(out)
    except StopIteration as stop:
        out.append(f"returned {stop.value!r}")
    except Exception as error:
        out.append(f"raised {error!r} from {error.__cause__!r} after {error.__context__!r}")
    return out


class Pause:
    """Awaitable that suspends once, with a value, as durable code is suspended: by a durable generator."""

    def __init__(self, value):
        self.value = value

    def __await__(self):
        return pausing(self.value)


@durable
def pausing(value):
    return (yield value)


@program
@durable
def loops():
    found = []
    for i in range(2, 9, 3):
        for letter, number in zip("abc", itertools.count(10)):
            found.append((yield (i, letter, number)))
            if number > 10:
                break
        else:
            found.append("never")
    while len(found) < 8:
        found.append((yield len(found)))
    return found


@program
@durable
def every_iterator():
    numbers = [1, 2, 3]
    mapping = {"a": 1, "b": 2}
    mine = iter(numbers)
    for pair in enumerate(mine, 5):
        yield pair
        numbers.append(4) if len(numbers) < 4 else None
    for key in mapping:
        yield key
    for value in reversed(mapping.values()):
        yield value
    for item in mapping.items():
        yield item
    for item in sorted({3, 1, 2}):
        yield item
    for item in {7}:
        yield item
    for item in map(pow, numbers, itertools.repeat(2)):
        yield item
    for item in filter(None, [0, 1, 2]):
        yield item
    for item in reversed(numbers):
        yield item
    for item in "aé":
        yield item
    for item in b"ab":
        yield item
    for item in iter(iter([1, 2, 9]).__next__, 9):
        yield item
    for item in itertools.chain("ab", itertools.islice(itertools.cycle("xyz"), 4)):
        yield item
    for item in itertools.pairwise([1, 2, 3]):
        yield item
    for item in collections.deque("de"):
        yield item
    for item in range(2**70, 2**70 + 2):
        yield item


@program
@durable
def one_iterator_in_many_places():
    shared = iter(range(9))
    holder = {"shared": shared}
    for i in shared:
        yield i
        yield next(holder["shared"], "end")
        yield from two_of(shared)


@durable
def two_of(iterator):
    yield next(iterator, "none")
    for item in iterator:
        yield item
        break


@program
@durable
def dict_changed_while_iterated():
    mapping = {1: "a", 2: "b"}
    for key in mapping:
        yield key
        mapping[key + 10] = "new"
        yield "changed"


@program
@durable
def closures_share_cells():
    count = 0

    def add(by=2, *, times=1):
        nonlocal count
        count += by * times
        return count

    def read():
        return count

    functions = [add, read, lambda: count * 100]
    for function in functions:
        yield function()
        yield add()
        count += 1
    return count, read(), functions[2]()


@program
@durable
def recursion_in_a_closure():
    def fact(n):
        return 1 if n < 2 else n * fact(n - 1)

    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    yield fact(4)
    yield even(7)
    return fact(5), odd(3)


@program
@durable
def exception_in_flight():
    for kind in (ValueError, KeyError, OSError):
        try:
            try:
                yield kind.__name__
                raise kind(2, "text")
            except (ValueError, KeyError) as error:
                error.add_note("noted")
                yield repr(error)
                try:
                    raise TypeError("second") from error
                except TypeError as second:
                    yield repr(second.__cause__), second.__cause__.__notes__
                raise
            finally:
                yield "finally"
        except Exception as error:
            yield repr(error), repr(error.__context__)


@program
@durable
def pending_outcomes():
    for i in range(4):
        try:
            if i == 0:
                continue
            if i == 1:
                raise LookupError(i)
            if i == 2:
                yield "before"
            if i == 3:
                return "returned"
        except LookupError:
            yield "handled"
        finally:
            yield ("finally", i)
    return "not reached"


@program
@durable
def unhandled():
    try:
        yield 1
        raise ValueError("out")
    finally:
        yield 2


@contextlib.contextmanager
@durable
def tagged(log, name):
    log.append(f"enter {name}")
    try:
        yield name
    finally:
        log.append(f"leave {name}")


class Suppresses:
    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        return kind is ValueError


@program
@durable
def managers():
    log = []
    with tagged(log, "outer") as name:
        yield name
        with Suppresses() as manager, tagged(log, "inner"):
            yield isinstance(manager, Suppresses)
            raise ValueError("suppressed")
        yield list(log)
    return log


@program
@durable
def delegates_that_are_locals():
    inner = middle(2)
    yield "before"
    result = yield from inner
    yield result
    try:
        next(inner)
    except StopIteration:
        return "finished as it should"


@durable
def middle(depth):
    if depth:
        result = yield from middle(depth - 1)
        return result + 1
    total = 0
    for i in range(3):
        total += yield i
    return total


@program
@durable
def generators_held_in_locals():
    held = [middle(0), middle(1)]
    for generator in held:
        yield next(generator)
    yield held[0].send(5)
    expression = (n * n for n in range(3))
    yield list(expression)
    yield held[1].send(6)
    return [list(generator.gi_code.co_varnames[:1]) for generator in held]


@program
@durable
def foreign_delegate():
    yield from [1, 2, 3]
    result = yield from iter("ab")
    return result


@program
@durable
def no_values_yet():
    yield 1
    late = yield 2
    del late
    yield 3
    late = 4
    yield late


@program
@durable
def half_evaluated():
    values = [(yield "a"), (yield "b")]
    total = (yield "c") + (yield "d") * values[0]
    text = f"{(yield 'e')!r:>5} {total}"
    values[(yield "f") % 2] += yield "g"
    flag = 1 < (yield "h") < 100
    return values, total, text, flag, {(yield "i"): (yield "j")}


class Base:
    def __init__(self, label):
        self.label = label
        self.__secret = label.upper()

    def parts(self):
        yield "base", self.label


class Derived(Base):
    @durable
    def parts(self, *args, key="k", **kwargs):
        yield from super().parts()
        self.__mine = yield args
        yield key, kwargs, self.__mine
        yield self._Base__secret


@program
def method():
    return Derived("label").parts(1, 2, key="other", more=3)


@program
@durable
def its_own_local():
    box = []
    box.append(box)
    yield len(box)
    me = yield "me"
    return box[0] is box, me


@durable
async def add_up(n):
    total = 0
    for i in range(n):
        total += await Pause(i)
    return total


@durable
async def count_to(n):
    for i in range(n):
        got = await Pause(("counting", i))
        yield i, got


@program
@durable
async def coroutines():
    first = add_up(2)
    result = await first
    async for item in count_to(2):
        result += sum(item)
        await Pause(item)
    try:
        await failing()
    except ValueError as error:
        await Pause(repr(error))
    return result, await add_up(1)


@durable
async def failing():
    try:
        await Pause("failing")
        raise ValueError("failed")
    finally:
        await Pause("cleaning up")


@program
def nested_function():
    base = [10]

    @durable
    def inner(n):
        for i in range(n):
            base.append((yield i + base[0]))
        return base

    return inner(3)


@program
@durable
def classes_made_inside():
    class Local:
        factor = 3

        def times(self, n):
            return n * self.factor

    made = Local()
    for i in range(2):
        yield made.times(i)
    return isinstance(made, Local)


@program
def back_edges():
    suspend_at_back_edges(always_due)
    back_edges_due()
    return twin_of(never_yields, back_edges=True)(6)


@durable
def always_due():
    got = yield "edge"
    back_edges_due()
    return got


@durable
def never_yields(n):
    total = 0
    for i in range(n):
        if i == 3:
            continue
        while total < i * i:
            total += i
        else:
            total -= 1
    while True:
        total += 1
        if total % 5 == 0:
            return total

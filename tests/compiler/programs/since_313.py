"""What came with Python 3.13, in ordinary programs: type parameters with defaults, `locals()` that is a snapshot, and
frames whose `f_locals` writes through. Each program takes `log`."""

import sys
from warnings import deprecated


def defaults_of_type_parameters[T = int, *Ts = *tuple[int, T], **P = [T, str]](log):
    n = int

    def function[U = n, V: n = list[U]](u: U, v: V = (yield "default")) -> U:
        got = yield U.__default__, V.__default__.__args__[0] is U
        return got, V.__bound__

    class Generic[U = n, *More = *tuple[n, U]]:
        type Alias[W = n] = dict[U, W]

        def get(self):
            yield U.__default__, Generic.Alias.__type_params__[0].__default__

    type Alias[U = n, V = list[U]] = dict[U, V]
    n = (yield 1) or str
    log((yield from function(1)), (yield from Generic().get()), [each.__default__ for each in Alias.__type_params__])
    log(T.__default__, Ts.__default__.__origin__, P.__default__[1], Ts.has_default(), (yield 2))
    return Generic.__type_params__[1].has_default()


def deprecated_functions(log):
    @deprecated((yield "message") and "by this" or "by that", category=None)
    def old(n):
        yield n, old.__deprecated__

    yield from old((yield 1))


def snapshots(log):
    a = 1
    first = locals()
    a = yield 1
    second = locals()
    log(first is second, first.get("a"), second.get("a"), sorted(first))
    first["a"], first["z"] = 7, 8
    log(a, sorted(first), sorted(locals()), (yield 2))
    third = vars()
    log(third.get("z"), third is first, sorted(dir()))
    exec("a, q = 5, 6")
    log(a, "q" in locals(), locals().get("q"), (yield 3))
    exec("a, r = 7, 6", globals(), third)
    log(a, third.get("r"), third.get("a"), eval("a"), eval("[a for _ in '1']"), (yield 4))
    try:
        log(eval("q"))
    except NameError as error:
        log(str(error))
    del a
    log("a" in locals(), "a" in third, (yield 5))
    return sorted(locals())


def frames_of_functions(log):
    a = yield 1
    frame = sys._getframe()
    log(frame.f_locals["a"], frame.f_code.co_name, (yield 2))
    del frame
    b = lambda: a
    c = sys._getframe().f_locals
    a = 5
    log(sys._getframe().f_locals["a"], b())
    c["a"] = 6
    log(a, c["a"], b(), "b" in c, "nothing" in c, type(c).__name__)
    c["new"] = 1
    log("new" in locals(), sys._getframe().f_locals["new"])
    del c
    return a, (yield 3)

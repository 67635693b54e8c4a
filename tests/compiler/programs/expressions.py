"""Yields in the middle of expressions: what was evaluated before is not evaluated again, and the order stays."""


class Traced:
    """Logs each operation on it."""

    def __init__(self, log, name):
        self.log, self.name = log, name

    def __repr__(self):
        return f"T{self.name}"

    def __lt__(self, other):
        self.log("lt", self.name, repr(other))
        return Truth(self.log, self.name, self.name < getattr(other, "name", other or 0))

    def __getitem__(self, key):
        self.log("get", repr(key))
        return Traced(self.log, 10)

    def __setitem__(self, key, value):
        self.log("set", repr(key), repr(value))

    def __delitem__(self, key):
        self.log("del", repr(key))

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        self.log("attr", name)
        return lambda *args, **kwargs: self.log("call", repr(args), repr(kwargs))

    def __iadd__(self, other):
        self.log("iadd", repr(other))
        return self

    def __add__(self, other):
        self.log("add", repr(other))
        return self

    def __format__(self, spec):
        self.log("format", spec)
        return f"<{self.name}:{spec}>"


class Truth:
    """A result whose truth is logged when asked for."""

    def __init__(self, log, name, value):
        self.log, self.name, self.value = log, name, value

    def __bool__(self):
        self.log("bool", self.name, self.value)
        return self.value

    def __repr__(self):
        return f"Truth({self.name}, {self.value})"


def chained_comparison(log):
    for left in (0, 5):
        log(repr(Traced(log, left) < ((yield "a") and Traced(log, 1) or Traced(log, 2)) < log(Traced(log, 3))))
        if Traced(log, left) < ((yield "b") or Traced(log, 4)) < Traced(log, 9) < Traced(log, (yield "c") or 10):
            log("true")
    log((yield 1) is None, None is not (yield 2), (yield 3) in [None], 5 not in [(yield 4)])


def short_circuits(log):
    for c in (0, 1):
        t = Truth(log, "c", bool(c))
        log(repr(t and (yield "and")), repr(t or (yield "or")))
        if t and (yield "x") or not Truth(log, "e", True):
            log("then")
        elif not (t or (yield "y")) and Truth(log, "f", True):
            log("elif")
        log(repr((yield 1) and (yield 2) and (yield 3)), repr((yield 4) or (yield 5) or t))
        while t and (yield "w") and not (yield "v"):
            log("loop")
            break


def conditional_expressions(log):
    for c in (0, 1):
        log((yield "then") if c else (yield "else"))
        log(log("a") if (yield "test") else log("b"))
        log(1 + ((yield "x") or 0) if Truth(log, "t", bool(c)) else (c if (yield 1) else 3))


def calls(log):
    def show(*args, **kwargs):
        return log("show", args, tuple(kwargs.items()))

    log("fn", show)(log("x"), *log(iter([1, 2])), (yield "arg"), k=log("k"), **log({"m": 1}), z=(yield "z"))
    o = Traced(log, 0)
    o.method(log("m1"), (yield "m"))
    o.method(*(yield "star") or (1,), **((yield "kw") and {} or {"q": 1}))
    show(*(yield 1) or (), *[(yield 2)], a=1, **{"b": (yield 3)})
    try:
        show(**{"a": 1}, a=(yield "duplicate"))
    except TypeError as e:
        log(str(e).rpartition(".")[2])
    try:
        (yield "not callable")(log("evaluated"))
    except TypeError as e:
        log(str(e))
    return show((yield 4), (yield 5))


def subscripts(log):
    o = Traced(log, 0)
    o[log("i") : (yield "slice")] = log("value")
    o[log("j")] += yield "aug"
    o[(yield 1), log(2) : 3, ...] = yield 4
    log(repr(o[(yield 5)][log(6)]), repr(o[1 : (yield 7) : 2]))
    del o[(yield 8)]
    o.attribute += (yield 9) or 1
    o.other = yield 10


def f_strings(log):
    o = Traced(log, 7)
    log(f"{log('p')!r:>{(yield 'w') or 5}}|{log('q')}")
    log(f"{o:{(yield 1)}x}{o!s}{(yield 2)!r}{(yield 3) or 0:05d} {{}} {log('end')}")
    log(f"{(yield 4)}plain{5}{(yield 6)=}")


def displays(log):
    log({log("k1"): (yield "dv"), **log({"q": 1}), log("k2"): log("v2"), (yield "key"): 1})
    log([log(1), *log((2, 3)), (yield 4), *((yield 5) or ())])
    log((log(1), *log([2]), (yield 3)))
    log(sorted(map(str, {log(1), (yield 2), *log([3])})))
    a, *b = (w := log("one")), *log((1, 2)), (yield "st")
    log(a, b, w)


def names_are_loaded_in_order(log):
    x = 1

    def change():
        nonlocal x
        x = 2

    log(x + ((yield "n") and 0 or change() or 0) + x)
    y = 1
    log([y, (y := 5), (yield y), y])
    try:
        log(undefined + (yield "never"))
    except NameError as e:
        log(str(e))
    z = 1
    log((z, (yield 1), z := 3, (yield 2), z))


def augmented(log):
    x = 1
    x += (yield 1) or 1
    x *= (yield x) or 2
    items = [1]
    same = items
    items += (yield 2) and [2] or [3]
    log(x, items, same is items)
    d = {"a": [0]}
    d["a"][0] += (yield 3) or 4
    d["b"] = (yield 4), d["a"]
    return d


def assignment_order(log):
    o = Traced(log, 1)
    o.a = o[(yield "index")] = log("value"), (yield "v")
    o[(yield 1)], (o.b, *o[(yield 2)]) = log("x"), log((1, 2, 3))
    (p, o[(yield 3)]), q = (1, 2), (yield 4)
    log(p, q)
    try:
        o[(yield 5)], r = yield 6
    except (TypeError, ValueError) as e:
        log(type(e).__name__)


def lambdas(log):
    f = lambda a, b=(yield 1), *, c=(yield 2): (a, b, c)
    log(f(1))
    g = (lambda x: lambda y: x + y)(1)
    yield g(2)
    log(g(3), [h() for h in [lambda i=i: i for i in range(3)]])


def comprehensions_without_yields(log):
    n = 3
    log(
        [x * n for x in range((yield 1) or 2)],
        {x: n for x in "ab"},
        {n for _ in "ab"},
        [[y for y in range(x)] for x in range(n)],
    )
    m = [lambda: n + k for k in range(2)]
    n = (yield 2) or 4
    log([f() for f in m], any(x for x in [0, n]), sum(x for x in range(n) if x % 2))
    log(sorted(n + x for x in (n, (yield 3) or 0)), list(zip((a for a in "xy"), (b for b in "pq"))))
    return [(yield_ := q) for q in (1, 2)], yield_


def generator_expressions_held(log):
    n = 10
    g = (x + n for x in range(3) if log("if", x) is not None)
    yield next(g)
    n = 20
    yield next(g)
    nested = ((a, b, c) for a in range(2) for b in "xy" for c in [a])
    log(next(nested), (yield 1), next(nested))
    yield 2
    log(list(nested), list(g), g.__name__, g.__qualname__.endswith("<genexpr>"))
    shadowed = (n for n in (n, n + 1))
    yield next(shadowed)
    log(list(shadowed), n)
    found = (last := q for q in (1, 2))
    yield next(found)
    log(list(found), last)
    try:
        (x for x in 5)
    except TypeError as e:
        log(str(e))


def nested_definitions(log):
    @(lambda f: log("decorated", f.__name__) and f)
    def inner(a=(yield "default"), *, b: int = (yield "kw") or 2) -> str:
        """Doc of inner."""
        return a, b

    log(inner(), inner.__doc__, inner.__annotations__, inner.__qualname__)

    class Local((yield "base") and object or object, metaclass=(yield "meta") and type or type):
        attribute = [n for n in range(2)]

        def method(self):
            yield self.attribute
            yield __class__.__name__

    log(list(Local().method()), Local.__qualname__)
    m = Local().method()
    yield next(m)
    log(next(m))

    @((yield "decorator") and (lambda f: f) or (lambda f: f))
    async def coro():
        pass

    coro().close()
    return coro.__name__


def closures(log):
    count = 0
    items = []

    def add(item):
        nonlocal count
        count += 1
        items.append(item)
        return count

    def counter():
        nonlocal count
        while True:
            count += (yield count) or 1

    yield add(1)
    c = counter()
    yield next(c)
    add(2)
    log(count, items, (yield "middle"))
    count += 10
    log(add(3), c.send(100), count)
    fs = []
    for k in range(3):
        fs.append(lambda: (k, count))
        yield k
    log([f() for f in fs])
    del count
    try:
        add(4)
    except NameError as e:
        log(str(e))
    yield "deleted"
    count = 5
    return add(5)


def cell_parameters(log):
    def make(a, *args, b=1, **kwargs):
        def show():
            return a, args, b, kwargs

        yield show()
        a += 1
        yield show()
        args = ()
        kwargs["k"] = b
        yield show()

    yield from make(1, 2, 3, b=4, c=5)
    return "done"


def recursion(log):
    def walk(tree):
        if isinstance(tree, tuple):
            for branch in tree:
                yield from walk(branch)
        else:
            log(tree, (yield tree))

    yield from walk((1, (2, (3, 4)), 5))


def deep(log):
    def down(n):
        if n:
            return (yield from down(n - 1)) or n
        return (yield "bottom")

    return (yield from down(50))


def methods(log):
    class Base:
        def __init__(self):
            self.__hidden = 1

        def each(self, n):
            for i in range(n):
                self.__hidden += (yield self.__hidden) or 1

        @classmethod
        def make(cls, n):
            yield cls.__name__, n

        @staticmethod
        def free(n):
            yield n

    class Derived(Base):
        def each(self, n):
            log(__class__.__name__, (yield "derived"))
            yield from super().each(n)
            yield super().__init__
            f = lambda: self
            yield f() is self
            log(super().each.__qualname__)

    d = Derived()
    for x in d.each(2):
        log(type(x).__name__, (yield 1))
    yield from Derived.make(1)
    yield from d.free(2)
    return d._Base__hidden


def strange_signatures(log):
    def f(a, /, b, *c, d=4, **e):
        x = yield a, b, c, d, e
        log(x)
        yield a, b, c, d, e

    yield from f(1, 2)
    yield from f(1, 2, 3, d=5, z=6)
    g = f(1, b=2, a=3)
    yield from g


def locals_are_the_users(log):
    a = 1
    for b in [1]:
        yield sorted(locals())
    log(sorted(vars()), sorted(dir()), (yield "x"))
    return sorted(locals().items(), key=str)[0]


class Asked:
    def __init__(self, log, n):
        self.log, self.n = log, n

    def __bool__(self):
        self.log("asked", self.n)
        return bool(self.n % 2)

    def __lt__(self, other):
        return Asked(self.log, self.n + 1)


def operands_of_a_test_are_asked_once(log):
    for n in range(8):
        a, b, c = Asked(log, n & 1), Asked(log, 2 + (n >> 1 & 1)), Asked(log, 4 + (n >> 2))
        if (yield "and") != 99 and (yield "and") != 99 and a and b and c:
            log("all")
        if (yield "or") == 99 or (yield "or") == 99 or a or b or c:
            log("any")
        if (yield "less") != 99 and (yield "less") != 99 and a < b < c:
            log("less")
        if ((yield "if") != 99 and (a and b if (yield "which") != 99 else c)) and (yield "more") != 99:
            log("chosen")
        while (yield "while") != 99 and (yield "while") != 99 and not (a and b) and c:
            break


def keywords_given_twice(log):
    def f(**options):
        return options

    class Owner:
        def method(self, **options):
            return options

        def __call__(self, **options):
            return options

    a, b = {"key": 1, "other": 2}, {"key": 3}
    o = Owner()
    for call in (
        lambda: (yield from calling(f(**a, **(yield "second")))),
        lambda: (yield from calling(f(**(yield "first"), **b))),
        lambda: (yield from calling(f(key=(yield "named"), **b))),
        lambda: (yield from calling(f(**a, key=(yield "after")))),
        lambda: (yield from calling(o.method(**a, **(yield "method")))),
        lambda: (yield from calling(o(**a, **(yield "object")))),
        lambda: (yield from calling(dict(**a, **(yield "builtin")))),
        lambda: (yield from calling(f(**a, **{"more": (yield "apart")}))),
        lambda: (yield from calling(f(**(yield "no mapping"), **a))),
    ):
        try:
            log((yield from call()))
        except TypeError as e:
            log(str(e))
    for given in (b, a, {5: 1}):
        try:
            log(f(**a, **((yield "given") and given or given)))
        except TypeError as e:
            log(str(e))
        try:
            log(o.method(**(given, (yield "index"))[0], key=(yield "key")))
        except TypeError as e:
            log(str(e))
        try:
            log(dict(**a, **(given, (yield "dict"))[0]))
        except TypeError as e:
            log(str(e))


def calling(value):
    return value
    yield

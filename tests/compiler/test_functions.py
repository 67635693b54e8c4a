"""Functions of every kind and origin: what `durable` keeps, what frames show, and what is refused, saying why."""

import asyncio
import functools
import inspect
import linecache
import pickle
import subprocess
import sys
import textwrap
import types

import pytest

from ray_durable.compiler import awaits, capture, compiled_of, discard, durable, references, restore, suspends, twin_of
from ray_durable.compiler.passes.unsupported import refuse_unknown
from ray_durable.errors import CompileError, UnsupportedSyntaxError
from tests.compiler.roundtrip import Step, pause


def counter(n, /, start: int = 0, *more, step=1, **options) -> "int":
    """Counts."""
    for i in range(start, n, step):
        yield i


async def coro():
    return await Step(1)


async def agen():
    yield 1


def plain():
    return 1


def test_kind_name_document_signature_and_defaults_stay():
    fn = durable(counter)
    assert inspect.isgeneratorfunction(fn)
    assert (fn.__name__, fn.__qualname__, fn.__doc__, fn.__module__) == ("counter", "counter", "Counts.", __name__)
    assert inspect.signature(fn) == inspect.signature(counter)
    assert fn.__annotations__ == counter.__annotations__
    assert inspect.getsource(fn) == inspect.getsource(counter)
    assert list(fn(3, 1)) == [1, 2]
    assert type(fn(3)) is types.GeneratorType
    assert fn(3).__qualname__ == "counter"


@pytest.mark.parametrize(
    ("function", "kind", "native"),
    [
        (counter, "generator", inspect.isgeneratorfunction),
        (coro, "coroutine", inspect.iscoroutinefunction),
        (agen, "async_generator", inspect.isasyncgenfunction),
        (plain, "plain", lambda f: not inspect.isgeneratorfunction(f)),
    ],
)
def test_each_kind_is_kept(function, kind, native):
    fn = durable(function)
    assert compiled_of(fn).kind == kind
    assert native(fn)
    assert durable(fn) is fn


def test_the_twin_of_a_plain_function_is_a_generator_function_and_of_others_what_hosts_call():
    assert inspect.isgeneratorfunction(twin_of(durable(plain)))
    assert twin_of(durable(coro)) is not None
    assert inspect.isgeneratorfunction(twin_of(durable(counter)))
    assert twin_of(plain) is None
    assert twin_of(len) is None


class Base:
    def each(self):
        yield "base"


class Account(Base):
    rate = 2

    @durable
    def each(self):
        yield from super().each()
        yield self.__secret()

    def __secret(self):
        return __class__.__name__

    @durable
    @classmethod
    def of(cls, n):
        yield cls, n

    @staticmethod
    @durable
    def free(n):
        yield n

    @property
    def first(self):
        return next(self.each())


def test_methods_of_every_sort():
    account = Account()
    made = account.each()
    assert next(made) == "base"
    made = restore(capture(made))
    assert next(made) == "Account"
    assert next(Account.of(1)) == (Account, 1)
    assert next(Account.free(2)) == 2
    assert account.first == "base"
    assert type(twin_of(account.each)) is types.MethodType


def test_lambdas():
    doubled = durable(lambda n: [n, pause(n)])
    made = twin_of(doubled)(3)
    assert next(made) == 3
    made = restore(capture(made))
    with pytest.raises(StopIteration) as stop:
        made.send(4)
    assert stop.value.value == [3, 4]


GENERIC = """
def generic[T: int, *Ts](x: T, *rest: *Ts) -> T:
    type Items = list[T]
    class Box[U]:
        def get(self) -> U:
            yield self
    def inner[V](v: V):
        yield v
    got = yield x
    yield from inner(Items.__value__)
    yield from Box().get()
    return T, got
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters came with Python 3.12")
def test_generic_functions_and_type_aliases():
    linecache.cache["<generic>"] = (len(GENERIC), None, GENERIC.splitlines(keepends=True), "<generic>")
    namespace = {"__name__": "generic"}
    exec(compile(GENERIC, "<generic>", "exec"), namespace)
    fn = durable(namespace["generic"])
    assert fn.__type_params__ == namespace["generic"].__type_params__
    made = fn(1, 2)
    seen, reply = [], None
    with pytest.raises(StopIteration) as stop:
        while True:
            seen.append(made.send(reply))
            made = restore(capture(made))
            reply = 5
    assert seen[0] == 1
    assert str(seen[1]) == "list[T]"
    assert type(seen[2]).__name__ == "Box"
    assert stop.value.value == (fn.__type_params__[0], 5)


PARAMETERS = """
def generic[T: (int, str), *Ts, **P](x: T):
    def inner[V: T](v: V) -> V:
        yield V.__bound__ is T, inner.__annotations__["return"] is V is inner.__type_params__[0]

    class Box[W]:
        def get[X](self):
            yield W is Box.__type_params__[0], X is Box.get.__type_params__[0]

    yield x
    yield from inner(x)
    yield from Box().get()
    yield str((T, Ts, P)), T.__constraints__
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters came with Python 3.12")
def test_type_parameters_are_pickled_with_what_they_belong_to():
    linecache.cache["<parameters>"] = (len(PARAMETERS), None, PARAMETERS.splitlines(keepends=True), "<parameters>")
    namespace = {"__name__": "parameters"}
    exec(compile(PARAMETERS, "<parameters>", "exec"), namespace)
    made = durable(namespace["generic"])(1)
    seen = []
    with pytest.raises(StopIteration):
        while True:
            seen.append(next(made))
            made = pickle.loads(references.dumps(made))
    assert seen == [1, (True, True), (True, True), ("(T, Ts, P)", (int, str))]


FUTURE = """
from __future__ import annotations
def gen():
    def inner(a: NotDefinedAnywhere) -> NorThis:
        yield a
    yield inner.__annotations__
    yield from inner(1)
"""


def test_annotations_of_nested_functions_stay_text_where_the_file_says_so():
    linecache.cache["<future>"] = (len(FUTURE), None, FUTURE.splitlines(keepends=True), "<future>")
    namespace = {"__name__": "future"}
    exec(compile(FUTURE, "<future>", "exec", dont_inherit=True), namespace)
    made = durable(namespace["gen"])()
    assert next(made) == {"a": "NotDefinedAnywhere", "return": "NorThis"}
    assert list(restore(capture(made))) == [1]


def make(step):
    total = 0

    def add(n):
        nonlocal total
        total += n * step
        return total

    @durable
    def running(n):
        nonlocal total
        for i in range(n):
            total += step
            got = yield total
            total += got or 0

    return running, add


def test_closures_share_their_cells_with_functions_outside_after_a_restore():
    running, add = make(10)
    made = running(3)
    assert next(made) == 10
    made = restore(capture(made))
    assert add(1) == 20
    assert made.send(5) == 35
    other, _ = make(1)
    assert next(other(1)) == 1


def test_decorators_below_ours_are_kept():
    def logged(fn):
        @functools.wraps(fn)
        def wrapper(*args):
            calls.append(args)
            yield from fn(*args)

        return wrapper

    calls = []

    @durable
    @logged
    def inner(n):
        for i in range(n):
            yield i

    made = inner(2)
    assert next(made) == 0
    made = restore(capture(made))
    assert list(made) == [1]
    assert calls == [(2,)]
    assert inner.__name__ == "inner"


def test_source_from_a_loader_in_exec_and_in_a_notebook():
    text = "def gen(n):\n    for i in range(n):\n        yield i\n"

    class Loader:
        def get_source(self, name):
            return text

    namespace = {"__name__": "loaded", "__loader__": Loader(), "__spec__": None}
    exec(compile(text, "loaded-from-nowhere.py", "exec"), namespace)
    made = durable(namespace["gen"])(3)
    next(made)
    assert list(restore(capture(made))) == [1, 2]
    cell = {"__name__": "__main__"}
    linecache.cache["<cell 1>"] = (len(text), None, text.splitlines(keepends=True), "<cell 1>")
    exec(compile(text, "<cell 1>", "exec"), cell)
    assert list(durable(cell["gen"])(2)) == [0, 1]


def test_without_source_the_error_says_where_to_define_it():
    namespace = {"__name__": "nowhere"}
    exec(compile("def gen():\n    yield 1", "<nowhere>", "exec"), namespace)
    with pytest.raises(CompileError, match="no source"):
        durable(namespace["gen"])
    with pytest.raises(CompileError, match="def"):
        durable(len)


def test_a_construct_that_is_not_on_the_list_is_refused_with_file_line_and_reason():
    import ast

    class Strange(ast.stmt):
        lineno = 7

    source = compiled_of(durable(counter)).source
    definition = ast.parse("def f(): pass").body[0]
    definition.body.append(Strange())
    with pytest.raises(UnsupportedSyntaxError) as caught:
        refuse_unknown(definition, source)
    assert caught.value.filename == __file__
    assert caught.value.lineno == 7
    assert "Strange" in str(caught.value)
    assert "Instead" in str(caught.value)


def test_undecorated_helpers_are_compiled_on_first_use():
    def helper(n):
        got = yield n
        return got

    @durable
    def uses():
        return (yield from helper(1))

    made = uses()
    assert next(made) == 1
    frame = capture(made)
    assert frame.delegate.function.endswith("helper")
    with pytest.raises(StopIteration) as stop:
        restore(frame).send(7)
    assert stop.value.value == 7


def test_registered_awaitables_are_adapted_and_registered_calls_replaced():
    class Ref:
        def __init__(self, value):
            self.value = value

    class Sub(Ref):
        pass

    def sleep(n):
        raise AssertionError("the native one was called")

    @durable
    def sleep_twin(n):
        return (yield ("sleep", n))

    @durable
    async def sleep_async(n):
        return await Step(("async sleep", n))

    async def gather(*things):
        raise AssertionError("the native one was called")

    @durable
    async def gather_durably(*things):
        return [await Step(thing) for thing in things]

    awaits(Ref, lambda ref: Step(("ref", ref.value)))
    suspends(sleep, sleep_twin)
    suspends(gather, None, gather_durably)

    @durable
    async def program():
        a = await Ref(1)
        b = sleep(2)
        c = await gather(3, 4)
        return a, b, c

    made = program()
    seen = []
    reply = None
    with pytest.raises(StopIteration) as stop:
        while True:
            seen.append(made.send(reply))
            made = restore(capture(made))
            reply = len(seen)
    assert seen == [("ref", 1), ("sleep", 2), 3, 4]
    assert stop.value.value == (1, 2, [3, 4])
    assert twin_of(sleep) is sleep_twin

    @durable
    async def subclass():
        return await Sub(1)

    with pytest.raises(TypeError, match="await"):
        subclass().send(None)


def test_a_foreign_awaitable_is_evaluated_again_after_a_restore():
    made_futures = []

    @durable
    async def program(loop):
        prefix = await Step("first")

        def future():
            made_futures.append(loop.create_future())
            return made_futures[-1]

        return prefix, await future()

    loop = asyncio.new_event_loop()
    try:
        made = program(loop)
        made.send(None)
        assert made.send("p") is made_futures[0]
        frame = capture(made)
        assert frame.evaluates_again
        again = restore(frame)
        assert len(made_futures) == 1
        assert again.send(None) is made_futures[1]
        third = restore(capture(again))
        assert capture(third).evaluates_again
        discard(third)
        made_futures[1].set_result("done")
        with pytest.raises(StopIteration) as stop:
            again.send(None)
        assert stop.value.value == ("p", "done")
    finally:
        loop.close()


def test_coroutines_run_under_asyncio_as_any_other():
    @durable
    async def child(n):
        await asyncio.sleep(0)
        return n

    @durable
    async def parent():
        async with asyncio.timeout(10):
            return await asyncio.gather(*(child(n) for n in range(3)))

    assert asyncio.run(parent()) == [0, 1, 2]


def test_importing_the_compiler_loads_neither_ray_nor_libcst():
    program = textwrap.dedent("""
        import sys
        import ray_durable.compiler as c
        @c.durable
        def f():
            yield 1
        g = f(); next(g)
        c.restore(c.capture(g))
        print([name for name in ("ray", "libcst", "cloudpickle") if name in sys.modules])
    """)
    run = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv=['x']; import linecache\n"
         f"text={program!r}\nlinecache.cache['<p>']=(len(text),None,text.splitlines(True),'<p>')\n"
         "exec(compile(text,'<p>','exec'),{'__name__':'__main__'})"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.stdout.strip() == "[]", run.stderr

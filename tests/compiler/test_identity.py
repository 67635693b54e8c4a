"""A frame goes on with the code it began with, or is refused, or goes through the user's upgrade hook."""

from __future__ import annotations

import importlib
import io
import linecache
import pickle
import subprocess
import sys
import textwrap

import pytest

from ray_durable.compiler import identity, references
from ray_durable.compiler.pipeline import fingerprint_of
from ray_durable.compiler.sources import source_of
from ray_durable.errors import CodeChangedError, RestoreError

OLD = """
    from ray_durable.compiler import durable

    @durable
    def work(n):
        total = 0
        for i in range(n):
            got = yield ("old", i, total)
            total += got
        return total
"""
NEW = """
    from ray_durable.compiler import durable

    @durable
    def work(n):
        yield "starting"
        amount = 0
        for number in range(n):
            got = yield ("new", number, amount)
            amount += 100 * got
        return amount
"""


class ByKey(references.Pickler):
    dispatch_table = references.dispatch_table(by_key=True)


def dumps(obj):
    written = io.BytesIO()
    ByKey(written, 5).dump(obj)
    return written.getvalue()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module's text and (re)loads it, as a deployment of new code in a new process would."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def load(text, name="orders"):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        names.append(name)
        sys.modules.pop(name, None)
        forget()
        importlib.invalidate_caches()
        linecache.clearcache()
        sys.dont_write_bytecode = True
        return importlib.import_module(name)

    def forget():
        from ray_durable.compiler import reading

        for table in (identity.CODES, identity.CURRENT, identity.UPGRADES, reading.MAKERS):
            table.clear()

    yield load
    for name in names:
        sys.modules.pop(name, None)
    forget()
    identity.set_provider(None)
    identity.set_policy("pinned")


def begun(loaded, *sends):
    gen = loaded.work(4)
    next(gen)
    for value in sends:
        gen.send(value)
    return gen


def test_unchanged_code_is_found_by_importing_its_module(module):
    data = dumps(begun(module(OLD), 1))
    module(OLD)
    assert pickle.loads(data).send(5) == ("old", 2, 6)


def test_pinned_goes_on_with_the_code_it_began_with(module):
    data = dumps(begun(module(OLD), 1))
    stored = dict(identity.exported())
    module(NEW)
    identity.set_provider(stored.get)
    gen = pickle.loads(data)
    assert gen.send(5) == ("old", 2, 6)
    again = pickle.loads(dumps(gen))  # and is pickled on as such
    assert again.send(1) == ("old", 3, 7)


def test_pinned_sees_todays_globals(module):
    text = OLD.replace('("old", i, total)', "(GLOBAL, i)")
    data = dumps(begun_with_global(module("GLOBAL = 'before'\n" + textwrap.dedent(text))))
    stored = dict(identity.exported())
    module("GLOBAL = 'after'\n" + textwrap.dedent(text.replace("total = 0", "total = 7")))
    identity.set_provider(stored.get)
    assert pickle.loads(data).send(1) == ("after", 1)


def begun_with_global(loaded):
    gen = loaded.work(3)
    assert next(gen) == ("before", 0)
    return gen


def test_pinned_without_the_stored_code_is_refused(module):
    data = dumps(begun(module(OLD)))
    module(NEW)
    with pytest.raises(CodeChangedError, match="not stored") as caught:
        pickle.loads(data)
    assert caught.value.function == "orders:work"


def test_strict_is_refused_with_a_diff(module):
    data = dumps(begun(module(OLD)))
    stored = dict(identity.exported())
    module(NEW)
    identity.set_provider(stored.get)
    identity.set_policy("strict")
    with pytest.raises(CodeChangedError) as caught:
        pickle.loads(data)
    assert "-    total = 0" in caught.value.diff
    assert "+    amount = 0" in caught.value.diff
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.diff == caught.value.diff


def test_strict_takes_unchanged_code(module):
    data = dumps(begun(module(OLD)))
    module(OLD)
    identity.set_policy("strict")
    assert pickle.loads(data).send(1) == ("old", 1, 1)


@pytest.mark.parametrize("policy", ["pinned", "strict"])
def test_upgrade_hook_leads_into_the_new_code(module, policy):
    data = dumps(begun(module(OLD), 1))
    stored = dict(identity.exported())
    loaded = module(NEW)
    seen = []

    @loaded.work.upgrade
    def upgrade(variables, point):
        seen.append((dict(variables), point))
        return {"n": variables["n"], "amount": variables["total"] * 100, "number": variables["i"]}, 2

    identity.set_provider(stored.get)
    identity.set_policy(policy)
    gen = pickle.loads(data)
    assert seen == [({"n": 4, "total": 1, "i": 1, "got": 1}, 1)]
    assert gen.send(5) == ("new", 2, 600)
    assert pickle.loads(dumps(gen)).send(1) == ("new", 3, 700)


def test_upgrade_hook_that_leads_out_of_the_loop_is_refused(module):
    data = dumps(begun(module(OLD), 1))
    stored = dict(identity.exported())
    loaded = module(NEW)
    loaded.work.upgrade(lambda variables, point: ({}, 1))
    identity.set_provider(stored.get)
    with pytest.raises(RestoreError, match="upgrade hook leads from a yield point with 1 loops"):
        pickle.loads(data)


def test_function_that_is_gone_goes_on_with_its_stored_code(module):
    data = dumps(begun(module(OLD), 1))
    stored = dict(identity.exported())
    module("other = 1")
    identity.set_provider(stored.get)
    assert pickle.loads(data).send(5) == ("old", 2, 6)


def test_nothing_by_that_name_is_said_plainly(module):
    data = dumps(begun(module(OLD), 1))
    module("other = 1")
    with pytest.raises(RestoreError, match="orders:work: no function of that name"):
        pickle.loads(data)


def test_keys_of_functions_without_a_module_name_their_globals_too():
    namespaces = [{"__name__": "unknown_module", "FACTOR": factor} for factor in (2, 3)]
    text = textwrap.dedent(
        """
        from ray_durable.compiler import durable
        @durable
        def work(n):
            for i in range(n):
                yield i * FACTOR
        """
    )
    name = "<generated for test_identity>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    made = []
    for namespace in namespaces:
        exec(compile(text, name, "exec"), namespace)
        gen = namespace["work"](4)
        next(gen)
        made.append(dumps(gen))
    assert made[0] != made[1]
    stored = dict(identity.exported())
    script = (
        "import pickle, sys\nfrom ray_durable.compiler import identity\n"
        "stored, frames = pickle.load(sys.stdin.buffer)\nidentity.set_provider(stored.get)\n"
        "print([list(pickle.loads(data)) for data in frames])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps((stored, made)), capture_output=True, timeout=60, check=True
    )
    assert done.stdout.decode().strip() == "[[2, 4, 6], [3, 6, 9]]"


def fingerprint(text):
    name = f"<fingerprint {abs(hash(text))}>"
    text = textwrap.dedent(text).lstrip("\n")
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    namespace = {"option": lambda *args, **kwargs: lambda function: function, "durable": lambda function: function}
    exec(compile(text, name, "exec"), namespace)
    return fingerprint_of(source_of(namespace["f"]))


PLAIN = """
    def f(a, b=2):
        x = a + 1
        def inner():
            return x * 3
        yield inner()
"""


@pytest.mark.parametrize(
    ("same", "old", "new"),
    [
        (True, "x = a + 1", "x = a + 1  # a comment"),
        (True, "x = a + 1", "x = (a +\n             1)\n"),
        (True, "    def f", "    # moved down\n\n\n    def f"),
        (True, "    def f", "    @option(max_retries=3)\n    def f"),
        (False, "a + 1", "a + 2"),
        (False, "a + 1", "b + 1"),
        (False, "x * 3", "x * 4"),
        (False, "x = a", "y = x = a"),
        (False, "b=2", "b=3"),
        (False, "yield inner()", "yield inner(), 1"),
        (False, "1", "1.0"),
    ],
)
def test_fingerprint_counts_meaning_and_nothing_else(same, old, new):
    assert old in PLAIN
    assert (fingerprint(PLAIN) == fingerprint(PLAIN.replace(old, new, 1))) is same

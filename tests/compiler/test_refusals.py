"""What cannot be pickled, or was damaged, is refused: by name and place, with nothing run, and never by a crash."""

from __future__ import annotations

import copyreg
import linecache
import pickle
import re
import subprocess
import sys
import textwrap
import threading

import pytest

from ray_durable.compiler import durable, references
from ray_durable.compiler.references import find_unpicklable
from ray_durable.errors import CannotPickleError, RestoreError, UnsupportedSyntaxError
from tests.compiler import small_coroutines
from tests.compiler.small_coroutines import eight_locals, holding, started


@durable
def delegating(inner):
    yield from inner


def test_running_is_refused():
    @durable
    def pickles_itself():
        with pytest.raises(CannotPickleError, match="running"):
            pickle.dumps(me)
        yield "refused"

    me = pickles_itself()
    assert next(me) == "refused"


def test_not_durable_is_refused_with_its_name_and_place():
    def plain():
        yield

    with pytest.raises(TypeError, match=r"test_refusals.py:\d+, .*plain\(\): this generator is not durable"):
        pickle.dumps(plain())

    async def coroutine():
        pass

    made = coroutine()
    with pytest.raises(CannotPickleError, match="coroutine"):
        pickle.dumps(made)
    made.close()


def reduced(gen):
    return references.Writer().suspended(gen)


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: (),
        lambda state: (99, *state[1:]),
        lambda state: (-99, *state[1:]),
        lambda state: (-1, 1 << 40, *state[1:]),
        lambda state: (-1, "bits", *state[1:]),
        lambda state: (None, *state[1:]),
        lambda state: ("z", *state),
        lambda state: ("c", 5, *state),
        lambda state: ("c", (1, 2, 3), *state),
        lambda state: ("c", ("", ("no such", "~t7"), state), *state),
        lambda state: ("j", (), "sideways", None, *state),
        lambda state: ("j", (), "", None, *state),
        lambda state: ("k", ()),
        lambda state: state[:-1],
        lambda state: (*state, None),
        lambda state: (*state[:-1], 7),
        lambda state: (*state[:-1], (1, "x")),
        lambda state: (*state[:-1], (1, 2, 0)),
        lambda state: (*state[:-1], ()),
        lambda state: 7,
    ],
)
def test_damaged_state_is_refused_and_nothing_runs(damage):
    make, reference, state, _, _, setter = reduced(started(eight_locals(1, 2, 3, 4)))
    made = make(*reference)
    with pytest.raises(RestoreError):
        setter(made, damage(state))


@pytest.mark.parametrize(
    "reference", [("x",), ("no.such:f#0",), ("os:getcwd#1",), (5,), (), ("a", "b", 3), (None, "~t")]
)
def test_damaged_reference_is_refused(reference):
    make, *_ = reduced(started(eight_locals(1, 2, 3, 4)))
    with pytest.raises(RestoreError):
        make(*reference)


def test_damaged_bytes_never_crash_the_interpreter():
    script = textwrap.dedent(
        """
        import pickle, random, sys, warnings
        warnings.simplefilter("ignore")
        sys.path.insert(0, sys.argv[1])
        from tests.compiler.small_coroutines import eight_locals, started
        from tests.compiler.test_references import nested
        chance = random.Random(7)
        good = [pickle.dumps(started(eight_locals(1, 2, 3, 4))), pickle.dumps(started(nested(4)))]
        raised = 0
        for turn in range(3000):
            data = bytearray(chance.choice(good))
            for _ in range(chance.randint(1, 3)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            try:
                next(pickle.loads(bytes(data)))
            except Exception:
                raised += 1
        print("alive", raised > 1000)
        """
    )
    done = subprocess.run([sys.executable, "-c", script, "."], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.split() == ["alive", "True"], done.stderr[-2000:]


class Client:
    def __init__(self):
        self.sock = threading.Lock()
        self.name = "client"


def test_the_value_that_cannot_be_pickled_is_named():
    gen = started(holding({"clients": [1, {"second": Client()}]}))
    found = find_unpicklable(gen)
    assert found.path == "locals.value['clients'][1]['second'].sock"
    assert type(found.value).__name__ == "lock"
    assert found.function.endswith("holding")
    assert found.filename == small_coroutines.__file__
    assert "cannot pickle" in found.reason
    assert find_unpicklable(started(holding(1))) is None


def test_the_innermost_frame_is_named():
    @durable
    def outer():
        yield from holding(threading.Lock())

    gen = started(outer())
    found = find_unpicklable(gen)
    assert found.path == "locals.value"
    assert found.function.endswith("holding")


def test_a_lock_in_a_closure_or_a_global_is_named():
    lock = threading.Lock()

    def closure():
        return lock

    found = find_unpicklable(started(holding([closure])))
    assert found.path == "locals.value[0].<closure>.lock"


def test_unpicklable_values_in_cycles_are_found():
    box = {"lock": None}
    box["self"] = [box]
    box["lock"] = threading.Lock()
    found = find_unpicklable(started(holding(box)))
    assert found.path == "locals.value['lock']"


def defined(text, filename, name):
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    namespace = {}
    exec(compile(text, filename, "exec", dont_inherit=True), namespace)
    return namespace[name]


def test_more_blocks_within_blocks_than_cpython_takes_are_refused_at_once():
    lines = ["def deep(n):", *("    " * (i + 1) + f"for i{i} in range(n):" for i in range(20)), "    " * 21 + "yield n"]
    plain = defined("\n".join(lines) + "\n", "<deep>", "deep")
    for _ in range(2):
        with pytest.raises(UnsupportedSyntaxError, match=r"<deep>:\d+: .*nested blocks.* Instead: move an inner loop"):
            durable(plain)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def inner(x: (yield)): pass", "<place>:2: in outer(): an annotation cannot suspend. Instead: assign it"),
        ("def inner() -> (yield): pass", "<place>:2: in outer(): an annotation cannot suspend. Instead: assign it"),
        ("try: pass\n    except* (yield): pass", "<place>:3: in outer(): the type of an except* cannot suspend."),
    ],
)
def test_yield_points_where_no_resume_leads_to_are_refused(text, message):
    plain = defined(f"def outer():\n    {text}\n", "<place>", "outer")
    with pytest.raises(UnsupportedSyntaxError, match=re.escape(message)):
        durable(plain)


class Wire:
    """Holds what cannot be pickled, and its registered reducer knows what to say of it."""

    def __init__(self):
        self.lock = threading.Lock()


def test_what_a_registered_reducer_refuses_is_named_itself(monkeypatch):
    def refuse(wire):
        raise TypeError("wires stay where they are")

    monkeypatch.setitem(copyreg.dispatch_table, Wire, refuse)
    found = find_unpicklable(started(holding([Wire()])))
    assert found.path == "locals.value[0]"
    assert found.reason == "TypeError: wires stay where they are"

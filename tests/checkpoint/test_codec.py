import pickle
import socket
import sys
import threading
import traceback

import numpy
import pandas
import pyarrow
import pytest

from ray_durable.checkpoint import codec
from ray_durable.checkpoint.chunks import Chunks
from ray_durable.checkpoint.codec import dumps, loads, reduces
from ray_durable.checkpoint.stores.memory import MemoryStore
from ray_durable.compiler import durable
from ray_durable.errors import CannotSaveError, RayDurableError


class Account:
    def __init__(self, owner):
        self.owner = owner


def chunks():
    return Chunks(MemoryStore(), "w")


def saved_and_loaded(state, into=None):
    """A round trip through chunks, as a commit does it."""
    into = into or chunks()
    data = dumps(state, into)
    for pack in into.take(0):
        into.store.create(*into.encode(pack))
    return loads(data, into)


@pytest.mark.parametrize(
    "state",
    [None, 0, "text", [1, {"a": (2, 3)}, {4}], b"x" * 200_000, "y" * 200_000, [b"z" * 70_000] * 3, bytearray(99_999)],
    ids=lambda state: type(state).__name__,
)
def test_values_survive_with_and_without_chunks(state):
    assert loads(dumps(state)) == state
    assert saved_and_loaded(state) == state


def test_identity_within_a_state_is_kept():
    shared = [1]
    array = numpy.arange(100_000)
    for trip in (lambda state: loads(dumps(state)), saved_and_loaded):
        one, two, first, second = trip((shared, shared, array, array))
        assert one is two
        assert first is second


def test_arrays_frames_and_tables_survive_and_stay_writable():
    array = numpy.arange(1_000_000, dtype="f8").reshape(1000, 1000)
    frame = pandas.DataFrame({"a": numpy.arange(50_000), "b": numpy.random.rand(50_000)})
    table = pyarrow.table({"x": list(range(50_000)), "y": ["text"] * 50_000})
    found_array, found_frame, found_table = saved_and_loaded((array, frame, table))
    assert (found_array == array).all()
    found_array[0, 0] = 7
    assert found_frame.equals(frame)
    assert found_table.equals(table)
    strided = saved_and_loaded(array[::2, ::3])
    assert (strided == array[::2, ::3]).all()
    frozen = array.copy()
    frozen.flags.writeable = False
    assert not saved_and_loaded(frozen).flags.writeable


def test_large_buffers_leave_the_state():
    array = numpy.arange(1_000_000)
    data = dumps({"array": array, "small": numpy.arange(10)}, chunks())
    assert len(data) < 1000
    assert len(dumps({"array": array})) > array.nbytes


def test_functions_and_classes_by_reference_or_by_value():
    class Local:
        value = 3

    again = loads(dumps([Account("me"), lambda n: n + 1, Local()]))
    assert type(again[0]) is Account
    assert again[1](1) == 2
    assert again[2].value == 3


def test_exceptions_keep_all_that_they_say():
    try:
        try:
            {}["missing"]
        except KeyError as error:
            error.add_note("looked up in vain")
            raise ValueError("outer") from error
    except ValueError as error:
        before = error
    after = loads(dumps({"error": before}))["error"]
    assert isinstance(after, ValueError)
    assert isinstance(after.__cause__, KeyError)
    assert after.__cause__.__notes__ == ["looked up in vain"]
    assert "test_exceptions_keep_all_that_they_say" in "".join(traceback.format_exception(after))


class Pair(Exception):
    """An exception that plain pickle cannot make again."""

    def __init__(self, one, two):
        super().__init__("pair")
        self.one, self.two = one, two


def test_exceptions_of_every_signature_survive():
    again = loads(dumps(Pair(1, 2)))
    assert (again.one, again.two) == (1, 2)


class Money:
    def __init__(self, cents):
        self.cents = cents

    def __reduce__(self):
        raise TypeError("no money in pickles")


def test_users_own_reducers_are_used():
    import copyreg

    with pytest.raises(CannotSaveError):
        dumps(Money(5))
    copyreg.pickle(Money, lambda money: (Money, (money.cents,)))
    try:
        assert loads(dumps([Money(5)]))[0].cents == 5
    finally:
        del copyreg.dispatch_table[Money]


@durable
def holder(clients):
    number = 1
    yield number
    yield clients


class Lens:
    """Only what is registered for it knows how to make one again."""

    def __reduce_ex__(self, protocol):
        raise TypeError("not by plain pickle")


def test_a_reducer_for_a_type_serves_beside_code_that_goes_by_source_too(monkeypatch):
    monkeypatch.setattr(codec, "REDUCERS", {})
    reduces(Lens, lambda lens: (str, ("a lens",)))
    assert loads(dumps([Lens()])) == ["a lens"]
    text, function = loads(dumps([Lens(), lambda: 7]))
    assert (text, function()) == ("a lens", 7)
    with pytest.raises(TypeError):
        pickle.dumps(Lens())


def test_what_cannot_be_saved_is_named_with_its_path_and_place():
    account = Account("me")
    account.sock = socket.socket()
    suspended = holder([1, 2, 3, account])
    next(suspended)
    with pytest.raises(CannotSaveError) as caught:
        dumps((suspended, "more"))
    error = caught.value
    assert error.path.endswith("clients[3].sock")
    assert error.variable == "clients"
    assert error.type_name == "socket.socket"
    assert error.function.endswith("holder")
    assert error.filename == __file__
    assert error.lineno == holder.__wrapped__.__code__.co_firstlineno + 3 if hasattr(holder, "__wrapped__") else True
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert isinstance(again, RayDurableError)
    account.sock.close()


@pytest.mark.parametrize(
    "bad", [threading.Lock(), (n for n in ()), sys._getframe()], ids=["lock", "generator", "frame"]
)
def test_a_refusal_leaves_the_pickler_as_it_was(bad):
    with pytest.raises(CannotSaveError):
        dumps({"a": [1, bad], "b": b"x" * 100_000}, chunks())
    assert loads(dumps({"a": 1})) == {"a": 1}


class Nested:
    """Pickles another state inside its own."""

    def __reduce__(self):
        return bytes, (dumps({"inner": numpy.arange(20_000)}),)


def test_pickling_within_pickling_mixes_nothing_up():
    before = {"x": list(range(50)), "n": Nested(), "y": "after"}
    after = loads(dumps(before))
    assert (after["x"], after["y"]) == (before["x"], "after")
    assert (loads(after["n"])["inner"] == numpy.arange(20_000)).all()


def test_threads_pickle_side_by_side():
    failures = []

    def work(n):
        for i in range(300):
            state = {"n": n, "i": i, "list": [n] * 50}
            if loads(dumps(state)) != state:
                failures.append((n, i))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []

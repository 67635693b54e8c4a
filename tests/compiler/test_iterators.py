"""Iterators in flight go on where they were, over the same container, and consume nothing by being pickled."""

from __future__ import annotations

import collections
import io
import itertools
import pickle
import sys

import pytest

from ray_durable.compiler import durable, iterators
from ray_durable.compiler.references import dumps


class Pickler(pickle.Pickler):
    dispatch_table = iterators.REDUCERS


def pickled(value):
    written = io.BytesIO()
    Pickler(written, 5).dump(value)
    return written.getvalue()


def round_trip(value):
    return pickle.loads(pickled(value))


def short_form(iterator):
    return iterators.decode(round_trip(iterators.encode(iterator)))


LIST = [1, 2, 3, 4]
DICT = {"a": 1, "b": 2, "c": 3}


class BySubscript:
    def __getitem__(self, index):
        return LIST[index]


MAKERS = {
    "list": lambda: iter(LIST),
    "reversed list": lambda: reversed(LIST),
    "tuple": lambda: iter((1, 2, 3)),
    "range": lambda: iter(range(2, 11, 3)),
    "long range": lambda: iter(range(2**70, 2**70 + 4)),
    "str": lambda: iter("abc"),
    "wide str": lambda: iter("aé€"),
    "bytes": lambda: iter(b"abc"),
    "bytearray": lambda: iter(bytearray(b"abc")),
    "set": lambda: iter({1, 2, 3}),
    "frozenset": lambda: iter(frozenset({1, 2, 3})),
    "dict": lambda: iter(DICT),
    "dict values": lambda: iter(DICT.values()),
    "dict items": lambda: iter(DICT.items()),
    "reversed dict": lambda: reversed(DICT),
    "reversed values": lambda: reversed(DICT.values()),
    "reversed items": lambda: reversed(DICT.items()),
    "counter": lambda: iter(collections.Counter("aab").items()),
    "ordered dict": lambda: iter(collections.OrderedDict(DICT)),
    "deque": lambda: iter(collections.deque(LIST)),
    "reversed deque": lambda: reversed(collections.deque(LIST)),
    "enumerate": lambda: enumerate(LIST, 5),
    "zip": lambda: zip(LIST, "abc"),
    "strict zip": lambda: zip(LIST, LIST, strict=True),
    "map": lambda: map(pow, LIST, LIST),
    "filter": lambda: filter(None, [0, 1, 0, 2]),
    "reversed range": lambda: reversed(range(4)),
    "reversed tuple": lambda: reversed((1, 2, 3)),
    "callable and sentinel": lambda: iter(iter(LIST).__next__, 4),
    "by subscript": lambda: iter(BySubscript()),
    "islice of count": lambda: itertools.islice(itertools.count(3, 2), 5),
    "chain": lambda: itertools.chain(LIST, "ab"),
    "chain from iterable": lambda: itertools.chain.from_iterable(["ab", "cd"]),
    "product": lambda: itertools.product(LIST, "ab"),
    "tee": lambda: itertools.tee(LIST)[0],
    "pairwise": lambda: itertools.pairwise(LIST),
    "zip longest": lambda: itertools.zip_longest(LIST, "ab", fillvalue=0),
    "permutations": lambda: itertools.permutations([1, 2, 3], 2),
    "combinations": lambda: itertools.combinations(LIST, 2),
    "with replacement": lambda: itertools.combinations_with_replacement("abc", 2),
    "accumulate": lambda: itertools.accumulate(LIST, initial=10),
    "starmap": lambda: itertools.starmap(pow, [(1, 2), (2, 3)]),
    "cycle": lambda: itertools.islice(itertools.cycle("abc"), 7),
    "compress": lambda: itertools.compress(LIST, [1, 0, 1, 1]),
    "repeat": lambda: itertools.repeat("x", 3),
    "dropwhile": lambda: itertools.dropwhile(bool, [1, 0, 2, 3]),
    "takewhile": lambda: itertools.takewhile(bool, [1, 2, 0, 3]),
    "filterfalse": lambda: itertools.filterfalse(bool, [0, 1, ""]),
    "groupby keys": lambda: itertools.starmap(lambda_free_first, itertools.groupby("aabbc")),
}


def lambda_free_first(key, group):
    return key


@pytest.mark.parametrize("name", MAKERS)
def test_every_iterator_goes_on_at_every_position(name):
    make = MAKERS[name]
    everything = list(make())
    for consumed in range(len(everything) + 2):
        iterator = make()
        for _ in range(consumed):
            next(iterator, None)
        short, once = short_form(iterator), round_trip(iterator)
        twice = round_trip(round_trip(iterator))
        assert list(short) == list(once) == list(twice) == list(iterator) == everything[consumed:], consumed


@pytest.mark.parametrize("form", [round_trip, short_form])
@pytest.mark.parametrize(
    "make",
    [iter, lambda d: iter(d.values()), lambda d: iter(d.items()), reversed, lambda d: reversed(d.items())],
)
def test_dict_that_changed_before_the_capture_raises_at_every_step(make, form):
    changed = {"a": 1, "b": 2}
    iterator = make(changed)
    next(iterator)
    changed["c"] = 3
    resumed = form(iterator)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="dictionary changed size during iteration"):
            next(resumed)
        with pytest.raises(RuntimeError):
            next(iterator)


def test_dict_that_changes_after_the_resume_raises():
    mapping = {"a": 1, "b": 2}
    iterator = iter(mapping)
    next(iterator)
    mapping_after, iterator_after = round_trip((mapping, iterator))
    mapping_after["c"] = 3
    with pytest.raises(RuntimeError, match="dictionary changed size"):
        next(iterator_after)


def test_set_that_changes_raises_before_and_after():
    items = {1, 2, 3}
    iterator = iter(items)
    next(iterator)
    items_after, iterator_after = round_trip((items, iterator))
    items_after.add(9)
    items.add(9)
    for each in (iterator_after, round_trip(iterator)):
        with pytest.raises(RuntimeError, match="Set changed size"):
            next(each)


def test_what_is_appended_after_the_resume_is_seen():
    items = [1, 2]
    iterator = iter(items)
    next(iterator)
    items_after, iterator_after = round_trip((items, iterator))
    items_after.append(7)
    assert list(iterator_after) == [2, 7]


def test_containers_that_hold_their_own_iterator():
    items = [1, 2, 3]
    iterator = iter(items)
    next(iterator)
    next(iterator)
    items.append(iterator)
    after = round_trip(items)
    assert next(after[3]) == 3
    assert next(after[3]) is after[3]

    mapping = {1: None, 2: None}
    iterator = iter(mapping.items())
    next(iterator)
    mapping[2] = iterator
    after = round_trip(mapping)
    assert next(after[2]) == (2, after[2])


def test_pickling_consumes_nothing():
    for name, make in MAKERS.items():
        iterator = make()
        round_trip(iterator)
        iterators.encode(iterator)
        assert list(iterator) == list(make()), name


def test_views_stay_views():
    mapping = {"a": 1}
    for view in (mapping.keys(), mapping.values(), mapping.items()):
        after_mapping, after = round_trip((mapping, view))
        after_mapping["b"] = 2
        assert type(after) is type(view)
        assert len(after) == 2


def test_loop_iter_takes_iterators_that_lack_iter():
    class OnlyNext:
        def __init__(self):
            self.left = 2

        def __next__(self):
            if not self.left:
                raise StopIteration
            self.left -= 1
            return self.left

    class Iterable:
        def __iter__(self):
            return OnlyNext()

    assert list(iterators.loop_iter(Iterable())) == [1, 0]
    native = iter([1])
    assert iterators.loop_iter(native) is native


@pytest.mark.skipif(sys.version_info < (3, 12), reason="itertools.batched came with Python 3.12")
@pytest.mark.parametrize("consumed", range(4))
def test_batches_in_flight_go_on(consumed):
    batches = itertools.batched("abcde", 2)
    for _ in range(consumed):
        next(batches)
    assert list(round_trip(batches)) == [("a", "b"), ("c", "d"), ("e",)][consumed:]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("consumed", range(6))
def test_groups_in_flight_go_on_and_those_left_behind_stay_empty(consumed, times):
    groups = itertools.groupby("aaabbc", key=str.upper)
    _, first = next(groups)
    taken = [next(first, None) for _ in range(consumed)]
    held = (groups, first)
    for _ in range(times):
        held = round_trip(held)
    groups_again, first_again = held
    assert taken + list(first_again) == ["a", "a", "a", *[None] * max(0, consumed - 3)]
    key, second = next(groups_again)
    assert list(round_trip((groups_again, first_again))[1]) == list(first_again) == []
    assert (key, list(second)) == ("B", ["b", "b"])
    assert [key for key, _ in groups_again] == ["C"]


@pytest.mark.parametrize("ahead", [0, 1, 56, 57, 58, 130])
def test_iterators_of_one_tee_go_on_sharing_what_was_read(ahead):
    source = iter(range(150))
    one, other = itertools.tee(source)
    for _ in range(ahead):
        next(one)
    for _ in range(2):
        one, other, source = round_trip((one, other, source))
    assert next(source) == ahead
    assert list(one) == list(range(ahead + 1, 150))
    assert list(other) == [each for each in range(150) if each != ahead]


def test_an_endless_cycle_and_counts_beyond_a_word_go_on():
    cycle = itertools.cycle(iter("abc"))
    counts = itertools.count(2**70, 3), itertools.count(0.5, 0.25), itertools.repeat("x")
    for step in range(8):
        cycle = round_trip(cycle)
        assert next(cycle) == "abc"[step % 3]
        counts = round_trip(counts)
        assert [next(each) for each in counts] == [2**70 + 3 * step, 0.5 + 0.25 * step, "x"]


def test_a_chain_that_is_captured_again_and_again_does_not_grow():
    chain = itertools.chain.from_iterable(["ab", "cd", *["efg"] * 40])
    sizes = set()
    for _ in range(60):
        chain = round_trip(chain)
        next(chain)
        sizes.add(len(pickled(chain)) // 16)
    assert max(sizes) <= min(sizes) + 20


@durable
def pairs_of(held):
    for item in held[0]:
        yield item, next(held[0], None)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize(
    "make", [lambda: iter([0, 1, 2, 3, 4]), lambda: iter(range(5)), lambda: iter(dict.fromkeys(range(5)))]
)
def test_an_iterator_that_a_loop_shares_stays_shared_however_often_its_frame_is_saved(make, times):
    made, found = pairs_of([make()]), []
    for _ in range(3):
        found.append(next(made))
        for _ in range(times):  # the second time, the loop stands in the pass that the resume led into
            made = pickle.loads(dumps(made))
    assert found == [(0, 1), (2, 3), (4, None)]

"""What every store promises; `test_stores.py` runs it on each."""

from __future__ import annotations

import threading

import pytest

from ray_durable.checkpoint.stores import Store, probe, race
from ray_durable.errors import AlreadyExists, NotFoundError, StoreError


class StoreContract:
    def test_an_object_reads_back_as_it_was_created(self, store: Store):
        store.create("logs/a/1", b"body")
        assert store.read("logs/a/1") == b"body"

    def test_bytes_like_bodies_are_taken(self, store: Store):
        store.create("a", bytearray(b"one"))
        store.create("b", memoryview(b"xtwox")[1:4])
        assert (store.read("a"), store.read("b")) == (b"one", b"two")

    def test_a_second_create_fails_and_changes_nothing(self, store: Store):
        store.create("logs/a/1", b"first")
        with pytest.raises(AlreadyExists):
            store.create("logs/a/1", b"second")
        assert store.read("logs/a/1") == b"first"

    def test_ranges_are_read_from_either_end(self, store: Store):
        store.create("x", b"0123456789")
        assert store.read("x", 3, 4) == b"3456"
        assert store.read("x", 8) == b"89"
        assert store.read("x", -3) == b"789"
        assert store.read("x", -30) == b"0123456789"

    def test_reading_what_is_not_there_says_so(self, store: Store):
        with pytest.raises(NotFoundError) as caught:
            store.read("logs/none/1")
        assert caught.value.name == "logs/none/1"

    def test_listing_is_sorted_and_complete(self, store: Store):
        for name in ("logs/a/2", "logs/a/1", "logs/a/chunks/x", "logs/b/1", "other"):
            store.create(name, b"12345")
        assert [(each.name, each.size) for each in store.list("logs/a/")] == [
            ("logs/a/1", 5),
            ("logs/a/2", 5),
            ("logs/a/chunks/x", 5),
        ]
        assert store.folders("logs/") == ["a", "b"]
        assert store.list("nothing/") == []
        assert store.folders("nothing/") == []

    def test_deleting_twice_is_fine(self, store: Store):
        store.create("a/b", b"1")
        store.delete("a/b")
        store.delete("a/b")
        with pytest.raises(NotFoundError):
            store.read("a/b")
        store.create("a/b", b"2")

    def test_overwriting_replaces(self, store: Store):
        store.overwrite("cluster/beat", b"1")
        store.overwrite("cluster/beat", b"2")
        assert store.read("cluster/beat") == b"2"

    @pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../a", "a/../../b", "a/.hidden", "a\0b", "."])
    def test_names_stay_below_the_root(self, store: Store, name):
        with pytest.raises(StoreError):
            store.create(name, b"")
        with pytest.raises(StoreError):
            store.read(name)

    def test_of_racing_creates_exactly_one_succeeds(self, store: Store):
        for n in range(self.rounds):
            outcomes = race(lambda writer: store.create(f"race/{n}", bytes([writer]) * 100_000), 2)
            assert sorted(map(type, outcomes), key=str) == sorted([AlreadyExists, type(None)], key=str)
            assert store.read(f"race/{n}") == bytes([outcomes.index(None)]) * 100_000

    rounds = 100

    def test_an_object_is_never_seen_half_written(self, store: Store):
        body, stop, seen = b"x" * 3_000_000, threading.Event(), []

        def read():
            while not stop.is_set():
                for n in range(5):
                    try:
                        seen.append(len(store.read(f"big/{n}")))
                    except NotFoundError:
                        pass

        reader = threading.Thread(target=read)
        reader.start()
        for n in range(5):
            store.create(f"big/{n}", body)
        stop.set()
        reader.join()
        assert set(seen) <= {len(body)}

    def test_it_passes_the_probe(self, store: Store):
        probe(store)
        assert store.list("probe/") == []

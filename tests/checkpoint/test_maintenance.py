import random
import re

import pytest

from ray_durable.actors import terms
from ray_durable.actors.code import code_name
from ray_durable.checkpoint.codec import dumps
from ray_durable.checkpoint.compaction import Policy
from ray_durable.checkpoint.footer import Form, wrap
from ray_durable.checkpoint.janitor import Janitor
from ray_durable.checkpoint.keys import Keys
from ray_durable.checkpoint.log import open_log
from ray_durable.checkpoint.maintenance import compact, keys_beside_logs, stats, verify
from ray_durable.checkpoint.names import claim, is_ours, plan_name, segment_name
from ray_durable.checkpoint.record import Codec, Kind
from ray_durable.checkpoint.recovery import recover
from ray_durable.checkpoint.salvage import salvage
from ray_durable.checkpoint.sealing import seal
from ray_durable.checkpoint.stores.memory import MemoryStore
from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.errors import DamagedError

C = Kind.CHECKPOINT


def a_store(**given):
    """Two logs: one live and compacted, with an archive; one sealed, with chunks."""
    store = MemoryStore()
    live = open_log(store, "live", **given)
    for seq in range(5):
        live.append("a", 1, seq, C, b"%d" % seq)
        live.append("b", 1, seq, Kind.COMPLETED, b"done")
        live.flush()
    Janitor(live, Policy(retention_count=0)).compact()
    live.append("a", 2, 0, Kind.ADOPTED, b"after")
    live.flush()
    old = open_log(store, "old", **given)
    old.append("a", 1, 9, C, dumps(random.Random(1).randbytes(200_000), old.chunks))
    old.append("c", 1, 9, C, b"small" * 100)
    old.flush()
    seal(store, "old", "me", b"plan", keys=given.get("keys", Keys()))
    for log in (live, old):
        log.own_executor.shutdown()
    return store


def flip(store, name, at):
    body = bytearray(store.objects[name])
    body[at] ^= 1
    store.objects[name] = bytes(body)


def test_a_sound_store_is_sound():
    found = verify(a_store())
    assert found.findings == []
    assert found.sound
    assert (found.logs, found.coroutines) == (2, 4)
    assert found.objects > 8


OBJECTS = sorted(a_store().objects)


@pytest.mark.parametrize("name", OBJECTS, ids=[re.sub(r"[0-9a-f]{32}", "random", name) for name in OBJECTS])
def test_damage_to_any_object_is_found_and_nothing_is_made_worse(name):
    store = a_store()
    if name not in store.objects:  # parts and archives have random names
        leaf = name.rsplit("/", 1)[0]
        name = next(each for each in store.objects if each.startswith(leaf + "/"))
    flip(store, name, len(store.objects[name]) // 3)
    before = dict(store.objects)
    found = verify(store)
    assert not found.sound
    assert any(finding.name == name or finding.name in name for finding in found.findings), found.findings
    assert store.objects == before
    kept = compact(store, process_gone=lambda writer: True, orphan_age_s=-1)
    assert [each for each in kept.retired if name.startswith(f"logs/{each}/")] == []
    assert all(each in store.objects for each in before if each.startswith("/".join(name.split("/")[:2])))


def test_a_lost_chunk_is_named_with_its_coroutine():
    store = a_store()
    (name,) = [each for each in store.objects if "/chunks/" in each]
    store.delete(name)
    (finding,) = verify(store).findings
    assert (finding.kind, finding.name, finding.coroutines) == ("missing", name, ("a",))


def test_a_lost_chunk_is_named_with_all_coroutines_that_need_it():
    log = open_log(MemoryStore(), "w")
    body = random.Random(1).randbytes(200_000)
    for id in "abc":
        log.append(id, 1, 1, C, dumps(body, log.chunks))
    log.close()
    (name,) = [each for each in log.store.objects if "/chunks/" in each]
    log.store.delete(name)
    (finding,) = verify(log.store).findings
    assert (finding.kind, finding.name, finding.coroutines) == ("missing", name, ("a", "b", "c"))


def test_a_lost_segment_under_a_seal_is_found():
    store = a_store()
    flipped = segment_name("old", 0)
    store.delete(flipped)
    assert not verify(store).sound or recover(store, "old").length == 0


def test_what_nothing_refers_to_is_found_and_cleaned_up():
    store = a_store()
    store.create("logs/old/parts/" + 32 * "0", b"left by a crash")
    store.create("logs/old/0000000000000007", store.objects[segment_name("old", 0)])
    store.create("logs/old/notes.txt", b"a user's")
    store.create("logs/old/chunks/notes.txt", b"a user's")
    kinds = {finding.name: finding.kind for finding in verify(store).findings}
    assert kinds == {
        "logs/old/parts/" + 32 * "0": "orphan",
        "logs/old/0000000000000007": "void",
        "logs/old/notes.txt": "orphan",
        "logs/old/chunks/notes.txt": "orphan",
    }
    assert verify(store).sound
    done = compact(store, orphan_age_s=0)
    assert done.orphans == ["logs/old/parts/" + 32 * "0"]
    assert {"logs/old/notes.txt", "logs/old/chunks/notes.txt"} <= set(store.objects)
    assert compact(store, orphan_age_s=3600).orphans == []


def test_code_is_verified_and_keys_of_archives_and_code_are_counted():
    old, new = Keys(signing=[b"o" * 16]), Keys(signing=[b"n" * 16, b"o" * 16], encryption=[b"e" * 32])
    store = a_store(keys=old)
    store.create(code_name("k"), wrap("code", 0, bytes(16), b"def f(): ...", Form.CODE, old))
    assert verify(store, old).sound
    (archive,) = [name for name in store.objects if name.startswith("archive/")]
    assert keys_beside_logs(store) == {old.signing_id.hex(): 2, "": 2}
    store.create(code_name("l"), wrap("code", 0, bytes(16), b"def g(): ...", Form.CODE, new))
    assert keys_beside_logs(store)[new.encryption_id.hex()] == 1
    flip(store, code_name("k"), 5)
    damaged = [finding.name for finding in verify(store, old).findings if finding.kind == "damaged"]
    assert damaged == sorted([code_name("k"), code_name("l")])  # one is changed, of one the key is not at hand
    assert archive not in damaged


FOREIGN = [
    "logs/old/notes.txt",
    "logs/old/0123",
    "logs/old/plan-b",
    "logs/old/parts/notes.txt",
    "logs/old/parts/0123",
    "logs/old/chunks/7",
    "logs/old/chunks/2024/0000000000000001",
    "logs/old/copy/0000000000000001",
    "logs/live/base-of-all",
    "logs/live/parts/" + 31 * "0",
    "logs/my own/0000000000000000",
    "logs/README",
    "archive/2024.parquet",
]


def test_every_name_that_is_given_is_known_as_ours():
    store = a_store()
    assert claim(store, terms.CLUSTERS, b"me") == claim(store, terms.CONTROLLERS, b"me") == 1
    names = [*store.objects, terms.counter_name(12), code_name("shop.orders:pipeline#12ab"), plan_name("old", 3)]
    names += [f"probe/{SYSTEM_CLOCK.unique()}", f"probe/{SYSTEM_CLOCK.unique()}-7"]
    assert {name.split("/")[0] for name in names} == {*"alive archive cluster code controller logs probe".split()}
    assert [name for name in names if not is_ours(name)] == []


@pytest.mark.parametrize("adopted", [True, False])
def test_a_users_files_stay_whatever_is_deleted_beside_them(adopted):
    store = a_store()
    for name in FOREIGN:
        store.create(name, name.encode())
    heir = open_log(store, "heir")
    janitor = Janitor(heir, Policy(retention_s=None))
    for id in "ac" if adopted else "":
        heir.append(id, 10, 0, Kind.ADOPTED, b"header")
        heir.append(id, 10, 0, C, dumps(random.Random(2).randbytes(200_000), heir.chunks))
    heir.flush()
    store.create("logs/heir/0000000000000000.bak", b"a user's")
    store.create("logs/heir/chunks/0000000000000001.bak", b"a user's")
    assert verify(store).sound
    janitor.compact()
    heir.close()
    done = compact(store, process_gone=lambda writer: writer == "old", orphan_age_s=0)
    assert done.retired == (["old"] if adopted else [])
    assert segment_name("old", 0) not in store.objects or not adopted
    kept = {name: store.objects[name] for name in FOREIGN}
    assert kept == {name: name.encode() for name in FOREIGN}
    assert {"logs/heir/0000000000000000.bak", "logs/heir/chunks/0000000000000001.bak"} < set(store.objects)


def test_sealed_logs_are_emptied_once_all_in_them_is_adopted_elsewhere():
    store = a_store()
    done = compact(store, process_gone=lambda writer: True)
    assert done.retired == []
    assert done.kept == {"old": "c is neither adopted nor over"}
    heir = open_log(store, "heir")
    heir.append("c", 2, 9, Kind.ADOPTED, b"small" * 100)
    heir.close()
    assert compact(store).kept == {"old": "its process may live"}
    assert compact(store, process_gone=lambda writer: True).retired == ["old"]
    assert recover(store, "old").emptied
    assert verify(store).findings == []


@pytest.mark.parametrize("gone", ["base", 30])
def test_what_is_missing_below_much_that_is_there_is_found(gone, monkeypatch):
    monkeypatch.setattr("ray_durable.checkpoint.maintenance.GAP_PAUSE_S", 0)
    store = MemoryStore()
    log = open_log(store, "w")
    for seq in range(60):
        log.append("a", 1, seq, Kind.CHECKPOINT, b"%d" % seq)
        log.flush()
        if seq == 19 and gone == "base":
            Janitor(log, Policy(retention_s=None)).compact()
    log.close()
    assert verify(store).findings == []
    bases = [each.name for each in store.list("logs/w/") if "/base-" in each.name]
    store.delete(segment_name("w", 30) if gone == 30 else bases[0])
    missing = segment_name("w", 30 if gone == 30 else 0)
    found = {(each.kind, each.name) for each in verify(store).findings if each.kind != "orphan"}
    assert found == {("missing", missing)}
    seal(store, "w", "me", b"plan")  # in the hole
    left = dict(store.objects)
    assert ("missing", missing) in {(each.kind, each.name) for each in verify(store).findings}
    heir = open_log(store, "v")
    heir.append("a", 2, 60, Kind.ADOPTED, b"")
    heir.close()
    compact(store, process_gone=lambda writer: True, orphan_age_s=-1)
    assert left.items() <= store.objects.items(), "it may be all that is left"


def test_damage_to_what_only_a_history_needs_is_found():
    store = MemoryStore()
    log = open_log(store, "w")
    for seq in range(3):
        state = dumps(random.Random(seq).randbytes(100_000), log.chunks)
        log.append("a", 1, seq, Kind.CHECKPOINT, state, codec=Codec.PICKLE | Codec.KEPT)
        log.flush()
    log.close()
    name = "logs/w/chunks/0000000000000002"
    body = bytearray(store.objects[name])
    body[7] ^= 1
    store.objects[name] = bytes(body)
    found = verify(store).findings
    assert {(each.kind, each.name) for each in found} == {("damaged", name)}
    assert ("a",) in [each.coroutines for each in found]


def sealed_with(store, writer, *records):
    log = open_log(store, writer)
    for id, epoch, seq, kind, codec in records:
        log.append(id, epoch, seq, kind, b"", codec=codec)
    log.close()
    seal(store, writer, "me", b"plan")


def test_a_history_stays_until_the_retention_of_its_coroutine_is_over():
    store = MemoryStore()
    kept = Codec.PICKLE | Codec.KEPT
    sealed_with(store, "old", ("c", 1, 1, Kind.CHECKPOINT, kept), ("c", 1, 2, Kind.CHECKPOINT, kept))
    sealed_with(store, "mid", ("c", 2, 2, Kind.ADOPTED, 1), ("c", 2, 3, Kind.COMPLETED, 1))
    assert compact(store, process_gone=lambda writer: True).retired == []
    assert len(recover(store, "old").coroutines["c"].history) == 2
    sealed_with(store, "late", ("c", 2, 3, Kind.TOMBSTONE, 1))
    assert compact(store, process_gone=lambda writer: True).retired == ["old"]


def test_a_log_goes_when_its_coroutines_have_ended_in_others_that_do_not_say_any_more_where_they_came_from():
    store = MemoryStore()
    sealed_with(store, "old", ("c", 1, 1, Kind.CHECKPOINT, 1))
    sealed_with(store, "late", ("c", 2, 3, Kind.COMPLETED, 1))
    assert compact(store, process_gone=lambda writer: True).retired == ["old"]
    assert recover(store, "late").coroutines["c"].terminal is not None


def test_stats_tell_sizes_and_keys():
    keys = Keys(signing=[b"s" * 32])
    found = {each.writer: each for each in stats(a_store(keys=keys), keys)}
    assert found["old"].fenced
    assert found["old"].chunk_bytes > 200_000
    assert found["old"].coroutines == 2
    assert found["live"].base_bytes > 0
    assert found["live"].finished == 1
    (key,) = [name for name in found["old"].keys if name]
    assert found["old"].keys[key] >= 3


@pytest.mark.parametrize("small", [True, False])
def test_the_whole_records_of_a_damaged_segment_can_be_had(small):
    store = MemoryStore()
    log = open_log(store, "w")
    states = {f"c{n}": bytes([n]) * (100 if small else 1000) for n in range(8)}
    for id, state in states.items():
        log.append(id, 1, 1, C, state)
    log.close()
    name = segment_name("w", 0)
    flip(store, name, store.objects[name].index(states["c3"]) + 5)
    left = salvage(name, store.objects[name])
    assert [id for id, _, _ in left.lost] == ["c3"]
    assert {record.coroutine: record.state for record in left.good} == {
        id: state for id, state in states.items() if id != "c3"
    }
    (finding,) = verify(store).findings
    assert finding.coroutines == ("c3",)
    assert "7 of its records are whole" in finding.reason


def test_a_store_with_keys_believes_nothing_of_a_damaged_object():
    keys = Keys(signing=[b"s" * 32])
    store = a_store(keys=keys)
    name = segment_name("old", 0)
    flip(store, name, 100)
    with pytest.raises(DamagedError, match="keys"):
        salvage(name, store.objects[name], keys)
    assert not verify(store, keys).sound

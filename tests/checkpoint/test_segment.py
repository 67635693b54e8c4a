import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_durable.checkpoint import segment
from ray_durable.checkpoint.footer import Form, unwrap, wrap
from ray_durable.checkpoint.keys import Keys
from ray_durable.checkpoint.names import part_name, segment_name
from ray_durable.checkpoint.record import Consumed, Kind, Record
from ray_durable.checkpoint.segment import binaries, decode, encode, rows_of, texts
from ray_durable.errors import DamagedError

NONCE = b"n" * 16
NAME = segment_name("host-1", 7)
NUMBERS = st.integers(0, 2**62)
RECORDS = st.builds(
    Record,
    coroutine=st.text(max_size=20).filter(lambda text: text.isprintable()),
    epoch=NUMBERS,
    seq=NUMBERS,
    kind=st.sampled_from(list(Kind)),
    state=st.binary(max_size=200),
    consumed=st.one_of(st.just(b""), st.builds(Consumed, NUMBERS, NUMBERS, NUMBERS).map(Consumed.pack)),
    codec=st.integers(0, 255),
)


def made(records, keys=Keys(), **given):
    return encode("host-1", 7, NONCE, rows_of(records), keys=keys, **given)


@given(st.lists(RECORDS, min_size=1, max_size=30))
def test_records_survive_their_segment(records):
    segment = decode(NAME, made(records))
    assert list(segment.records()) == records
    assert (segment.footer.writer, segment.footer.number, segment.footer.nonce) == ("host-1", 7, NONCE)


def test_large_segments_are_compressed():
    records = [Record(f"c{n}", 1, n, Kind.CHECKPOINT, b"the same again " * 20) for n in range(1000)]
    data = made(records)
    assert len(data) < 60_000
    assert list(decode(NAME, data).records()) == records


def test_any_arrow_reader_opens_a_segment():
    table = pa.ipc.open_stream(made([Record("a", 1, 2, Kind.EVENT, b"x" * 5000)])).read_all()
    assert table.column("coroutine").to_pylist() == ["a"]


def test_a_segment_of_one_record_is_small():
    assert len(made([Record("0123456789abcdef" * 2, 1, 2, Kind.CHECKPOINT, b"")])) < 600


@given(st.data())
@settings(max_examples=300)
def test_a_flipped_bit_is_found(data):
    body = bytearray(made([Record("a", 1, 2, Kind.CHECKPOINT, b"state" * 10), Record("b", 1, 1, Kind.EVENT, b"")]))
    bit = data.draw(st.integers(0, 8 * len(body) - 1))
    body[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DamagedError):
        decode(NAME, bytes(body))


@given(st.integers(0, 10_000))
def test_a_truncated_segment_is_found(length):
    body = made([Record("a", 1, 2, Kind.CHECKPOINT, b"state" * 10)])
    with pytest.raises(DamagedError):
        decode(NAME, body[: length % len(body)])


def test_a_segment_under_another_name_is_found():
    body = made([Record("a", 1, 2, Kind.CHECKPOINT, b"state")])
    for name in (segment_name("host-1", 8), segment_name("host-2", 7)):
        with pytest.raises(DamagedError, match=f"written as {NAME}"):
            decode(name, body)


OLD, NEW, STRANGE = b"o" * 32, b"n" * 32, b"s" * 32


@pytest.mark.parametrize("purpose", ["signing", "encryption"])
def test_keys_rotate(purpose):
    record = Record("a", 1, 2, Kind.CHECKPOINT, b"secret state")
    old = made([record], Keys(**{purpose: [OLD]}))
    new = made([record], Keys(**{purpose: [NEW, OLD]}))
    for data in (old, new):
        assert list(decode(NAME, data, Keys(**{purpose: [NEW, OLD]})).records()) == [record]
    for data, keys in ((new, [OLD]), (old, [NEW]), (old, [STRANGE])):
        with pytest.raises(DamagedError, match="not at hand"):
            decode(NAME, data, Keys(**{purpose: keys}))
    plain = made([record])
    with pytest.raises(DamagedError, match=r"not signed|not encrypted"):
        decode(NAME, plain, Keys(**{purpose: [NEW]}))


def test_a_forged_object_is_refused_though_its_digest_fits():
    forged = made([Record("a", 1, 2, Kind.CHECKPOINT, b"evil")], Keys(signing=[STRANGE]))
    ours = Keys(signing=[NEW])
    relabelled = bytearray(forged)
    at = forged.index(Keys(signing=[STRANGE]).signing_id)
    relabelled[at : at + 8] = ours.signing_id
    from blake3 import blake3

    relabelled[-64:-32] = blake3(bytes(relabelled[:-64])).digest()
    with pytest.raises(DamagedError, match="forged"):
        decode(NAME, bytes(relabelled), ours)


def test_encrypted_state_does_not_show():
    keys = Keys(encryption=[NEW])
    data = made([Record("coroutine-name", 1, 2, Kind.CHECKPOINT, b"secret state")], keys)
    assert b"secret" not in data
    assert b"coroutine-name" not in data


def test_an_encrypted_body_cannot_be_moved_to_another_name():
    keys = Keys(encryption=[NEW])
    one, two = (wrap("host-1", n, NONCE, b"body %d" % n, Form.CHUNKS, keys) for n in (1, 2))
    _, body = unwrap("x", one, keys)
    assert bytes(body) == b"body 1"
    cut = one.rindex(b"host-1")
    swapped = one[:cut] + two[two.rindex(b"host-1") :]
    from blake3 import blake3

    swapped = swapped[:-64] + blake3(swapped[:-64]).digest() + swapped[-32:]
    with pytest.raises(DamagedError, match="cannot be decrypted"):
        unwrap("x", swapped, keys)


def test_keys_show_nothing_of_themselves():
    assert "oooo" not in repr(Keys(signing=[OLD], encryption=[OLD]))
    with pytest.raises(ValueError):
        Keys(signing=[b"short"])
    with pytest.raises(ValueError):
        Keys(encryption=[b"x" * 31])


@pytest.mark.parametrize("state", [b"small", b"large" * 2000])
def test_parts_keep_the_time_of_each_record(state):
    times = [1_700_000_000_000 + n for n in range(7)]
    records = [Record(f"c{n}", 1, n, Kind.CHECKPOINT, state, time_ms=times[n]) for n in range(7)]
    data = encode("host-1", 7, NONCE, rows_of(records), Form.PART, times_ms=times)
    name = part_name("host-1", NONCE.hex())
    assert list(decode(name, data).records()) == records
    for other in (part_name("host-1", bytes(16).hex()), part_name("host-2", NONCE.hex()), segment_name("host-1", 7)):
        with pytest.raises(DamagedError, match=f"it was written as {name}"):
            decode(other, data)


def test_many_records_without_state_are_no_small_object():
    records = [Record(f"c{n}", 1, n, Kind.TOMBSTONE, b"") for n in range(1000)]
    assert list(decode(NAME, made(records)).records()) == records
    assert not unwrap(NAME, made(records))[0].flags


@given(st.lists(st.text()), st.lists(st.binary()))
def test_columns_are_those_that_arrow_makes(ids, states):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "PANDAS", "no such module")
        found = texts(ids), binaries(states)
    for column, expected in zip(found, (pa.array(ids, pa.string()), pa.array(states, pa.binary())), strict=True):
        column.validate(full=True)
        assert column.equals(expected)


def test_a_log_does_not_load_pandas():
    """A first call of `pa.array` would, in the middle of a commit."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PANDAS], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("3000 False\n", "")


WITHOUT_PANDAS = """
import sys
from ray_durable.checkpoint import Kind, open_log, recover
from ray_durable.checkpoint.janitor import Janitor
log = open_log("memory://", "w")
janitor = Janitor(log)
for seq in range(1, 4):
    for n in range(3000):
        log.append(f"c{n}", 1, seq, Kind.CHECKPOINT, b"%d" % n * 9, consumed=b"marks" if n == 1 else b"")
    log.flush()
    janitor.compact()
print(len(recover(log.store, "w").coroutines), "pandas" in sys.modules)
log.close()
"""

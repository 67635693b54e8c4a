"""What compaction keeps of each coroutine; and that its quick way, for the plain ones, keeps the same."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ray_durable.checkpoint.compaction import OVER, Policy, expired, survivors
from ray_durable.checkpoint.names import segment_name
from ray_durable.checkpoint.record import Codec, Consumed, Kind
from ray_durable.checkpoint.recovery import Fold
from ray_durable.checkpoint.segment import decode, encode

PLAIN = (Kind.ADOPTED, Kind.CHECKPOINT)
RECORDS = st.tuples(
    st.sampled_from("abcdefgh"),
    st.integers(1, 3),
    st.integers(0, 5),
    st.one_of(st.sampled_from(PLAIN), st.sampled_from([kind for kind in Kind if kind is not Kind.SEAL])),
    st.sampled_from([b"", Consumed(1, 0, 1).pack()]),
    st.sampled_from([Codec.PICKLE, Codec.PICKLE, Codec.PICKLE | Codec.KEPT]),
)
POLICIES = st.sampled_from([Policy(retention_s=None), Policy(retention_s=0.0), Policy(retention_count=0)])
RELEASED = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([1, 2, 3, OVER]))


def folded(segments):
    fold = Fold()
    for number, records in enumerate(segments):
        rows = [
            (id, epoch, seq, int(kind), b"state", consumed if kind is Kind.CHECKPOINT else b"", int(codec), None)
            for id, epoch, seq, kind, consumed, codec in records
        ]
        fold.add(decode(segment_name("w", number), encode("w", number, b"n" * 16, rows)))
    return fold


@given(st.lists(st.lists(RECORDS, min_size=1, max_size=12), max_size=4), POLICIES, RELEASED)
@settings(max_examples=400)
def test_the_quick_way_keeps_exactly_what_the_rules_keep(segments, policy, released):
    fold = folded(segments)
    over = expired(fold, policy, 1 << 42)
    standing = fold.standing()
    for id in standing:
        keeping = survivors(fold, id, policy, 1 << 42, over, released)
        quick = [fold.newest[kind].get(id) for kind in PLAIN]
        assert keeping.records == [found for found in quick if found is not None]
        assert (keeping.archive, keeping.tombstone_only) == (None, False)
    for id in fold.ids():  # and it is taken wherever it may be
        said = {kind for kind, newest in fold.newest.items() if id in newest}
        several = any(id in each for each in (*fold.numbered.values(), fold.holds, fold.history))
        assert (id in standing) == (said <= set(PLAIN) and not several)

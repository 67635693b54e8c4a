import pytest

from ray_durable.checkpoint.fencing import (
    SEALED_BY_DAMAGE,
    Fenced,
    Seal,
    SealedBy,
    TryAgain,
    Written,
    WroteOneMore,
    after_create,
    after_seal,
    first_free,
    is_proof,
)
from ray_durable.checkpoint.footer import Footer, Form

OURS, THEIRS = b"o" * 16, b"t" * 16


def footer(nonce, form=Form.RECORDS, writer="host-1"):
    return Footer(writer, 3, form, 0, 0, nonce, bytes(8), bytes(8), bytes(16), bytes(32), bytes(32), 0)


@pytest.mark.parametrize(
    ("failed", "found", "damaged", "outcome"),
    [
        (False, None, False, Written()),
        (True, footer(OURS), False, Written()),  # the reply was lost, or a retry met our own success
        (True, None, False, TryAgain()),  # "exists" and then not found
        (True, footer(THEIRS), False, Fenced("host-1")),  # the same name, another process
        (True, footer(THEIRS, Form.SEAL, "controller-2"), False, Fenced("controller-2")),
        (True, None, True, Fenced(SEALED_BY_DAMAGE)),
    ],
)
def test_what_a_create_has_come_to(failed, found, damaged, outcome):
    assert after_create(failed, found, damaged, OURS) == outcome


@pytest.mark.parametrize(
    ("failed", "found", "damaged", "outcome"),
    [
        (False, None, False, Written()),
        (True, footer(OURS, Form.SEAL), False, Written()),
        (True, None, False, TryAgain()),
        (True, footer(THEIRS), False, WroteOneMore()),
        (True, None, True, WroteOneMore()),
        (True, footer(THEIRS, Form.SEAL), False, SealedBy()),
    ],
)
def test_what_a_seal_has_come_to(failed, found, damaged, outcome):
    assert after_seal(failed, found, damaged, OURS) == outcome


@pytest.mark.parametrize(
    ("base", "numbers", "free"), [(0, (), 0), (0, (0, 1, 2), 3), (0, (0, 2, 3), 1), (5, (5, 6), 7), (5, (0, 1), 5)]
)
def test_a_log_ends_at_its_lowest_free_number(base, numbers, free):
    assert first_free(base, numbers) == free


def test_compacted_segments_go_only_after_a_later_commit():
    assert not is_proof(since=7, durable=7)
    assert is_proof(since=7, durable=8)


def test_a_seal_survives_its_bytes():
    seal = Seal("controller-7", 12, 4, 1, b"d" * 32, b"\x00plan")
    assert Seal.unpack(seal.pack()) == seal
    for broken in (b"", b"\xff\xff\xff\xff", b"\x02\0\0\0{}", seal.pack()[:20]):
        with pytest.raises(ValueError):
            Seal.unpack(broken)

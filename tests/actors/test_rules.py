"""PROTOCOL's rules of ownership, over real logs: what a controller's new term makes of what it finds."""

from __future__ import annotations

import pytest

from ray_durable.actors.facts import facts_in
from ray_durable.actors.ownership import decode_plans, encode_plans, live_in, plan_takeover
from ray_durable.actors.rebuild import controller_writer, read_logs, rebuild
from ray_durable.actors.terms import lead_cluster, next_term
from ray_durable.actors.transfer import Header, Transfer
from ray_durable.checkpoint.log import open_log
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.sealing import seal
from ray_durable.checkpoint.stores import open_store
from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.errors import FencedError, StorageInUseError


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


def write(store, writer, *records):
    log = open_log(store, writer)
    for id, epoch, kind, state in records:
        log.append(id, epoch, 0, kind, state)
    log.flush()
    return log


def call(id, name=None, created=0.0, to="host-1"):
    return Transfer(Header(id, "f", name, created=created), "call", b"", epoch=1, to=to)


def test_rule_9_what_was_admitted_and_not_placed_waits_for_a_place(store):
    write(store, controller_writer(1), ("c", 1, Kind.ADMITTED, call("c").encode()))
    entry = rebuild(read_logs(store, 2)).ledger.entries["c"]
    assert (entry.epoch, entry.owner, entry.state) == (1, "", "pending")


def test_rule_9_an_earlier_term_admits_nothing_even_if_it_had_written_nothing(store):
    late = open_log(store, controller_writer(1))
    read_logs(store, 2)
    late.append("c", 1, 0, Kind.ADMITTED, call("c").encode())
    with pytest.raises(FencedError):
        late.flush()


def test_rule_10_what_has_a_tombstone_is_not_made_anew(store):
    write(store, controller_writer(1), ("c", 1, Kind.ADMITTED, call("c").encode()), ("c", 1, Kind.PLACED, b"host-1"))
    write(store, "host-1", ("c", 1, Kind.TOMBSTONE, b""))
    ledger = rebuild(read_logs(store, 2)).ledger
    assert "c" in ledger.expired
    assert not ledger.entries


def test_rule_10_a_name_belongs_to_the_last_that_took_it(store):
    first, second = call("z", "name", 1.0), call("a", "name", 2.0)
    write(store, controller_writer(1), *((t.header.id, 1, Kind.ADMITTED, t.encode()) for t in (second, first)))
    write(store, "host-1", *((id, 1, Kind.COMPLETED, b"") for id in ("z", "a")))
    assert rebuild(read_logs(store, 2)).ledger.named("default", "name").header.id == "a"


def test_rule_12_a_seal_carries_on_what_its_log_owns_one_epoch_up(store):
    write(store, "host-1", ("c", 1, Kind.ADOPTED, call("c").encode()))
    sealed = seal(
        store,
        "host-1",
        controller_writer(2),
        lambda log: encode_plans(plan_takeover(live_in(facts_in(log), "host-1"), {"d": 3}, lambda id: "host-2")),
    )
    assert {id: (plan.epoch, plan.to) for id, plan in decode_plans(sealed.plan).items()} == {
        "c": (2, "host-2"),
        "d": (4, "host-2"),
    }


def test_rule_18_a_living_cluster_is_not_taken_over_unless_told_to(store):
    first = lead_cluster(store, "one", "s", lease_s=0.05, takeover=False, clock=SYSTEM_CLOCK)
    assert lead_cluster(store, "two", "s", lease_s=0.05, takeover=True, clock=SYSTEM_CLOCK) == first + 1
    with pytest.raises(StorageInUseError):
        lead_cluster(store, "one", "s", lease_s=0.05, takeover=True, clock=SYSTEM_CLOCK)
    assert next_term(store, SYSTEM_CLOCK) < next_term(store, SYSTEM_CLOCK)

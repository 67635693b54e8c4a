"""PROTOCOL's rules of ownership, over real logs, leaders and hosts: each test is named for its rule."""

from __future__ import annotations

import asyncio
import time
import types

import pytest

from ray_durable import operations
from ray_durable.actors import rebuild as rebuild_module
from ray_durable.actors.facts import facts_in
from ray_durable.actors.host import Host
from ray_durable.actors.hosted import Leaving
from ray_durable.actors.moves import migrate
from ray_durable.actors.ownership import decode_plans, encode_plans, live_in, plan_takeover
from ray_durable.actors.rebuild import controller_writer, read_logs, rebuild
from ray_durable.actors.takeover import seal_log
from ray_durable.actors.terms import lead_cluster, next_term
from ray_durable.actors.transfer import Header, Transfer
from ray_durable.checkpoint.codec import dumps
from ray_durable.checkpoint.log import open_log
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import recover
from ray_durable.checkpoint.sealing import seal
from ray_durable.checkpoint.stores import open_store
from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.compiler import durable
from ray_durable.errors import FencedError, StaleTermError, StorageInUseError, StoreError
from tests.actors.engines import EngineHost
from tests.actors.worlds import JOURNAL, did
from tests.simulation.leaders import counting, in_calm
from tests.simulation.processes import SETTINGS


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


def test_rule_8_a_repeated_call_carries_the_same_id_and_is_one_coroutine():
    async def work(world):
        leader, header, state = world.leading.leader, Header("c", "counting"), dumps((counting, (3,), {}))
        first, second = await asyncio.gather(leader.admit(header, state), leader.admit(header, state))
        while first.finished is None:
            await first.changed(0.5)
        assert await leader.admit(header, state) is first is second
        await asyncio.sleep(1.0)
        return recover(world.store, controller_writer(world.leading.term)), world

    recovery, world = in_calm(work)
    assert list(recovery.coroutines) == ["c"]
    assert sum("c" in recover(world.store, writer).coroutines for writer in world.processes) == 1


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


@pytest.fixture
async def host(store):
    JOURNAL.clear()
    found = EngineHost(store, "host-1")
    yield found
    found.crash()


@durable
def noted(name):
    did(f"{name} begins")
    try:
        operations.yield_point()
        did(f"{name} goes on")
        operations.yield_point()
    finally:
        did(f"{name} ends")


def real_host(host):
    """The actor's own code around an engine that a test has."""
    actor = Host(host.writer, SETTINGS)
    actor.engine, actor.log = host.engine, host.log
    actor.event_log = types.SimpleNamespace(debug=lambda *a, **k: None, error=lambda *a, **k: None)
    return actor


async def test_rule_11_a_host_takes_only_what_is_planned_for_its_incarnation(host, store):
    actor = real_host(host)
    ours, anothers = (call(id, to=to) for id, to in (("ours", "host-1"), ("anothers", "host-2")))
    payloads = [Transfer.encode(each) for each in (ours, anothers)]
    assert await actor.adopt(1, payloads) == [("ours", 1)]
    assert set(recover(store, "host-1").coroutines) == {"ours"}


async def test_rule_11_nothing_runs_before_the_adoption_is_durable(host, store):
    ordinary, held = host.log.on_durable, []
    host.log.on_durable = held.append
    host.start(noted, "c")
    while not held:
        await asyncio.sleep(0.001)
    assert JOURNAL == []
    assert recover(store, "host-1").coroutines["c"].adopted.epoch == 1
    host.log.on_durable = ordinary
    ordinary(held[0])
    await host.result()
    assert JOURNAL == ["c begins", "c goes on", "c ends"]


def test_rule_13_a_host_refuses_commands_of_a_lower_term(store):
    async def run():
        host = EngineHost(store, "host-1")
        actor = real_host(host)
        assert await actor.adopt(5, []) == []
        for command in (actor.adopt(4, []), actor.release(4, "c", 2, "host-2"), actor.report(4, 0, {})):
            with pytest.raises(StaleTermError):
                await command
        host.crash()

    asyncio.run(run())


@durable
async def waits_for_something_foreign():
    did("asks")
    await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    did("has its answer")


async def test_rule_13_a_host_without_lease_resumes_nothing_not_even_what_awaits_something_foreign(host):
    held = False
    host.engine.allowed = lambda: not held
    host.start(waits_for_something_foreign, id="foreign")
    host.start(noted, "plain", id="plain")
    while "asks" not in JOURNAL:
        await asyncio.sleep(0)
    held = True
    before = list(JOURNAL)
    await asyncio.sleep(0.2)
    assert JOURNAL == before
    held = False
    host.engine.paused = False
    host.engine.schedule()
    await host.result("foreign")
    await host.result("plain")
    assert "has its answer" in JOURNAL


async def test_rule_13_a_store_that_does_not_answer_renews_no_lease(host, monkeypatch):
    actor = real_host(host)
    actor.settings = actor.settings.replace(lease_s=0.2)
    looks = []

    def look(name):
        looks.append(name)
        if len(looks) < 6:
            raise StoreError("read", name, "it does not answer")
        return None, False

    monkeypatch.setattr(type(host.log.objects), "look", lambda self, name: look(name))
    host.engine.allowed = actor.allowed
    keeping = asyncio.create_task(actor.keep_lease())
    while len(looks) < 5:
        await asyncio.sleep(0.01)
    assert host.engine.paused
    while host.engine.paused:  # it answers, and there is no seal
        await asyncio.sleep(0.01)
    assert len(looks) >= 6
    keeping.cancel()


async def test_rule_13_a_silent_host_that_finds_a_seal_ends(host, store):
    actor = real_host(host)
    actor.settings = actor.settings.replace(lease_s=0.2)
    found = asyncio.get_running_loop().create_future()
    actor.log_stopped = lambda error: found.done() or found.set_result(error)
    host.start(noted, "c")
    await host.result()
    seal(store, "host-1", controller_writer(2), b"{}")
    keeping = asyncio.create_task(actor.keep_lease())
    assert isinstance(await asyncio.wait_for(found, 10), FencedError)
    keeping.cancel()


async def test_rule_14_no_finally_runs_where_a_coroutine_has_left(host, store):
    host.start(noted, "c")
    left = asyncio.get_running_loop().create_future()
    host.engine.release("c", Leaving(2, "host-2", left.set_result))
    transfer = await left
    assert "c ends" not in JOURNAL
    after = EngineHost(store, "host-2")
    after.adopt(transfer)
    await after.result()
    assert JOURNAL.count("c begins") == JOURNAL.count("c ends") == 1
    after.crash()


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


def replaced(work):
    """A calm world whose term is replaced without noticing; then `work(leader, record)`, with one of its hosts."""

    async def run(world):
        leader = world.leading.leader
        record = next(record for record in leader.fleet.hosts.values() if record.usable)
        read_logs(world.store, world.leading.term + 1)
        found = await asyncio.wait([asyncio.ensure_future(work(leader, record))], timeout=5)
        return world, record, found

    return in_calm(run)


def test_rule_19_a_term_that_was_replaced_seals_and_plans_nothing():
    async def work(leader, record):
        with pytest.raises(FencedError):
            await seal_log(leader, record.incarnation)

    world, record, (done, _) = replaced(work)
    assert not done.pop().exception()
    left = recover(world.store, record.incarnation)
    assert (left.fenced, left.sealed) == (True, None)


def test_rule_19_a_term_that_was_replaced_follows_no_plan_of_a_later_one():
    followed = []

    async def work(leader, record):
        seal(leader.log.store, record.incarnation, controller_writer(leader.term + 1), b"{}")
        followed.append(await seal_log(leader, record.incarnation))

    replaced(work)
    assert not followed


@pytest.mark.parametrize(("is_replaced", "heard"), [(False, {"c": 2}), (True, {})])
def test_rule_19_a_term_that_was_replaced_lets_no_host_forget(is_replaced, heard):
    async def work(world):
        leader = world.leading.leader
        record = next(record for record in leader.fleet.hosts.values() if record.usable)
        if is_replaced:
            read_logs(world.store, leader.term + 1)
        leader.let_forget(record, "c", 2)
        await asyncio.sleep(2.5)
        return record.handle.host.released

    assert in_calm(work) == heard


def test_rule_19_hosts_are_read_when_no_earlier_term_can_write_any_more(store, monkeypatch):
    """Else what a host adopts by the last command of an earlier term could be in no log that was read."""
    order = []
    honest_seal, honest_recover = rebuild_module.seal, rebuild_module.recover
    monkeypatch.setattr(
        rebuild_module, "seal", lambda *a, **k: (time.sleep(0.1), honest_seal(*a, **k), order.append("sealed"))[1]
    )
    monkeypatch.setattr(rebuild_module, "recover", lambda *a, **k: (order.append("read"), honest_recover(*a, **k))[1])
    write(store, "host-1", ("c", 1, Kind.ADOPTED, call("c").encode()))
    read_logs(store, 4)
    assert order == ["sealed"] * 3 + ["read"]


def test_rule_19_a_host_that_wrote_its_first_while_earlier_terms_were_ended_is_read(store, monkeypatch):
    honest_seal, late = rebuild_module.seal, iter([("c", 1, Kind.ADOPTED, call("c").encode())])

    def seal_slowly(*args, **options):
        for record in late:
            write(store, "host-1", record)
        return honest_seal(*args, **options)

    monkeypatch.setattr(rebuild_module, "seal", seal_slowly)
    assert read_logs(store, 4)["host-1"].coroutines["c"].adopted.epoch == 1


def test_rule_12_an_earlier_stay_that_is_over_does_not_make_a_host_forget_the_later_move():
    async def work(world):
        leader = world.leading.leader
        entry = await leader.admit(Header("c", "counting"), dumps((counting, (500,), {})))
        here, there = [record for record in leader.fleet.hosts.values() if record.usable][:2]
        while not entry.running:
            await asyncio.sleep(0.05)
        if entry.owner != here.incarnation:
            here, there = there, here
        host = here.handle.host
        for target in (there, here):
            assert await migrate(leader, entry, target.incarnation, "requested")
            while not entry.running:
                await asyncio.sleep(0.05)
        command = leader.term, "c", entry.epoch + 1, there.incarnation
        moved = await host.release(*command)  # and this answer is lost
        await host.report(leader.term, 0, {"c": 2})  # the end of the first stay, told late
        assert moved is not None
        assert await host.release(*command) == moved

    in_calm(work)

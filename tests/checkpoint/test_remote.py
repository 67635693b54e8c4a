"""The contract, races and faults against real servers of S3's, Azure's and (but for its headers) Google's kind."""

import itertools

import pytest

from ray_durable.checkpoint.log import open_log
from ray_durable.checkpoint.record import Kind
from ray_durable.checkpoint.recovery import recover
from ray_durable.checkpoint.sealing import seal
from ray_durable.checkpoint.stores import open_store, probe, race
from ray_durable.errors import AlreadyExists, FencedError, LogStoppedError, StoreError
from ray_durable.metrics import Metrics
from tests.checkpoint.fault_proxy import FaultProxy
from tests.checkpoint.servers import azure, google, s3
from tests.checkpoint.store_contract import StoreContract

NUMBERS = itertools.count()


@pytest.fixture(scope="module", params=["s3", "gs", "az"])
def server(request, tmp_path_factory):
    if request.param in ("s3", "gs"):
        with s3() if request.param == "s3" else google() as found:
            yield found
    else:
        with azure(tmp_path_factory.mktemp("azurite")) as found:
            yield found


def opened(server, **more):
    url, options = server
    return open_store(f"{url}/{next(NUMBERS)}", **{**options, **more})


@pytest.fixture
def store(server):
    return opened(server)


class TestRemoteStores(StoreContract):
    rounds = 20


@pytest.mark.timeout(180)
def test_a_thousand_races_of_two_creates_have_one_winner_each(store):
    for n in range(1000):
        outcomes = race(lambda writer: store.create(f"race/{n:04}", bytes([writer]) * 2000), 2)
        assert sum(outcome is None for outcome in outcomes) == 1, outcomes
        assert all(outcome is None or isinstance(outcome, AlreadyExists) for outcome in outcomes), outcomes
        if n % 100 == 0:
            assert store.read(f"race/{n:04}") == bytes([outcomes.index(None)]) * 2000


def test_a_log_is_written_sealed_and_recovered(store):
    released = []
    log = open_log(store, "host-1", on_durable=released.extend)
    assert log.progress.limit == 4
    for seq in range(40):
        log.append("a", 1, seq, Kind.CHECKPOINT, b"%d" % seq, token=seq)
        log.commit()
    log.flush()
    assert released == list(range(40))
    sealed = seal(store, "host-1", "me", b"plan")
    log.append("a", 1, 99, Kind.CHECKPOINT, b"late")
    with pytest.raises(FencedError):
        log.flush()
    found = recover(store, "host-1")
    assert found.coroutines["a"].latest.state == b"39"
    assert found.sealed.plan == sealed.plan == b"plan"
    log.close()


FAULTS = ["cut", "lose", "twice", "slow", 500, 503, 429, 409]


@pytest.mark.timeout(120)
def test_a_log_loses_and_doubles_nothing_behind_a_bad_network(server):
    requests, faults = itertools.count(), itertools.cycle(FAULTS)

    def fault(method, path):
        return next(faults) if next(requests) % 3 == 0 else None

    with FaultProxy(server[1]["endpoint"], fault) as proxy:
        store = opened(server, endpoint=proxy.endpoint, timeout_s=2, retries=10)
        released, metrics = [], Metrics()
        log = open_log(store, "host-1", on_durable=released.extend, metrics=metrics)
        for seq in range(60):
            log.append("a", 1, seq, Kind.CHECKPOINT, b"%d" % seq, token=seq)
            log.commit()
            if seq % 5 == 4:
                log.flush()
        assert released == list(range(60))
        assert set(proxy.met) == set(FAULTS)
        seal(store, "host-1", "me", b"plan", retry_for_s=60)
        log.append("a", 1, 99, Kind.CHECKPOINT, b"late", token="late")
        with pytest.raises(FencedError):
            log.flush()
        found = recover(store, "host-1")
        assert found.coroutines["a"].latest.seq == 59
        assert found.damage == []
        log.close()


@pytest.mark.parametrize("status", [500, 503, 429, 409, 403])
def test_a_store_that_answers_errors_is_named_with_what_it_said(server, status):
    with FaultProxy(server[1]["endpoint"], lambda method, path: status) as proxy:
        store = opened(server, endpoint=proxy.endpoint, retries=1)
        with pytest.raises(StoreError) as caught:
            store.read("logs/a/1")
        assert caught.value.operation == "read"
        assert str(status) in str(caught.value) or "fault" in str(caught.value).lower() or status == 403
        log = open_log(store, "w", retry_for_s=0.2)
        log.append("a", 1, 1, Kind.CHECKPOINT, b"")
        with pytest.raises(LogStoppedError):
            log.flush()
        log.close()


def test_a_server_that_is_gone_is_an_error_soon(server):
    store = opened(server, endpoint="http://127.0.0.1:9", retries=1, timeout_s=1)
    with pytest.raises(StoreError):
        store.list("logs/")


def test_a_bucket_that_is_not_there_is_an_error_and_not_an_empty_store(server):
    url, options = server
    store = open_store(url.split("://")[0] + "://nosuchbucket/x", **options)
    with pytest.raises(StoreError) as caught:
        probe(store)
    assert type(caught.value) is StoreError


def test_options_come_in_the_url_too(server):
    from urllib.parse import urlencode

    url, options = server
    store = open_store(f"{url}/{next(NUMBERS)}?{urlencode(options)}&timeout_s=3")
    store.create("a", b"1")
    assert store.read("a") == b"1"


def test_an_unknown_option_is_refused():
    with pytest.raises(StoreError, match="nonsense"):
        open_store("s3://bucket/x?nonsense=1")

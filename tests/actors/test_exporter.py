"""/metrics and /targets over real HTTP, read with prometheus_client's own parser."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ray_durable.actors.exporter import Exporter, MetricsServer, Target, watch_loop_lag
from ray_durable.config import Settings
from ray_durable.metrics import Metrics, declarations


@pytest.fixture
def metrics():
    metrics = Metrics(node="n1", host="h1")
    metrics.checkpoints.add(5, "indexer.index")
    metrics.checkpoint_latency.observe(0.003, 7)
    metrics.coroutines.follow(lambda: 42, "ready")
    return metrics


@pytest.fixture
def exporter(metrics):
    exporter = MetricsServer(metrics, targets=lambda: [Target("127.0.0.1:9", {"role": "host"}), Target("127.0.0.1:8")])
    exporter.start()
    yield exporter
    exporter.close()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def samples(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, str({k: v for k, v in sample.labels.items() if k not in ("node", "host")})): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_scrape_shows_what_was_counted_with_node_and_host(exporter):
    text = get(exporter.url)
    found = samples(text)
    assert found["durable_checkpoints_total", "{'function': 'indexer.index'}"] == 5
    assert found["durable_checkpoint_latency_seconds_bucket", "{'le': '0.0025'}"] == 0
    assert found["durable_checkpoint_latency_seconds_bucket", "{'le': '0.005'}"] == 7
    assert found["durable_checkpoint_latency_seconds_count", "{}"] == 7
    assert found["durable_coroutines", "{'state': 'ready'}"] == 42
    durable = [s for f in text_string_to_metric_families(text) for s in f.samples if s.name.startswith("durable_")]
    assert {(s.labels["node"], s.labels["host"]) for s in durable} == {("n1", "h1")}


def test_every_declared_metric_is_in_a_scrape(exporter):
    families = {family.name: family.type for family in text_string_to_metric_families(get(exporter.url))}
    for about in declarations():
        assert families[about.name.removesuffix("_total")] == about.kind


def test_promtool_finds_nothing_to_complain_of(exporter):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: apt-get install prometheus")
    done = subprocess.run([promtool, "check", "metrics"], input=get(exporter.url), text=True, capture_output=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_targets_have_the_form_of_http_service_discovery(exporter):
    assert json.loads(get(exporter.url.replace("/metrics", "/targets"))) == [
        {"targets": ["127.0.0.1:9"], "labels": {"role": "host"}},
        {"targets": ["127.0.0.1:8"], "labels": {}},
    ]


def test_other_paths_are_not_found(exporter):
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(exporter.url + "/no")
    assert caught.value.code == 404
    assert "/metrics, /targets" in caught.value.read().decode()


def test_only_loopback_is_listened_on_by_default(exporter):
    assert exporter.server.socket.getsockname()[0] == "127.0.0.1"


def test_a_taken_port_gives_way_to_the_next(metrics, exporter):
    second = MetricsServer(metrics, port=exporter.port)
    second.start()
    try:
        assert exporter.port < second.port <= exporter.port + 100
        assert "durable_" in get(second.url)
    finally:
        second.close()


def test_an_address_that_is_not_ours_is_refused(metrics):
    with pytest.raises(OSError):
        MetricsServer(metrics, host="192.0.2.1").start()


def test_close_frees_the_port_and_may_be_repeated(metrics):
    exporter = MetricsServer(metrics)
    exporter.start()
    port = exporter.port
    exporter.close()
    exporter.close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", port))


def test_a_silent_client_does_not_hold_up_a_scrape(exporter):
    with socket.create_connection(("127.0.0.1", exporter.port)):
        assert "durable_" in get(exporter.url)


def test_settings_decide_what_is_shown(metrics):
    off = Exporter.start(metrics, Settings.load({}, metrics=False))
    assert off.address is None
    off.close()
    settings = Settings.load({}, ray_metrics_interval_s=0)
    host, controller = Exporter.start(metrics, settings), Exporter.start(metrics, settings, targets=list)
    try:
        assert host.bridge is controller.bridge is None
        assert "durable_" in get(f"http://{host.address}/metrics")
        assert get(f"http://{controller.address}/targets") == "[]"
        with pytest.raises(urllib.error.HTTPError):
            get(f"http://{host.address}/targets")
    finally:
        host.close()
        controller.close()


def test_others_are_told_the_advertised_address(metrics):
    server = MetricsServer(metrics, host="0.0.0.0", advertised="10.0.0.1")
    server.start()
    try:
        assert server.address == f"10.0.0.1:{server.port}"
    finally:
        server.close()


async def test_loop_lag_is_observed(metrics):
    task = asyncio.create_task(watch_loop_lag(metrics, every_s=0.01))
    while not sum(metrics.loop_lag.samples()[()].counts):
        await asyncio.sleep(0.01)
    task.cancel()
    assert metrics.loop_lag.samples()[()].sum >= 0

"""Shows a process's metrics: `/metrics` over HTTP, targets for Prometheus's service discovery, and Ray's own metrics.

Every host and the controller run one `Exporter`, on loopback unless told otherwise. The controller's also answers
`/targets` in the form of Prometheus's `http_sd_configs`, so that Prometheus needs one address only. `RayBridge` hands
the same figures to `ray.util.metrics`: a cluster whose Ray metrics are scraped already shows them as `ray_durable_*`.
Scrapes and bridge run in threads of their own and only read; what they read is said in `metrics`.
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from ray_durable.config import Settings
from ray_durable.metrics import Counter, Gauge, Histogram, Metrics

PORTS_TRIED = 100  # from a fixed port on: several hosts may share a machine


@dataclass(frozen=True, slots=True)
class Target:
    """One address that Prometheus is to scrape, as `host:port`, and the labels that its samples get on top."""

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)


class DurableCollector(Collector):
    """Our instruments as prometheus_client's families, with the process's node and host on each sample."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def collect(self) -> Iterator[Metric]:
        place = {"node": self.metrics.node, "host": self.metrics.host}
        for instrument in self.metrics.instruments:
            about = instrument.declaration
            names = [*place, *(label.name for label in about.labels)]
            if isinstance(instrument, Histogram):
                histogram = HistogramMetricFamily(about.name, about.text, labels=names)
                for labels, child in instrument.samples().items():
                    bounds = [*map(floatToGoString, instrument.buckets), "+Inf"]
                    buckets = list(zip(bounds, accumulate(child.counts), strict=True))
                    histogram.add_metric([*place.values(), *labels], buckets=buckets, sum_value=child.sum)
                yield histogram
            else:
                kind = CounterMetricFamily if isinstance(instrument, Counter) else GaugeMetricFamily
                family = kind(about.name, about.text, labels=names)
                for labels, value in instrument.samples().items():
                    family.add_metric([*place.values(), *labels], value)
                yield family


class Server(ThreadingMixIn, WSGIServer):
    """A thread per scrape; a stuck client holds up neither the others nor the end of the process."""

    daemon_threads = True
    request_queue_size = 16


class Server6(Server):
    address_family = socket.AF_INET6


class QuietHandler(WSGIRequestHandler):
    """Writes no line per scrape into Ray's log files, and drops a client that stays silent for 10 s."""

    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:
        pass


class MetricsServer:
    """Serves one process's `/metrics`, and `/targets` when it is given `targets`. It serves from `start` to `close`.

    `port` 0 takes any free port, another the first free one from there on. `advertised` is the host name under which
    others reach this process when it listens on all addresses.
    Raises: OSError from `start` when the address is not this machine's, or no port is free.
    Example:
        server = MetricsServer(metrics, "127.0.0.1", 0)
        server.start()
        print(server.url)     # http://127.0.0.1:40123/metrics
    """

    def __init__(
        self,
        metrics: Metrics,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        targets: Callable[[], Iterable[Target]] | None = None,
        advertised: str | None = None,
    ) -> None:
        self.host, self.first_port, self.targets, self.advertised = host, port, targets, advertised
        registry = CollectorRegistry()
        registry.register(DurableCollector(metrics))
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.metrics_app = make_wsgi_app(registry)
        self.server: WSGIServer | None = None
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        self.server = self.bind()
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.1}, name="metrics", daemon=True
        )
        self.thread.start()

    def bind(self) -> WSGIServer:
        server_class = Server6 if ":" in self.host else Server
        last = self.first_port + (PORTS_TRIED if self.first_port else 1)
        for port in range(self.first_port, min(last, 65536)):
            try:
                return make_server(self.host, port, self.answer, server_class, QuietHandler)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        raise OSError(
            errno.EADDRINUSE, f"no free port for /metrics on {self.host} from {self.first_port} to {last - 1}"
        )

    @property
    def port(self) -> int:
        assert self.server is not None, "the exporter has not been started"
        return self.server.server_port

    @property
    def address(self) -> str:
        """`host:port` as others reach it."""
        host = self.advertised or self.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}/metrics"

    def close(self) -> None:
        """Stop serving and free the port. Safe to call twice."""
        server, self.server = self.server, None
        if server is not None and self.thread is not None:
            server.shutdown()
            self.thread.join()
            server.server_close()

    def answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            body: Iterable[bytes] = self.metrics_app(environ, start_response)
            return body
        if path == "/targets" and self.targets is not None:
            listing = json.dumps([{"targets": [t.address], "labels": dict(t.labels)} for t in self.targets()])
            start_response("200 OK", [("Content-Type", "application/json")])
            return [listing.encode()]
        known = "/metrics" if self.targets is None else "/metrics, /targets"
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [f"Not found; served here: {known}\n".encode()]


class RayBridge:
    """Hands the figures to `ray.util.metrics` at each `publish`; `start` does so every `interval_s` in a thread.

    Ray prefixes names with `ray_` and adds `_total` to counters. Its histograms take one value per call, and ours have
    many; so a histogram goes over as three gauges, `…_bucket` (with `le`), `…_sum` and `…_count`, which
    `histogram_quantile` reads alike. Must run in a process that has joined a Ray cluster.
    """

    def __init__(self, metrics: Metrics, interval_s: float) -> None:
        from ray.util import metrics as ray_metrics

        self.metrics, self.interval_s, self.ray_metrics = metrics, interval_s, ray_metrics
        self.made: dict[str, Any] = {}
        self.sent: dict[tuple[str, tuple[str, ...]], float] = {}
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, name="ray-metrics", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def close(self) -> None:
        """Publish a last time, and stop. Safe to call twice."""
        if self.thread.is_alive():
            self.stop.set()
            self.thread.join()

    def run(self) -> None:
        while not self.stop.wait(self.interval_s):
            self.publish()
        self.publish()

    def publish(self) -> None:
        for instrument in self.metrics.instruments:
            about = instrument.declaration
            names = tuple(label.name for label in about.labels)
            if isinstance(instrument, Histogram):
                self.publish_histogram(instrument, names)
                continue
            for labels, value in instrument.samples().items():
                if isinstance(instrument, Gauge):
                    self.gauge(about.name, about.text, names).set(value, self.tags(names, labels))
                    continue
                more = value - self.sent.get((about.name, labels), 0)
                if more > 0:  # Ray refuses to add 0
                    self.counter(about.name, about.text, names).inc(more, self.tags(names, labels))
                    self.sent[about.name, labels] = value

    def publish_histogram(self, instrument: Histogram, names: tuple[str, ...]) -> None:
        about = instrument.declaration
        bounds = [*map(floatToGoString, instrument.buckets), "+Inf"]
        for labels, child in instrument.samples().items():
            tags = self.tags(names, labels)
            bucket = self.gauge(f"{about.name}_bucket", about.text, (*names, "le"))
            for bound, count in zip(bounds, accumulate(child.counts), strict=True):
                bucket.set(count, {**tags, "le": bound})
            self.gauge(f"{about.name}_sum", about.text, names).set(child.sum, tags)
            self.gauge(f"{about.name}_count", about.text, names).set(sum(child.counts), tags)

    def tags(self, names: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
        return {"node": self.metrics.node, "host": self.metrics.host, **dict(zip(names, labels, strict=True))}

    def gauge(self, name: str, text: str, names: tuple[str, ...]) -> Any:
        if name not in self.made:
            self.made[name] = self.ray_metrics.Gauge(name, text, ("node", "host", *names))
        return self.made[name]

    def counter(self, name: str, text: str, names: tuple[str, ...]) -> Any:
        if name not in self.made:
            ray_name = name.removesuffix("_total")
            self.made[name] = self.ray_metrics.Counter(ray_name, text, ("node", "host", *names))
        return self.made[name]


@dataclass(frozen=True, slots=True)
class Exporter:
    """A process's server and bridge, as far as its settings ask for them.

    Example: self.exporter = Exporter.start(metrics, settings)
    """

    server: MetricsServer | None = None
    bridge: RayBridge | None = None

    @classmethod
    def start(
        cls, metrics: Metrics, settings: Settings, targets: Callable[[], Iterable[Target]] | None = None
    ) -> Exporter:
        """Start to show `metrics`. The controller gives `targets`, and takes its own port by that.

        Raises: OSError when `/metrics` cannot be served where the settings say.
        """
        if not settings.metrics:
            return cls()
        port = settings.metrics_port if targets is None else settings.controller_metrics_port
        everywhere = settings.metrics_host in ("0.0.0.0", "::")
        advertised = node_ip() if everywhere else None
        server = MetricsServer(metrics, settings.metrics_host, port, targets=targets, advertised=advertised)
        server.start()
        if settings.ray_metrics_interval_s == 0:
            return cls(server)
        bridge = RayBridge(metrics, settings.ray_metrics_interval_s)
        bridge.start()
        return cls(server, bridge)

    @property
    def address(self) -> str | None:
        """`host:port` of this process's `/metrics`; None when metrics are off."""
        return None if self.server is None else self.server.address

    def close(self) -> None:
        if self.bridge is not None:
            self.bridge.close()
        if self.server is not None:
            self.server.close()


def node_ip() -> str:
    import ray

    return str(ray.util.get_node_ip_address())


async def watch_loop_lag(metrics: Metrics, every_s: float = 0.25) -> None:
    """Observe for ever how late a timer of the running event loop fires; run it as a task beside the host's work."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + every_s
        await asyncio.sleep(every_s)
        metrics.loop_lag.observe(max(0.0, loop.time() - due))

"""`ray-durable doctor`: whether this machine, its settings and its storage are fit, and what to mend where not.

Each check looks at one thing and yields findings; judging is done on plain figures, so that tests can give them. It
needs no cluster; when an address of one is given it must answer there. `ray-durable status` looks inside.
"""

from __future__ import annotations

import errno
import importlib.metadata
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from packaging.requirements import Requirement
from rich.text import Text

from ray_durable.cli.output import Answer, command, headline, table
from ray_durable.clock import SYSTEM_CLOCK, Clock
from ray_durable.config import Settings, setting_rows, unknown_variables
from ray_durable.errors import RayDurableError, SettingError, StoreError
from ray_durable.inspection import bytes_text

PYTHONS = ((3, 11), (3, 13))
COMMITS_TIMED = 20
SLOW_COMMIT_S = 0.1
SKEW_S = 5.0
FREE_BYTES_MIN = 1 << 30
FILES_MIN = 4096
REACH_S = 3.0
STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `mend` says what to do when it is not fit."""

    subject: str
    verdict: Literal["ok", "warning", "problem"]
    text: str
    mend: str | None = None


@command
def doctor(
    storage: Annotated[
        str | None, typer.Option("--storage", help="Storage to examine; else that of the settings.")
    ] = None,
) -> Answer:
    """Examine versions, settings, storage (with racing creates), clock and ports, and say what to mend."""
    findings = [*check_python(), *check_packages(), *check_settings(dict(os.environ), storage)]
    try:
        settings = Settings.load(storage=storage)
    except SettingError:  # said by check_settings
        settings = None
    if settings is not None:
        findings += [*check_storage(settings), *check_ports(settings)]
    findings += [*check_limits(), *check_address(os.environ.get("RAY_ADDRESS"))]
    problems = sum(finding.verdict == "problem" for finding in findings)
    rows = [(f.subject, Text(f.verdict, STYLES[f.verdict]), f.text) for f in findings]
    shown: list[Any] = [headline("Doctor"), table(["WHAT", "VERDICT", "FOUND"], rows)]
    shown += [Text.assemble("\n", (f"{f.subject}: ", "bold"), f.mend) for f in findings if f.mend]
    plain = {"fit": not problems, "findings": [asdict(finding) for finding in findings]}
    return Answer(plain, shown, code=1 if problems else 0)


def check_python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        yield Finding("Python", "ok", version)
    else:
        low, high = (".".join(map(str, each)) for each in PYTHONS)
        yield Finding("Python", "problem", version, f"Use Python {low} to {high}; frames of others are not known.")


def check_packages() -> Iterator[Finding]:
    """The packages that ours requires, each with the version found."""
    try:
        required = importlib.metadata.requires("ray-durable") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("ray-durable", "problem", "not installed", "Install it: pip install ray-durable")
        return
    yield Finding("ray-durable", "ok", importlib.metadata.version("ray-durable"))
    for requirement in map(Requirement, required):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        mend = f"pip install '{requirement}'"
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(requirement.name, "problem", "not installed", mend)
            continue
        fits = requirement.specifier.contains(found, prereleases=True)
        yield Finding(requirement.name, "ok" if fits else "problem", found, None if fits else mend)


def check_settings(environ: dict[str, str], storage: str | None = None) -> Iterator[Finding]:
    try:
        settings = Settings.load(environ, storage=storage)
    except SettingError as error:
        yield Finding("settings", "problem", str(error), "Mend or unset it; docs/settings.md has all settings.")
    else:
        shown = settings.shown()
        changed = [
            f"{row.name}={shown[row.name]}" for row in setting_rows() if getattr(settings, row.name) != row.default
        ]
        yield Finding("settings", "ok", ", ".join(changed) or "all as by default")
    for name, near in unknown_variables(environ).items():
        mend = f"Did you mean {near}?" if near else "Unset it; docs/settings.md has all settings."
        yield Finding(name, "warning", "sets nothing: there is no such setting", mend)


def check_storage(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> Iterator[Finding]:
    """Open it, race creates of one name, time commits, compare its clock with ours, look at its room."""
    from ray_durable.checkpoint.keys import keys_of
    from ray_durable.checkpoint.stores import open_store, probe

    try:
        keys_of(settings)
        store = open_store(settings.storage)
    except (RayDurableError, ImportError) as error:
        yield Finding("storage", "problem", str(error), storage_advice(settings.storage))
        return
    yield Finding("storage", "ok", store.url)
    if store.url.startswith("memory:"):
        yield Finding(
            "durability", "warning", "kept in this process's memory", "For tests only: it ends with the process."
        )
    try:
        probe(store, clock)
    except StoreError as error:
        yield Finding("conditional create", "problem", str(error), storage_advice(settings.storage))
        return
    yield Finding("conditional create", "ok", "of racing creates of one name, one succeeded")
    name = f"probe/{clock.unique()}"
    times = []
    try:
        for n in range(COMMITS_TIMED):
            began = clock.monotonic()
            store.create(f"{name}-{n}", bytes(4096))
            times.append(clock.monotonic() - began)
        newest = max(each.modified_s for each in store.list("probe/") if each.name.startswith(name))
        ours = clock.now()
    finally:
        for n in range(COMMITS_TIMED):
            store.delete(f"{name}-{n}")
        store.close()
    yield judge_commits(sorted(times)[len(times) // 2], store.remote)
    yield judge_skew(ours - newest)
    yield from check_room(store.url)


def storage_advice(storage: str) -> str:
    if storage.partition("://")[0] in ("s3", "gs", "az"):
        return (
            "Check URL and credentials (AWS_…, GOOGLE_…, AZURE_…), and that create, read, list and delete are allowed."
        )
    return "Name a directory that this user may write to: --storage, or RAY_DURABLE_STORAGE."


def judge_commits(median_s: float, remote: bool) -> Finding:
    text = f"{median_s * 1000:.2f} ms for 4 KiB (median of {COMMITS_TIMED})"
    if median_s <= SLOW_COMMIT_S:
        return Finding("commit", "ok", text)
    advice = "Use a bucket in this region." if remote else "Use a faster or less busy disk, not a network file system."
    return Finding("commit", "warning", text, f"Results and streamed values wait for a commit. {advice}")


def judge_skew(ahead_s: float) -> Finding:
    """`ahead_s`: by how much this machine's clock is ahead of the storage's."""
    if abs(ahead_s) <= SKEW_S:
        return Finding("clock", "ok", f"within {SKEW_S:g} s of the storage's")
    way = "ahead of" if ahead_s > 0 else "behind"
    return Finding(
        "clock",
        "warning",
        f"{abs(ahead_s):.0f} s {way} the storage's",
        "Set the clock by NTP: timeouts and retention use it.",
    )


def check_room(url: str) -> Iterator[Finding]:
    if url.startswith("file://"):
        free = shutil.disk_usage(url.removeprefix("file://")).free
        text = f"{bytes_text(free)} free"
        if free >= FREE_BYTES_MIN:
            yield Finding("room", "ok", text)
        else:
            yield Finding("room", "problem", text, "Free some: when it is full, no yield becomes durable any more.")


def check_ports(settings: Settings) -> Iterator[Finding]:
    """Whether `/metrics` can be served where the settings say."""
    if not settings.metrics:
        yield Finding("metrics", "ok", "off")
        return
    for name in ("metrics_port", "controller_metrics_port"):
        port = getattr(settings, name)
        where = f"{settings.metrics_host}:{port or 'any free port'}"
        try:
            family = socket.AF_INET6 if ":" in settings.metrics_host else socket.AF_INET
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((settings.metrics_host, port))
            yield Finding(name, "ok", where)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                mend = "A running host or controller has it, or another program; then the next free port is taken."
                yield Finding(name, "warning", f"{where} is in use", mend)
            else:
                reason = error.strerror or str(error)
                yield Finding(name, "problem", f"{where}: {reason}", "Set metrics_host to an address of this machine.")


def check_address(address: str | None) -> Iterator[Finding]:
    """Whether a cluster answers where RAY_ADDRESS says. No Ray is needed for that, nor a node on this machine."""
    if not address or address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    mend = "Check RAY_ADDRESS, the head and the network between."
    if not port.isdigit():
        yield Finding("cluster", "problem", f"{address} is no host:port", mend)
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
        yield Finding("cluster", "ok", f"answers at {address}")
    except OSError as error:
        yield Finding("cluster", "problem", f"{address}: {error.strerror or error}", mend)


def check_limits(limit: Callable[[], int] | None = None, shm: Path = Path("/dev/shm")) -> Iterator[Finding]:
    """Open files, and the shared memory that Ray's object store wants."""
    import resource

    files = limit() if limit is not None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files in (-1, resource.RLIM_INFINITY) or files >= FILES_MIN:
        yield Finding("open files", "ok", "no limit" if files < 0 else f"{files:,} allowed")
    else:
        yield Finding(
            "open files", "warning", f"{files:,} allowed", f"Raise it before `ray start`: ulimit -n {FILES_MIN * 16}"
        )
    if shm.is_dir():
        size = shutil.disk_usage(shm).total
        if size >= FREE_BYTES_MIN // 2:
            yield Finding("shared memory", "ok", bytes_text(size))
        else:
            mend = "Give the container more (docker run --shm-size=2g); Ray falls back to slow files otherwise."
            yield Finding("shared memory", "warning", bytes_text(size), mend)

"""DBOS, a peer, on SQLite and PostgreSQL: steps per second, where it is installed.

PostgreSQL is the one that `RAY_DURABLE_BENCH_POSTGRES` names, else one of our own: begun in a temporary directory from
the machine's installation, if there is one, under an unprivileged user, and ended when it has been measured.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ALONE, WORKFLOWS, STEPS = 500, 100, 10
DEBIAN = Path("/usr/lib/postgresql")


def dbos_peers(parent: str | None, result: Callable[[int], Any]) -> dict[str, float]:
    """Steps/s, one after the other and with 100 workflows at a time; each step returns `result(n)`."""
    try:
        import dbos  # noqa: F401
    except ImportError:
        return {}
    with tempfile.TemporaryDirectory(prefix="dbos-", dir=parent) as path:
        figures = measure(f"sqlite:///{path}/dbos.sqlite", "sqlite", result)
    with postgres(parent) as url:
        return {**figures, **(measure(url, "postgres", result) if url is not None else {})}


def measure(url: str, name: str, result: Callable[[int], Any]) -> dict[str, float]:
    from dbos import DBOS, DBOSConfig

    config: DBOSConfig = {"name": "bench", "system_database_url": url, "log_level": "ERROR"}
    DBOS(config=config)

    @DBOS.step()
    def step(n: int) -> Any:
        return result(n)

    @DBOS.workflow()
    def workflow(steps: int) -> int:
        for n in range(steps):
            step(n)
        return steps

    DBOS.launch()
    try:
        workflow(10)
        alone = ALONE / timed(lambda: workflow(ALONE))

        def all_at_once() -> None:
            for handle in [DBOS.start_workflow(workflow, STEPS) for _ in range(WORKFLOWS)]:
                handle.get_result()

        together = WORKFLOWS * STEPS / timed(all_at_once)
    finally:
        DBOS.destroy(destroy_registry=True)
    return {f"dbos_{name}_steps_per_s": alone, f"dbos_{name}_steps_per_s_100": together}


def timed(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


# ---------------------------------------------------------------- PostgreSQL


@contextlib.contextmanager
def postgres(parent: str | None) -> Iterator[str | None]:
    """The URL of a PostgreSQL; None where there is none."""
    given = os.environ.get("RAY_DURABLE_BENCH_POSTGRES")
    programs = installed()
    if given is not None or programs is None:
        yield given
        return
    path = Path(tempfile.mkdtemp(prefix="postgres-", dir=parent))
    # PostgreSQL refuses to run as root.
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
        shutil.chown(path, "nobody")

    def run(*command: str) -> None:
        subprocess.run(command, check=True, cwd=path, stdout=subprocess.DEVNULL, **user)

    run(str(programs / "initdb"), "-D", str(path / "data"), "-U", "bench", "-A", "trust")
    control = [str(programs / "pg_ctl"), "-D", str(path / "data"), "-w", "-l", str(path / "log")]
    run(*control, "-o", f"-k {path} -c listen_addresses=", "start")
    try:
        yield f"postgresql://bench@/postgres?host={path}"
    finally:
        run(*control, "-m", "immediate", "stop")
        shutil.rmtree(path)


def installed() -> Path | None:
    """Where PostgreSQL's programs are."""
    found = [Path(each).parent for each in [shutil.which("initdb")] if each]
    found += sorted(DEBIAN.glob("*/bin"), reverse=True)
    return next((each for each in found if (each / "initdb").exists()), None)

"""Index a source tree on a local Ray cluster while its nodes are killed, and lose nothing.

Starts a head and four nodes, runs some hundreds of durable coroutines, and meanwhile SIGKILLs two nodes and one host,
drains one node and adds one. Ends with exit status 0 only if the index equals what one plain process computes, no
coroutine was lost or finished twice, and every kill was recovered from.
"""

from __future__ import annotations

import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import ray
import typer
from local_cluster import Disturbances, LocalCluster
from progress import Progress, closing_table, console
from source_index import in_one_process, index_share, merged, source_files

import ray_durable

FILES_PER_COROUTINE = 6
INTERRUPTED = 128 + signal.SIGINT  # the exit status that a shell gives a program which Ctrl-C has ended


def start_all(paths: list[str], journal: Path) -> list[Any]:
    """One coroutine per slice of the files, under a name: started again, it is found and goes on."""
    slices = [paths[start : start + FILES_PER_COROUTINE] for start in range(0, len(paths), FILES_PER_COROUTINE)]
    return [
        index_share.options(name=f"share-{number:04d}", get_if_exists=True).remote(part, str(journal))
        for number, part in enumerate(slices)
    ]


def wait_for(
    streams: list[Any], progress: Progress, until: float = 1.0, disturbances: Disturbances | None = None
) -> list[Any]:
    """Show progress until this part of the coroutines has finished; returns the refs of all results."""
    refs = [stream.completed() for stream in streams]
    pending = list(refs)
    wanted = len(refs) - int(until * len(refs))
    while len(pending) > wanted:
        _, pending = ray.wait(pending, num_returns=len(pending), timeout=0.5, fetch_local=False)
        progress.update(len(refs) - len(pending), len(refs))
        if disturbances is not None:
            disturbances.act()
    return refs


def check(paths: list[str], results: list[Any], total: Any, progress: Progress, journal: Path, kills: int) -> list[str]:
    """What is wrong with the outcome; nothing, if all went well."""
    problems = []
    if total != in_one_process(paths):
        problems.append("the index differs from that of one plain process")
    if sum(result["files"] for result in results) != len(paths):
        problems.append("files were lost or counted twice")
    missing = set(paths) - set(journal.read_text().split("\n"))
    if missing:
        problems.append(f"{len(missing)} files were never read")
    if len(progress.recovered()) < kills:
        problems.append(f"{kills} kills, but {len(progress.recovered())} recoveries")
    return problems


def main(
    input: Annotated[
        Path | None,
        typer.Option(help="Tree of text or source files; default: the standard library.", exists=True, file_okay=False),
    ] = None,
    nodes: Annotated[int, typer.Option(help="Nodes beside the head.", min=3)] = 4,
    cold: Annotated[bool, typer.Option(help="Kill the whole cluster in the middle, and go on with a new one.")] = False,
    keep: Annotated[bool, typer.Option(help="Leave the storage directory for a look.")] = False,
    seed: Annotated[int | None, typer.Option(help="Chooses what is killed and when; default: by chance.")] = None,
    record: Annotated[
        Path | None, typer.Option(help="File for what was done to the cluster, with times, as JSON.")
    ] = None,
) -> None:
    """Index a source tree while nodes are killed, and lose nothing."""
    root = input or Path(sysconfig.get_path("stdlib"))
    paths = source_files(root)
    if not paths:
        raise typer.BadParameter(f"{root} has no source or text files", param_hint="--input")
    directory = Path(tempfile.mkdtemp(prefix="ray_durable_demo_"))
    storage, journal = directory / "storage", directory / "files_processed.txt"
    journal.touch()
    console.print(f"Indexing {len(paths)} files under {root}; checkpoints in {storage}")
    cluster = LocalCluster(nodes)
    interrupted, problems = False, []
    try:
        problems = run(cluster, paths, storage, journal, cold=cold, seed=seed, record=record)
    except KeyboardInterrupt:
        interrupted = True
        console.print("[yellow]Interrupted: the cluster is being stopped.[/]")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave processes behind
        cluster.stop()
        if keep:
            console.print(f"Storage kept: {storage}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    for problem in problems:
        console.print(f"[red]{problem}[/]")
    sys.exit(INTERRUPTED if interrupted else 1 if problems else 0)


def run(
    cluster: LocalCluster,
    paths: list[str],
    storage: Path,
    journal: Path,
    *,
    cold: bool,
    seed: int | None,
    record: Path | None,
) -> list[str]:
    began = time.monotonic()
    with console.status("Starting a head and the nodes, each a raylet of its own …"):
        cluster.start()
        ready = ray_durable.init(str(storage))
    console.print(f"Metrics while this runs: http://{ready['metrics']}/metrics")
    with Progress(record) as progress:
        streams = start_all(paths, journal)
        if cold:
            wait_for(streams, progress, until=0.4)
            progress.note("SIGKILL to every process of the cluster")
            cluster.kill_everything()
            cluster.start()
            ray_durable.init(str(storage))
            progress.begin_again()
            streams, kills = start_all(paths, journal), 0
            refs = wait_for(streams, progress)
        else:
            disturbances = Disturbances(cluster, progress, seed)
            refs = wait_for(streams, progress, disturbances=disturbances)
            kills = len(disturbances.killed)
            progress.wait_until_recovered(kills)
    results = ray.get(refs)
    names = Counter(row["name"] for row in ray_durable.list())
    total = merged(results)
    processed = len(journal.read_text().splitlines())
    problems = check(paths, results, total, progress, journal, kills)
    if len(names) != len(streams) or max(names.values()) > 1:
        problems.append("coroutines were lost or started twice")
    if not cold and not disturbances.done:
        problems.append("the job was over before all disturbances had happened: give it more input")
    closing_table(
        progress,
        coroutines=len(streams),
        files=len(paths),
        again=processed - len(paths),
        storage=storage,
        seconds=time.monotonic() - began,
        lost=len(streams) - len(results),
        index=total,
    )
    return problems


if __name__ == "__main__":
    typer.run(main)

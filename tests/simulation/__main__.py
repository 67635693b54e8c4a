"""Many seeds on all cores: `python -m tests.simulation 1000000`. Ends at the first that fails, and says how to see it.

A seed is one world; of which kind is for its number to say (`shares`), or for `--world`.
"""

from __future__ import annotations

import concurrent.futures
import enum
import multiprocessing
import os
import sys
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.simulation.batches import begin_worker, run
from tests.simulation.shares import KINDS

BATCH = 40
SAY_EVERY_S = 60.0
INTERRUPTED = 130

World = enum.StrEnum("World", {name: name for name in KINDS})
Worlds = Annotated[World | None, typer.Option(help="This kind of world only; else each seed's own.")]


class Tally:
    """What has been run: a bar where somebody looks on, else a line now and then."""

    def __init__(self, count, console):
        self.count, self.console = count, console
        self.done, self.failed = 0, []
        self.began = self.said = time.monotonic()
        rate = TextColumn("{task.fields[rate]:.0f}/s")
        columns = (BarColumn(), MofNCompleteColumn(), rate, TimeElapsedColumn(), TimeRemainingColumn())
        self.progress = Progress("seeds", *columns, console=console, disable=not console.is_terminal)
        self.bar = self.progress.add_task("seeds", total=count, rate=0.0)

    def add(self, ran, failures):
        """A batch is done."""
        self.done += ran
        rate = self.done / (time.monotonic() - self.began)
        self.progress.update(self.bar, completed=self.done, rate=rate)
        if not self.console.is_terminal and time.monotonic() - self.said > SAY_EVERY_S:
            self.said = time.monotonic()
            self.console.print(f"{self.done:,} of {self.count:,} seeds, {rate:.0f}/s")
        for seed, name, story in failures:
            self.failed.append(seed)
            self.console.print(story, markup=False, highlight=False)
            self.console.print(
                f"seed {seed} fails ({name}); see it with: python -m tests.simulation 1 --first {seed} --world {name}",
                soft_wrap=True,
            )


def main(
    count: Annotated[int, typer.Argument(min=1, help="How many seeds.")] = 1_000_000,
    first: Annotated[int, typer.Option(min=0, help="The first of them.")] = 0,
    world: Worlds = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Do not end at the first that fails.")] = False,
) -> None:
    """Run the protocol in virtual time, COUNT times, each time with other faults. Exit status 1 if any seed fails."""
    name = None if world is None else world.value
    tally = Tally(count, Console())
    starts = range(first, first + count, BATCH)
    ends = [min(start + BATCH, first + count) for start in starts]
    workers = min(workers, len(starts))
    context = multiprocessing.get_context("spawn")  # the bar has a thread
    with concurrent.futures.ProcessPoolExecutor(workers, context, begin_worker) as pool, tally.progress:
        try:
            for ran, failures in pool.map(run, starts, ends, [name] * len(starts)):
                tally.add(ran, failures)
                if tally.failed and not keep_going:
                    break
        except KeyboardInterrupt:
            tally.console.print("stopped; ending the worlds under way")
            raise typer.Exit(INTERRUPTED) from None
        finally:
            pool.shutdown(cancel_futures=True)
            took_s = time.monotonic() - tally.began
            found = f"{len(tally.failed)} failed" if tally.failed else "none fails"
            tally.console.print(f"{tally.done:,} seeds in {took_s:.0f} s, {found}")
    if tally.failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    sys.exit(typer.run(main))

"""Many seeds on all cores: `python -m tests.simulation COUNT [FIRST]`. Ends at the first that fails, naming it."""

from __future__ import annotations

import concurrent.futures
import os
import sys
import time
import traceback

from tests.simulation.cluster import simulate, succession
from tests.simulation.duel import duel
from tests.simulation.hoard import hoard
from tests.simulation.leaders import simulate_leaders
from tests.simulation.lease import lease
from tests.simulation.overtaken import overtaken
from tests.simulation.rivals import rivals

BATCH = 50
WORLDS = (simulate, succession, duel, hoard, lease, rivals, overtaken, simulate_leaders)


def run(first):
    """The first failing seed of a batch with its story, or None."""
    for seed in range(first, first + BATCH):
        try:
            for world in WORLDS:
                world(seed)
        except Exception:
            return seed, traceback.format_exc()
    return None


def main(count, first=0):
    began = time.monotonic()
    done = 0
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        for failure in pool.map(run, range(first, first + count, BATCH)):
            if failure is not None:
                seed, story = failure
                print(f"{story}\nseed {seed} fails; see it with: pytest tests/simulation --seed {seed}")
                pool.shutdown(cancel_futures=True)
                return 1
            done += BATCH
            if done % (10 * BATCH) == 0:
                rate = done / (time.monotonic() - began)
                print(f"{done:,} seeds, {rate:.0f}/s", flush=True)
    print(f"{count:,} seeds, none fails")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))

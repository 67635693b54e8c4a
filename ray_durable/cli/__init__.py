"""The command `ray-durable`.

    ray-durable status | list | show | inspect | history | top        what runs where
    ray-durable send | cancel | migrate | drain                       act on coroutines and nodes
    ray-durable store stats | verify | clear | compact                the storage, also with no cluster
    ray-durable compile | doctor | demo                               need no cluster either

Each command has `--json`. Exit status: 0 done; 1 refused or failed (said on stderr, with `--json` as `{"error": …}` on
stdout); 2 not a command line that is understood. Ray is imported only by the commands that need a cluster.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line in `sys.argv`; the console script `ray-durable`."""
    from ray_durable.cli.commands import app

    app(prog_name="ray-durable")

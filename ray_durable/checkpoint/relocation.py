"""Where pages went when compaction took their pack away: old extents to new ones.

States are opaque, so a reference in them cannot be rewritten when the pages that it names are moved. Instead the base
of the log says where they are now, for as long as any state refers to a pack that is gone.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

from ray_durable.checkpoint.references import Extent

Run = tuple[int, int, int, int]
"""offset in the old pack, length, new pack, offset there."""


@dataclass(slots=True)
class Relocations:
    """For each pack that is gone, its moved runs by offset."""

    runs: dict[int, list[Run]] = field(default_factory=dict)

    def follow(self, extents: Iterable[Extent]) -> list[Extent]:
        """Where these bytes are now."""
        out: list[Extent] = []
        for each in extents:
            moved = self.runs.get(each.pack)
            if moved is None:
                out.append(each)
                continue
            offset, left = each.offset, each.length
            while left:
                at = bisect_right(moved, (offset, 1 << 62, 0, 0)) - 1
                start, length, pack, there = moved[at] if at >= 0 else (0, 0, 0, 0)
                part = min(left, start + length - offset)
                if part > 0:
                    out.append(Extent(pack, there + offset - start, part))
                else:  # not moved, up to what was: reading it will say that it is gone
                    part = min(left, moved[at + 1][0] - offset) if at + 1 < len(moved) else left
                    out.append(Extent(each.pack, offset, part))
                offset, left = offset + part, left - part
        return out

    def moved_on(self, later: Relocations) -> Relocations:
        """These, with what `later` has moved once more, and its own."""
        runs: dict[int, list[Run]] = {}
        for pack, moved in self.runs.items():
            out: list[Run] = []
            for offset, length, to, there in moved:
                for new in later.follow([Extent(to, there, length)]):
                    if new.pack not in later.runs:  # else nothing needed it, and it has gone with its pack
                        out.append((offset, new.length, new.pack, new.offset))
                    offset += new.length
            runs[pack] = out
        for pack, new_runs in later.runs.items():  # a pack may be emptied twice: a failing store cut the first short
            runs[pack] = sorted([*runs.get(pack, []), *new_runs])
        return Relocations(runs)

    def only(self, packs: Iterable[int]) -> Relocations:
        kept = set(packs)
        return Relocations({pack: runs for pack, runs in self.runs.items() if pack in kept})

    def targets(self) -> dict[int, int]:
        """Bytes that each pack holds for packs that are gone."""
        sizes: dict[int, int] = {}
        for runs in self.runs.values():
            for _, length, pack, _ in runs:
                sizes[pack] = sizes.get(pack, 0) + length
        return sizes

    def pack(self) -> str:
        return json.dumps({str(pack): runs for pack, runs in self.runs.items()}, separators=(",", ":"))

    @classmethod
    def unpack(cls, text: str) -> Relocations:
        """Raises: ValueError."""
        if not text:
            return cls()
        return cls({int(pack): [tuple(run) for run in runs] for pack, runs in json.loads(text).items()})

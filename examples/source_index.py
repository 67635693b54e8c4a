"""The job of the kill-nodes demo: an index of words and definitions over a tree of source files.

Ordinary Python but for one decorator. A share of the files is indexed by one coroutine, which yields twice for every
file and keeps the index so far in its locals; its frames are three deep, as it delegates to helpers that are plain
generator functions. The last stage is a Ray task.
"""

from __future__ import annotations

import io
import os
import re
import tokenize
from collections import Counter
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import ray

import ray_durable

WORD = re.compile(r"[A-Za-z_]{3,}")
Index = dict[str, Any]


def note(journal: str | None, line: str) -> None:
    """Append a line to a journal outside the coroutine: it shows what really ran, repeats included."""
    if journal is not None:
        with open(journal, "a") as file:
            file.write(line + "\n")


def tokens_of(text: str) -> Counter[str]:
    """How often each kind of token occurs; a file that is no valid Python counts as text only."""
    try:
        return Counter(tokenize.tok_name[token.type] for token in tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return Counter()


def read_file(path: str, journal: str | None) -> Generator[str, None, Index]:
    """Read and tokenize one file, with a yield point between the two."""
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    words = Counter(WORD.findall(text))
    yield f"read {path}"
    note(journal, path)
    tokens = tokens_of(text)
    return {"words": words, "tokens": tokens, "definitions": text.count("\ndef ") + text.count("\nclass ")}


def index_files(paths: list[str], journal: str | None = None) -> Generator[str, None, Index]:
    """Index files one after the other, with a yield point after each; returns the index."""
    index: Index = {"files": 0, "words": Counter(), "tokens": Counter(), "definitions": 0}
    for path in paths:
        found = yield from read_file(path, journal)
        index["files"] += 1
        index["definitions"] += found["definitions"]
        index["words"].update(found["words"])
        index["tokens"].update(found["tokens"])
        yield f"indexed {path}"
    return index


@ray_durable.remote
def index_share(paths: list[str], journal: str | None = None) -> Generator[str, None, Index]:
    """One coroutine's work: index a share of the files, then hand the index to a Ray task."""
    index = yield from index_files(paths, journal)
    finished: Index = ray.get(merge.remote([index]))
    return finished


@ray.remote
def merge(indexes: list[Index]) -> Index:
    """The Ray task of the last stage."""
    return merged(indexes)


def merged(indexes: Iterable[Index]) -> Index:
    """One index out of several."""
    total: Index = {"files": 0, "words": Counter(), "tokens": Counter(), "definitions": 0}
    for index in indexes:
        total["files"] += index["files"]
        total["definitions"] += index["definitions"]
        total["words"].update(index["words"])
        total["tokens"].update(index["tokens"])
    return total


def in_one_process(paths: list[str]) -> Index:
    """What one plain process computes by running the same functions: no cluster, no checkpoints."""
    generator = index_files(paths)
    while True:
        try:
            next(generator)
        except StopIteration as finished:
            return merged([finished.value])


def source_files(root: Path) -> list[str]:
    """All Python and text files under `root`, in a fixed order."""
    suffixes = {".py", ".txt", ".md", ".rst", ".c", ".h", ".js", ".ts", ".go", ".rs", ".java"}
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in {"site-packages", "__pycache__"} and not f.startswith("."))
        found += [os.path.join(folder, name) for name in sorted(names) if Path(name).suffix in suffixes]
    return [path for path in found if os.path.isfile(path) and os.access(path, os.R_OK)]

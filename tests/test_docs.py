"""What README and docs/ show works: their Python runs against a local Ray, their commands and links exist.

The ```python blocks of one page are run in order, in one process, as one program; its lines stand where the page has
them, so that a traceback points into the page. `print(…)  # → text` promises that text.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from ray_durable import errors as errors_module
from ray_durable.cli.commands import app
from ray_durable.config import setting_rows
from tests.cluster.live import LiveCluster

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
]
FENCE = re.compile(r"^([ ]*)```(\w*)$")
PROMISED = re.compile(r"# → (.*)$")
LINK = re.compile(r"\]\(([^)\s]+)\)")
RUN_S = 150


def blocks(page: Path, *languages: str) -> list[tuple[int, list[str]]]:
    """The fenced blocks in these languages: number of the first line, from 0, and the lines without indentation."""
    found: list[tuple[int, list[str]]] = []
    current: list[str] | None = None
    indent, language, begun = "", "", 0
    for number, line in enumerate(page.read_text().splitlines()):
        fence = FENCE.match(line)
        if fence is None:
            if current is not None:
                current.append(line.removeprefix(indent))
        elif current is None:
            indent, language = fence.groups()
            current = []
            begun = number + 1
        else:
            if language in languages:
                found.append((begun, current))
            current = None
    assert current is None, f"{page.name}: the block of line {begun} has no end"
    return found


def program(page: Path) -> str:
    """All Python of a page, each line at its own number."""
    lines = [""] * len(page.read_text().splitlines())
    for begun, block in blocks(page, "python"):
        lines[begun : begun + len(block)] = block
    return "\n".join(lines) + "\n"


def named(pages: list[Path]) -> list[object]:
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages]


def run(text: str, live: LiveCluster, folder: Path, name: str) -> str:
    """What a program prints, as a user runs it: on the Ray cluster that is there, with a storage of its own."""
    path = folder / f"{name}.py"
    path.write_text(text)
    environ = {**os.environ, "RAY_ADDRESS": live.cluster.address, "RAY_DURABLE_STORAGE": live.storage}
    done = subprocess.run(
        [sys.executable, path.name], cwd=folder, env=environ, capture_output=True, text=True, timeout=RUN_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_promises(text: str, printed: str) -> None:
    """Every promised line is printed, in order; other lines may come between."""
    rest = iter(printed.splitlines())
    for promise in PROMISED.findall("\n".join(line for line in text.splitlines() if "# → " in line)):
        assert promise in rest, f"not printed, or not in this order: {promise}\n{printed}"


@pytest.mark.cluster
@pytest.mark.timeout(RUN_S + 60)
@pytest.mark.parametrize("page", named([page for page in PAGES if blocks(page, "python")]))
def test_the_python_of_a_page_runs_and_prints_what_it_says(page, live, tmp_path):
    text = program(page)
    printed = run(text, live, tmp_path, page.stem)
    check_promises(text, printed)
    if page.name == "README.md":
        check_first_screen(printed)


def check_first_screen(printed: str) -> None:
    """The count goes on in another process after the kill, and misses nothing."""
    counted = re.findall(r"^(\d) from process (\d+)$", printed, flags=re.MULTILINE)
    assert [int(number) for number, _ in counted] == list(range(6))
    pids = [pid for _, pid in counted]
    assert pids[0] == pids[1] == pids[2] != pids[5]


def commands(page: Path) -> list[list[str]]:
    """Every command line of ours that a page shows, as words."""
    lines = [line for _, block in blocks(page, "sh", "console", "bash") for line in block]
    lines = [line.removeprefix("$ ") for line in lines]
    inline = re.findall(r"`(ray-durable [^`]+)`", page.read_text())
    return [shlex.split(line, comments=True) for line in [*lines, *inline] if line.startswith("ray-durable ")]


@pytest.mark.parametrize("page", named([page for page in PAGES if commands(page)]))
def test_the_commands_of_a_page_exist_with_their_options(page):
    for words in commands(page):
        check_command(typer.main.get_command(app), words[1:], " ".join(words))


def check_command(command: Any, words: list[str], shown: str) -> None:
    """Go down into groups of commands; of what is left, each word that begins with a dash is an option."""
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        for name in words[0].split("|"):
            assert name in command.commands, f"{shown}: there is no command {name!r}"
        command, words = command.commands[words[0].split("|")[0]], words[1:]
    options = {name for each in command.params if each.param_type_name == "option" for name in each.opts}
    for word in words:
        if word.startswith("-"):
            assert word.partition("=")[0] in {*options, "--help", "-h"}, f"{shown}: there is no option {word}"


@pytest.mark.parametrize("page", named(PAGES))
def test_the_links_of_a_page_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for page in PAGES:
        for name in re.findall(r"(?:^|`)make ([a-z-]+)`?$|`make ([a-z-]+)`", page.read_text(), flags=re.MULTILINE):
            assert "".join(name) in targets, f"{page.name}: make {''.join(name)}"


def test_operations_says_what_to_do_about_every_error():
    errors = {name for name, each in vars(errors_module).items() if isinstance(each, type)}
    page = (ROOT / "docs" / "operations.md").read_text()
    advised = set(re.findall(r"^\| `(\w+)`", page, flags=re.MULTILINE))
    bases = {
        "RayDurableError",
        "CoroutineCancelled",
    }  # never raised by itself; thrown into the coroutine, not for users
    assert errors - bases == {name for name in advised if name in errors}


def test_operations_names_only_settings_that_exist():
    page = (ROOT / "docs" / "operations.md").read_text()
    known = {row.name for row in setting_rows()}
    named_here = set(re.findall(r"`(\w+_(?:s|key|host|port|identity|level|format|retries))(?:=[^`]*)?`", page))
    assert named_here <= known

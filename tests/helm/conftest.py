"""What the tests of the chart share: the Helms, and the manifests that a values file gives."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.helms import CHART, ROOT, Helm, NoHelm, find
from tests.helm.image import base_image, build, locked, no_namespaces
from tests.helm.schemas import Manifest, manifests

CI_VALUES = sorted((CHART / "ci").glob("*-values.yaml"))


def found(version: str) -> Helm:
    try:
        return find(version)
    except NoHelm as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=["3.6.2", "3.10.1", "4", *(["own"] if "HELM" in os.environ else [])])
def helm(request: pytest.FixtureRequest) -> Helm:
    """Each Helm in turn."""
    return found(request.param)


@pytest.fixture(params=CI_VALUES, ids=lambda path: path.stem)
def ci_values(request: pytest.FixtureRequest) -> Path:
    """Each values file under `ci/` in turn."""
    return Path(request.param)


@pytest.fixture
def values_file(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Write values on top of the least that must be said; give the file."""

    def write(values: dict[str, Any]) -> Path:
        path = tmp_path / "values.yaml"
        path.write_text(yaml.safe_dump({"storage": {"url": "s3://bucket/prefix"}, **values}))
        return path

    return write


@pytest.fixture
def rendered() -> Callable[[Path], list[Manifest]]:
    """The manifests of a values file, by the oldest Helm that the chart serves."""

    def render(values: Path) -> list[Manifest]:
        outcome = found("3.6.2").template(values)
        assert outcome.ok, outcome.complaint
        return manifests(outcome.output)

    return render


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image, made by the Dockerfile's own steps; the directory holds its wheel."""
    if (reason := no_namespaces(tmp_path_factory.mktemp("overlay"))) is not None:
        pytest.skip(reason)
    wheels = tmp_path_factory.mktemp("wheels")
    with locked():
        base_image()
        build(ROOT, wheels)
        yield wheels

"""The chart lints, renders and validates for every values file in ci/, with every Helm it serves."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.helms import CHART, ROOT, Helm, find
from tests.helm.schemas import Manifest, NoSchema, manifests, mistakes

Render = Callable[[Path], list[Manifest]]


def kinds(documents: list[Manifest]) -> set[str]:
    return {document["kind"] for document in documents}


def test_every_values_file_passes_strict_lint(helm: Helm, ci_values: Path) -> None:
    outcome = helm.lint(ci_values)
    assert outcome.ok, outcome.complaint


def test_every_helm_renders_the_same(helm: Helm, ci_values: Path) -> None:
    outcome = helm.template(ci_values)
    assert outcome.ok, outcome.complaint
    oldest = manifests(find("3.6.2").template(ci_values).output)
    assert by_name(manifests(outcome.output)) == by_name(oldest)


def by_name(documents: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}


def test_every_rendered_manifest_is_valid(ci_values: Path, rendered: Render) -> None:
    unjudged = []
    for manifest in rendered(ci_values):
        try:
            found = mistakes(manifest)
        except NoSchema as reason:
            unjudged.append(str(reason))
            continue
        assert not found, f"{manifest['kind']} {manifest['metadata']['name']}: {found}"
    if unjudged:
        pytest.skip("; ".join(unjudged))


def test_every_kind_is_rendered_by_some_values_file(rendered: Render) -> None:
    everything = set().union(*(kinds(rendered(path)) for path in (CHART / "ci").glob("*-values.yaml")))
    assert everything == {
        "ConfigMap",
        "NetworkPolicy",
        "Pod",
        "PodDisruptionBudget",
        "PodMonitor",
        "PrometheusRule",
        "RayCluster",
        "RayJob",
        "Role",
        "RoleBinding",
        "ServiceAccount",
    }


MISTYPED = {
    "RayCluster": ("spec", "headGroupSpec", "template", "spec", "terminationGracePeriodSecond"),
    "RayJob": ("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "containers", 0, "lifecycel"),
    "PodMonitor": ("spec", "podMetricsEndpoints", 0, "intervall"),
    "PrometheusRule": ("spec", "groups", 0, "rules", 0, "expression"),
    "PodDisruptionBudget": ("spec", "minAvailble"),
    "NetworkPolicy": ("spec", "egress", 0, "too"),
    "ServiceAccount": ("automountToken",),
    "Role": ("rules", 0, "verb"),
    "Pod": ("spec", "containers", 0, "comand"),
    "ConfigMap": ("dat",),
}


@pytest.mark.parametrize("kind", sorted(MISTYPED))
def test_a_mistyped_field_is_caught(kind: str, rendered: Render) -> None:
    """Proves the validation above: each of these manifests was valid before the field was put in."""
    paths = [CHART / f"ci/{name}-values.yaml" for name in ("production-s3", "spot")]
    manifest = copy.deepcopy(next(m for path in paths for m in rendered(path) if m["kind"] == kind))
    *path, field = MISTYPED[kind]
    place: Any = manifest
    for step in path:
        place = place[step]
    place[field] = "x"
    try:
        found = mistakes(manifest)
    except NoSchema as reason:
        pytest.skip(str(reason))
    assert any(str(field) in mistake for mistake in found)


@pytest.mark.parametrize("kind", ["RayCluster", "PodMonitor", "PodDisruptionBudget"])
def test_a_value_of_the_wrong_type_is_caught(kind: str, rendered: Render) -> None:
    path = CHART / "ci/production-s3-values.yaml"
    manifest = copy.deepcopy(next(document for document in rendered(path) if document["kind"] == kind))
    match kind:
        case "RayCluster":
            manifest["spec"]["workerGroupSpecs"][0]["replicas"] = "three"
        case "PodMonitor":
            manifest["spec"]["podMetricsEndpoints"][0]["interval"] = "often"
        case "PodDisruptionBudget":
            manifest["spec"]["selector"] = "all"
    try:
        assert mistakes(manifest)
    except NoSchema as reason:
        pytest.skip(str(reason))


def test_the_defaults_of_every_switch_render(values_file: Callable[[dict[str, Any]], Path], rendered: Render) -> None:
    """Every `enabled` turned round from its default: nothing depends on a combination that ci/ happens to have."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    turned = {
        name: {"enabled": not part["enabled"]}
        for name, part in values.items()
        if isinstance(part, dict) and "enabled" in part
    }
    assert {"autoscaling", "demo", "gcsFaultTolerance", "metrics", "networkPolicy"} <= turned.keys()
    turned["gcsFaultTolerance"]["redis"] = {"address": "redis:6379"}
    for manifest in rendered(values_file(turned)):
        try:
            assert not mistakes(manifest)
        except NoSchema as reason:
            pytest.skip(str(reason))


def test_values_readme_and_schema_are_in_step() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "helm" / "document.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_value_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "helm"))
    import document

    assert document.undocumented((CHART / "values.yaml").read_text()) == []


def test_the_dashboard_and_rules_of_the_repository_are_in_the_chart(rendered: Render) -> None:
    documents = rendered(CHART / "ci/production-s3-values.yaml")
    (dashboard,) = (d for d in documents if d["kind"] == "ConfigMap")
    files = {path.name: path.read_text() for path in (CHART / "dashboards").glob("*.json")}
    assert files and dashboard["data"] == files
    (rule,) = (d for d in documents if d["kind"] == "PrometheusRule")
    rules = [yaml.safe_load(path.read_text()) for path in (CHART / "rules").glob("*.yaml")]
    groups = [group for file in rules for group in file["groups"]]
    assert groups and rule["spec"]["groups"] == groups

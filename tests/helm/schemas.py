"""Validate a rendered manifest as the Kubernetes API would, and as it should: a field that nobody knows is a mistake.

Core kinds go by Kubernetes' own JSON schemas, RayCluster and RayJob by KubeRay's CustomResourceDefinitions, PodMonitor
and PrometheusRule by the fields that the Prometheus operator publishes, written down here as far as ours may use them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

Manifest = dict[str, Any]
CRDS = Path(__file__).parents[3] / "shared" / "kuberay-crds"
VERSIONS = ("1.25", kubernetes_validate.latest_version())  # the oldest that the chart serves, and the newest known
PROMETHEUS = "monitoring.coreos.com/v1"
KUBERAY = "ray.io/v1"


class NoSchema(Exception):
    """The schema of this kind is not on this machine."""


def manifests(text: str) -> list[Manifest]:
    """The documents of a rendered chart, the empty ones left out."""
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


def mistakes(manifest: Manifest) -> list[str]:
    """All that is wrong with a manifest, as `path: what`. Raises NoSchema for a kind that cannot be judged."""
    if manifest["apiVersion"] == KUBERAY:
        return list(by_schema(manifest, kuberay_schema(manifest["kind"])))
    if manifest["apiVersion"] == PROMETHEUS:
        return list(by_schema(manifest, PROMETHEUS_SCHEMAS[manifest["kind"]]))
    return [mistake for version in VERSIONS for mistake in by_kubernetes(manifest, version)]


def by_kubernetes(manifest: Manifest, version: str) -> Iterator[str]:
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(map(str, error.path))}: {error.message} (Kubernetes {version})"


def by_schema(manifest: Manifest, schema: Manifest) -> Iterator[str]:
    for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest):
        yield f"{'.'.join(map(str, error.path))}: {error.message}"


@cache
def kuberay_schema(kind: str) -> Manifest:
    path = CRDS / f"ray.io_{kind.lower()}s.yaml"
    if not path.exists():
        raise NoSchema(f"KubeRay's {path.name} is not there: {kind} cannot be validated")
    versions = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["spec"]["versions"]
    (schema,) = (v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == KUBERAY.split("/")[1])
    closed: Manifest = strict(schema)
    closed["properties"]["metadata"] = METADATA
    return closed


def strict(schema: Any) -> Any:
    """A structural schema as JSON schema that refuses what the API server would drop in silence: unknown fields."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(part) for key, part in schema.items() if key not in ("properties", "format", "nullable")}
    if "properties" in schema:
        closed["properties"] = {name: strict(part) for name, part in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed.setdefault("additionalProperties", False)
    return closed


def fields(required: tuple[str, ...] = (), **properties: Any) -> Manifest:
    """An object with these fields and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def list_of(items: Manifest) -> Manifest:
    return {"type": "array", "items": items, "minItems": 1}


TEXT: Manifest = {"type": "string"}
SWITCH: Manifest = {"type": "boolean"}
STRINGS: Manifest = {"type": "object", "additionalProperties": TEXT}
DURATION: Manifest = {
    "type": "string",
    "pattern": r"^(0|(\d+y)?(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?)$",
}
METADATA = fields(("name",), name=TEXT, namespace=TEXT, labels=STRINGS, annotations=STRINGS)
RELABELING = fields(
    sourceLabels=list_of({"type": "string", "pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"}),
    separator=TEXT,
    targetLabel=TEXT,
    regex=TEXT,
    modulus={"type": "integer"},
    replacement=TEXT,
    action={
        "enum": ["replace", "keep", "drop", "labelmap", "labeldrop", "labelkeep", "hashmod", "lowercase", "uppercase"]
    },
)
ENDPOINT = fields(
    port=TEXT,
    portNumber={"type": "integer", "minimum": 1, "maximum": 65535},
    path=TEXT,
    scheme={"enum": ["http", "https"]},
    params={"type": "object", "additionalProperties": list_of(TEXT)},
    interval=DURATION,
    scrapeTimeout=DURATION,
    honorLabels=SWITCH,
    honorTimestamps=SWITCH,
    relabelings=list_of(RELABELING),
    metricRelabelings=list_of(RELABELING),
    filterRunning=SWITCH,
    followRedirects=SWITCH,
)
SELECTOR = fields(matchLabels=STRINGS, matchExpressions={"type": "array"})
POD_MONITOR = fields(
    ("selector", "podMetricsEndpoints"),
    jobLabel=TEXT,
    podTargetLabels=list_of(TEXT),
    podMetricsEndpoints=list_of(ENDPOINT),
    selector=SELECTOR,
    namespaceSelector=fields(any=SWITCH, matchNames=list_of(TEXT)),
    sampleLimit={"type": "integer"},
    targetLimit={"type": "integer"},
)
RULE = fields(
    ("expr",),
    alert=TEXT,
    record=TEXT,
    expr={"type": ["string", "integer"]},
    labels=STRINGS,
    annotations=STRINGS,
    **{"for": DURATION, "keep_firing_for": DURATION},
)
GROUP = fields(
    ("name",), name=TEXT, interval=DURATION, rules=list_of(RULE), limit={"type": "integer"}, query_offset=DURATION
)
PROMETHEUS_SCHEMAS = {
    kind: fields(("metadata", "spec"), apiVersion=TEXT, kind=TEXT, metadata=METADATA, spec=spec)
    for kind, spec in {"PodMonitor": POD_MONITOR, "PrometheusRule": fields(groups=list_of(GROUP))}.items()
}

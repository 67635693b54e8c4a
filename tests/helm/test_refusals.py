"""Mistakes in values are refused by Helm itself, with a text that says which value and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helm.helms import Helm

Write = Callable[[dict[str, Any]], Path]

# What is wrong, the values, and what the complaint must name.
BY_SCHEMA: list[tuple[str, dict[str, Any], list[str]]] = [
    ("no storage", {"storage": {}}, ["storage", "url"]),
    ("a storage that is none", {"storage": {"url": "http://bucket"}}, ["storage", "url", "s3"]),
    ("an unknown value", {"storge": {"url": "s3://b"}}, ["storge"]),
    ("a mistyped value of a group", {"workerGroups": {"a": {"replcias": 3}}}, ["workerGroups", "a", "replcias"]),
    ("a mistyped default of groups", {"worker": {"ressources": {}}}, ["worker", "ressources"]),
    ("pods less than none", {"workerGroups": {"a": {"replicas": -1}}}, ["workerGroups", "a", "replicas"]),
    ("a memory that is none", {"head": {"resources": {"limits": {"memory": "4 GB"}}}}, ["head", "memory"]),
    ("a time that is no number", {"drain": {"timeoutSeconds": "1m"}}, ["drain", "timeoutSeconds", "integer"]),
    ("no time at all", {"drain": {"timeoutSeconds": 0}}, ["drain", "timeoutSeconds"]),
    ("an unknown setting", {"settings": {"leese_s": 3}}, ["settings", "leese_s"]),
    ("a setting out of bounds", {"settings": {"lease_s": 0}}, ["settings", "lease_s"]),
    ("a setting of the wrong type", {"settings": {"turn_size": "many"}}, ["settings", "turn_size", "integer"]),
    ("a setting that has its value here", {"settings": {"metrics_port": 1}}, ["settings", "metrics_port"]),
    ("a secret among the settings", {"settings": {"signing_key": "abc"}}, ["settings", "signing_key"]),
    ("a privileged port", {"metrics": {"hostPort": 80}}, ["metrics", "hostPort"]),
    ("a digest that is none", {"image": {"digest": "latest"}}, ["image", "digest"]),
    ("a backend that is none", {"gcsFaultTolerance": {"backend": "etcd"}}, ["gcsFaultTolerance", "backend"]),
    ("a name too long", {"fullnameOverride": "a" * 41}, ["fullnameOverride"]),
    ("a group's name in capitals", {"workerGroups": {"GPU": {}}}, ["workerGroups", "GPU"]),
    ("an environment that is a map", {"worker": {"extraEnv": {"A": "b"}}}, ["worker", "extraEnv", "array"]),
    ("an unknown switch of monitoring", {"monitoring": {"podMonitors": {}}}, ["monitoring", "podMonitors"]),
]

ACROSS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("a directory of one pod", {"storage": {"url": "file:///data"}}, ["storage.persistentVolumeClaim"]),
    (
        "a claim for a bucket",
        {"storage": {"url": "s3://b", "persistentVolumeClaim": "c"}},
        ["storage.persistentVolumeClaim", "s3://b"],
    ),
    ("a key of no secret", {"keys": {"signingKey": "signing"}}, ["keys.existingSecret"]),
    ("a secret without its entries", {"keys": {"existingSecret": "k"}}, ["keys.signingKey", "nothing would be signed"]),
    ("no address of Redis", {"gcsFaultTolerance": {"enabled": True}}, ["gcsFaultTolerance.redis.address"]),
    ("Ray's own port", {"metrics": {"hostPort": 8079, "hostPorts": 2}}, ["metrics.hostPort", "8080"]),
    ("one port twice", {"metrics": {"hostPort": 8090, "controllerPort": 8090}}, ["8090", "hosts' ports"]),
    (
        "less than the least",
        {"workerGroups": {"a": {"replicas": 1, "minReplicas": 2, "maxReplicas": 3}}},
        ["workerGroups.a", "replicas 1"],
    ),
    (
        "least above most",
        {"workerGroups": {"a": {"minReplicas": 4, "maxReplicas": 3}}},
        ["workerGroups.a", "minReplicas 4"],
    ),
    ("a demo without workers", {"workerGroups": {"default": None}, "demo": {"enabled": True}}, ["workerGroups"]),
]


@pytest.mark.parametrize(("values", "named"), [row[1:] for row in BY_SCHEMA], ids=[row[0] for row in BY_SCHEMA])
def test_the_schema_refuses(helm: Helm, values_file: Write, values: dict[str, Any], named: list[str]) -> None:
    path = values_file(values)
    for outcome in (helm.template(path), helm.lint(path)):
        assert not outcome.ok
        assert all(part.lower() in outcome.complaint.lower() for part in named), outcome.complaint


@pytest.mark.parametrize(("values", "named"), [row[1:] for row in ACROSS], ids=[row[0] for row in ACROSS])
def test_the_templates_refuse(helm: Helm, values_file: Write, values: dict[str, Any], named: list[str]) -> None:
    outcome = helm.template(values_file(values))
    assert not outcome.ok
    assert all(part in outcome.complaint for part in named), outcome.complaint


def test_what_is_refused_is_accepted_once_mended(helm: Helm, values_file: Write) -> None:
    """The rows above fail for what they say, not for values that never worked."""
    outcome = helm.template(values_file({"settings": {"lease_s": 3}, "workerGroups": {"a": {"replicas": 0}}}))
    assert outcome.ok, outcome.complaint

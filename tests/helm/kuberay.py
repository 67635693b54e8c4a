"""What the KubeRay operator makes of a RayCluster: pods with a command and an environment.

Written after the operator's documented behaviour, as far as the pods that the chart renders depend on it: `ray start`
with the group's parameters behind `ulimit`, the head's address as environment, memory for objects at /dev/shm. The
init container that waits for the GCS is left to the caller.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from tests.helm.schemas import Manifest

GCS_PORT = 6379


@dataclass(frozen=True)
class Pod:
    """A pod as the operator would create it. `service` is the name by which workers find the head."""

    name: str
    role: str
    template: Manifest
    command: tuple[str, ...]
    env: dict[str, str]
    service: str

    @property
    def container(self) -> Manifest:
        first: Manifest = self.template["spec"]["containers"][0]
        return first


def head_pod(cluster: Manifest) -> Pod:
    """The head of a rendered RayCluster."""
    group = cluster["spec"]["headGroupSpec"]
    return pod(cluster, group, "head", f"{cluster['metadata']['name']}-head")


def worker_pod(cluster: Manifest, group: str, number: int) -> Pod:
    """One worker of a rendered RayCluster's group."""
    (spec,) = (g for g in cluster["spec"]["workerGroupSpecs"] if g["groupName"] == group)
    return pod(cluster, spec, "worker", f"{cluster['metadata']['name']}-{group}-worker-{number}")


def pod(cluster: Manifest, group: Manifest, role: str, name: str) -> Pod:
    metadata = cluster["metadata"]
    service = f"{metadata['name']}-head-svc.{metadata['namespace']}.svc.cluster.local"
    head = "127.0.0.1" if role == "head" else service
    template = copy.deepcopy(group["template"])
    labels = template["metadata"].setdefault("labels", {})
    labels["ray.io/cluster"] = metadata["name"]
    labels["ray.io/node-type"] = role
    labels["ray.io/group"] = group.get("groupName", "headgroup")
    container = template["spec"]["containers"][0]
    container.setdefault("volumeMounts", []).append({"name": "shared-mem", "mountPath": "/dev/shm"})
    template["spec"].setdefault("volumes", []).append({"name": "shared-mem", "emptyDir": {"medium": "Memory"}})
    start = ray_start(role, group.get("rayStartParams", {}), container.get("resources", {}), head)
    return Pod(
        name=name,
        role=role,
        template=template,
        command=("/bin/bash", "-c", "--", f"ulimit -n 65536; {start}"),
        env={
            "FQ_RAY_IP": head,
            "RAY_IP": head.split(".")[0] if role == "worker" else head,
            "RAY_PORT": str(GCS_PORT),
            "RAY_ADDRESS": f"{head}:{GCS_PORT}",
            "RAY_CLUSTER_NAME": metadata["name"],
            "RAY_CLOUD_INSTANCE_ID": name,
            "RAY_NODE_TYPE_NAME": labels["ray.io/group"],
            "RAY_USAGE_STATS_KUBERAY_IN_USE": "1",
            "KUBERAY_GEN_RAY_START_CMD": start,
        },
        service=service,
    )


def ray_start(role: str, given: dict[str, str], resources: dict[str, Any], head: str) -> str:
    parameters = {
        "metrics-export-port": "8080",
        "dashboard-agent-listen-port": "52365",
        **({"dashboard-host": "0.0.0.0"} if role == "head" else {"address": f"{head}:{GCS_PORT}"}),
        **given,
        "block": "true",
    }
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    if "num-cpus" not in parameters and (cpu := limits.get("cpu", requests.get("cpu"))):
        parameters["num-cpus"] = str(whole_cpus(str(cpu)))
    if "memory" not in parameters and "memory" in limits:
        parameters["memory"] = str(in_bytes(str(limits["memory"])))
    flags = [f"--{name}" if value == "true" else f"--{name}={value}" for name, value in sorted(parameters.items())]
    return " ".join(["ray start", *(["--head"] if role == "head" else []), *flags])


def whole_cpus(quantity: str) -> int:
    """CPUs as the operator reads them: rounded up."""
    return -(-int(quantity[:-1]) // 1000) if quantity.endswith("m") else -int(-float(quantity) // 1)


def in_bytes(quantity: str) -> int:
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    for unit, factor in units.items():
        if quantity.endswith(unit):
            return int(float(quantity.removesuffix(unit)) * factor)
    return int(quantity)

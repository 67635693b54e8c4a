"""Run a pod as the kubelet would, as far as a machine without Kubernetes can: in namespaces of its own.

A pod gets its own network (an address on a bridge, so that every pod may use the same ports), processes and mounts: the
machine's files as its image, read-only if the security context says so, and the template's volumes. It runs as the user
of the security context, without capabilities, with the rendered environment. It is stopped as the kubelet stops one:
preStop, then SIGTERM, and SIGKILL when the grace period that began before preStop is over. Everything goes when the
test process does. Needs root on Linux. What is not there: limits of memory and CPU, seccomp, the API server.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.helm.image import IMAGE, PYTHON, shown
from tests.helm.kuberay import Pod

BRIDGE = "10.88.0.1"
USERS = 100_000


class NoNamespaces(Exception):
    """This machine does not let us make namespaces; the text says why."""


class CommandFailed(Exception):
    """A command in a container ended with another status than 0, or not in time."""


@dataclass(frozen=True)
class Stopped:
    """How a pod came to its end. `prestop_s` counts within `total_s`, as it does for the kubelet."""

    prestop_s: float
    prestop_status: int
    prestop_output: str
    total_s: float
    grace_s: float
    killed: bool


@dataclass
class Node:
    """A Kubernetes node: a network that pods join, and the files that stand for volumes."""

    directory: Path
    claims: Mapping[str, Path] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    addresses: Iterator[int] = field(default_factory=lambda: itertools.count(2))
    pods: list[RunningPod] = field(default_factory=list)

    def __enter__(self) -> Node:
        if shutil.which("ip") is None:
            raise NoNamespaces("pods get a network of their own, which takes ip (Debian: iproute2)")
        # The network lives as long as this process, which ends with ours.
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--kill-child", "--fork", "sh", "-c", "echo ready; cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.holder.stdout is not None
        try:
            if self.holder.stdout.readline() != b"ready\n":
                raise NoNamespaces("this machine allows no network namespaces")
            for words in ("link set lo up", "link add pods type bridge", f"addr add {BRIDGE}/16 dev pods"):
                self.ip(words)
            self.ip("link set pods up")
        except subprocess.CalledProcessError as error:
            self.__exit__()
            raise NoNamespaces(f"this machine allows no bridge for pods: {error.stderr.strip()}") from None
        return self

    def __exit__(self, *raised: object) -> None:
        for running in self.pods:
            running.kill()
        self.holder.kill()
        self.holder.wait()

    def ip(self, words: str) -> None:
        self.run(["ip", *words.split()])

    def run(self, command: list[str], timeout_s: float = 20) -> subprocess.CompletedProcess[str]:
        """Run a command in the node's network."""
        entered = ["nsenter", "--target", str(self.holder.pid), "--net", *command]
        return subprocess.run(entered, check=True, text=True, capture_output=True, timeout=timeout_s)

    def get(self, running: RunningPod, port: int, page: str) -> str:
        """The page that a pod serves at its address, as the kubelet's probes and Prometheus ask for it."""
        fetch = "import sys, urllib.request as r; sys.stdout.write(r.urlopen(sys.argv[1], timeout=5).read().decode())"
        return self.run([sys.executable, "-c", fetch, f"http://{running.address}:{port}{page}"]).stdout

    def restart_ended(self) -> None:
        """Start containers anew that have ended, as restartPolicy: Always says; three times at most."""
        for running in self.pods:
            if running.process.poll() is not None:
                running.restarts += 1
                log = running.log.read_text(errors="replace")
                assert running.restarts <= 3, f"{running.pod.name} ended again and again: {log[-2000:]}"
                running.start(running.interface)

    def start(self, pod: Pod, hosts: Mapping[str, str]) -> RunningPod:
        """Start a pod. `hosts` is what DNS would answer."""
        number = next(self.addresses)
        running = RunningPod(self, pod, address=f"10.88.0.{number}", hosts=hosts)
        self.pods.append(running)
        running.start(f"pod{number}")
        return running


@dataclass
class RunningPod:
    """A pod that runs, or has run."""

    node: Node
    pod: Pod
    address: str
    hosts: Mapping[str, str]
    restarts: int = 0

    def start(self, interface: str) -> None:
        self.interface = interface
        self.scratch = self.node.directory / self.pod.name
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.log = self.scratch.with_suffix(".log")
        command = shlex.join(["chroot", str(self.scratch / "root"), *self.as_user(self.pod.command)])
        script = "\n".join(["set -e", "read go", *self.filesystem(), f"exec {command}"])
        with self.log.open("ab") as log:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "bash", "-c", script],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # to the scheduler a pod is a group of its own, as its cgroup would make it
            )
        pid = self.process.pid
        own = os.readlink("/proc/self/ns/net")
        wait_for(lambda: os.readlink(f"/proc/{pid}/ns/net") != own, "the pod's network", 10)
        self.node.ip(f"link add {interface} master pods type veth peer name eth0 netns {pid}")
        self.node.ip(f"link set {interface} up")
        address = f"addr add {self.address}/16 dev eth0"
        for words in ("link set lo up", address, "link set eth0 up", f"route add default via {BRIDGE}"):
            subprocess.run(["nsenter", "--target", str(pid), "--net", "ip", *words.split()], check=True, timeout=20)
        go: IO[bytes] = self.process.stdin  # type: ignore[assignment]
        go.write(b"go\n")
        go.close()

    # --- the container

    def filesystem(self) -> list[str]:
        """Commands that make the container's files out of the machine's, and enter nothing yet."""
        spec, container = self.pod.template["spec"], self.pod.container
        group = self.group()
        stage, root = self.scratch, self.scratch / "root"
        lines = [
            f"mount -t tmpfs tmpfs {stage}",
            f"mkdir {stage}/upper {stage}/work {root}",
            f"mount -t overlay overlay -o lowerdir=/,upperdir={stage}/upper,workdir={stage}/work {root}",
            f"mount -t proc proc {root}/proc",
            f"mount --rbind /dev {root}/dev",
            f"mkdir -p {root}{PYTHON} && mount --bind {IMAGE / 'python'} {root}{PYTHON}",
            f"mount -o remount,ro,bind {root}{PYTHON}",
            f"hostname {self.pod.name[:63]}",
            # Names come from the hosts file alone: at this name server nobody listens, and refuses at once.
            f"rm -f {root}/etc/resolv.conf && echo nameserver 127.0.0.1 > {root}/etc/resolv.conf",
            *(f"echo {address} {name} >> {root}/etc/hosts" for name, address in self.hosts.items()),
            f"echo {self.address} {self.pod.name[:63]} >> {root}/etc/hosts",
        ]
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        mounts = sorted(container.get("volumeMounts", []), key=lambda mount: str(mount["mountPath"]))
        for mount in mounts:
            place = f"{root}{mount['mountPath']}"
            lines += [f"mkdir -p {place}", *self.volume(volumes[mount["name"]], place, group)]
        lines += shown(root, stage)
        if container["securityContext"].get("readOnlyRootFilesystem"):
            lines.append(f"mount -o remount,ro,bind {root}")
        return lines

    def volume(self, volume: Mapping[str, Any], place: str, group: int) -> list[str]:
        if "emptyDir" in volume and volume["emptyDir"].get("medium") == "Memory":
            return [f"mount -t tmpfs -o mode=0777,gid={group} tmpfs {place}"]
        if "emptyDir" in volume:  # on the node's disk, where what Ray logs stays for whoever wants to know
            source = self.node.directory / f"{self.pod.name}.volumes" / volume["name"]
            return [f"mkdir -p {source}", f"chmod 0777 {source}", f"mount --bind {source} {place}"]
        if "persistentVolumeClaim" in volume:
            source = self.node.claims[volume["persistentVolumeClaim"]["claimName"]]
            return [f"mount --bind {source} {place}", f"chgrp {group} {place}", f"chmod g+rwxs {place}"]
        if "secret" in volume:
            entries, about = self.node.secrets[volume["secret"]["secretName"]], volume["secret"]
        else:
            entries, about = self.node.configs[volume["configMap"]["name"]], volume["configMap"]
        items = about.get("items") or [{"key": key, "path": key} for key in entries]
        lines = [f"mount -t tmpfs -o mode=0755,gid={group} tmpfs {place}"]
        for item in items:
            target = f"{place}/{item['path']}"
            lines.append(f"printf %s {shlex.quote(entries[item['key']])} > {target}")
            lines.append(f"chgrp {group} {target}; chmod {about.get('defaultMode', 0o644):o} {target}")
        return lines

    def user(self) -> int:
        """The container's user as this machine numbers it: none of its own accounts, as with user namespaces."""
        return USERS + int(self.pod.template["spec"]["securityContext"]["runAsUser"])

    def group(self) -> int:
        return int(self.pod.template["spec"]["securityContext"]["fsGroup"])

    def environment(self) -> dict[str, str]:
        env = {"PATH": f"{PYTHON}/bin:/usr/local/bin:/usr/bin:/bin", "HOME": "/home/ray", "LANG": "C.UTF-8"}
        for source in self.pod.container.get("envFrom", []):
            env.update(self.node.secrets[source["secretRef"]["name"]])
        env.update({entry["name"]: entry["value"] for entry in self.pod.container["env"]})
        return {**env, **self.pod.env}

    def as_user(self, command: tuple[str, ...]) -> list[str]:
        """`command` with the user, capabilities and environment of the container."""
        context, pod_context = self.pod.container["securityContext"], self.pod.template["spec"]["securityContext"]
        user = ["setpriv", f"--reuid={self.user()}", f"--regid={pod_context['runAsGroup']}", f"--groups={self.group()}"]
        if "ALL" in context.get("capabilities", {}).get("drop", []):
            user += ["--inh-caps=-all", "--bounding-set=-all"]
        if context.get("allowPrivilegeEscalation") is False:
            user.append("--no-new-privs")
        user.append("--pdeathsig=KILL")  # a change of user has cleared what unshare's --kill-child had set
        env = [f"{name}={value}" for name, value in self.environment().items()]
        return [*user, "env", "--ignore-environment", "--chdir=/home/ray", *env, *command]

    # --- what is done to it

    def init_pid(self) -> int:
        """The container's process 1, as the machine numbers it."""
        (child,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(child)

    def begin(self, *command: str, stdin: int | None = None, stderr: int = subprocess.STDOUT) -> subprocess.Popen[str]:
        """Start a command in the container, as `kubectl exec` and hooks do."""
        enter = ["nsenter", f"--target={self.init_pid()}", "--net", "--pid", "--uts", "--mount", "--root", "--"]
        line = [*enter, *self.as_user(command)]
        return subprocess.Popen(line, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, text=True)

    def exec(self, *command: str, timeout_s: float = 60) -> str:
        """Run a command in the container to its end; give its output. Raises CommandFailed."""
        process = self.begin(*command, stderr=subprocess.PIPE)
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            raise CommandFailed(
                f"{command} in {self.pod.name} took more than {timeout_s} s: {output}{errors}"
            ) from None
        if process.returncode:
            raise CommandFailed(f"{command} in {self.pod.name} ended with {process.returncode}: {output}{errors}")
        return output

    def stop(self, prestop: bool = True) -> Stopped:
        """Stop the pod as the kubelet does. `prestop=False`: SIGTERM at once, as others stop a container."""
        grace_s = float(self.pod.template["spec"]["terminationGracePeriodSeconds"])
        began = time.monotonic()
        pid, status, output, prestop_s = self.init_pid(), 0, "", 0.0
        if prestop:
            hook = self.begin(*self.pod.container["lifecycle"]["preStop"]["exec"]["command"])
            with contextlib.suppress(subprocess.TimeoutExpired):
                output, _ = hook.communicate(timeout=grace_s)
            if hook.poll() is None:
                hook.kill()
                output, _ = hook.communicate()
            status, prestop_s = hook.returncode, time.monotonic() - began
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        try:
            self.process.wait(timeout=max(0.1, grace_s - (time.monotonic() - began)))
            killed = False
        except subprocess.TimeoutExpired:
            self.kill()
            killed = True
        return Stopped(prestop_s, status, output, time.monotonic() - began, grace_s, killed)

    def kill(self) -> None:
        """End every process of the pod at once, as the loss of its node does."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(self.init_pid(), signal.SIGKILL)  # with process 1 go all others of its namespace
        self.process.kill()
        self.process.wait()


def wait_for(ready: Any, what: str, timeout_s: float) -> None:
    """Ask `ready()` until it is true; a command that fails counts as not yet."""
    deadline, last = time.monotonic() + timeout_s, None
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except (subprocess.SubprocessError, CommandFailed, OSError) as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {timeout_s} s; last: {last}")

"""Joining a running cluster for one command, quietly, and asking its controller. It is never started from here: looking
must not change anything.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ray_durable.cli.output import CommandFailed
from ray_durable.config import Settings
from ray_durable.errors import NotConnectedError

ANSWER_S = 45.0  # a controller that restarts just now answers within seconds; Ray ends a process after 60 without GCS
REACH_S = 3.0

AddressOption = Annotated[
    str | None,
    typer.Option("--address", help="The Ray cluster (`host:port`); else RAY_ADDRESS, else the one running here."),
]


class NoCluster(CommandFailed):
    """There is no Ray cluster where one was looked for, or not any more."""


class Asker:
    """A connection to a cluster's controller, for one command."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def ask(self, method: str, *args: Any, within_s: float = ANSWER_S, **kwargs: Any) -> Any:
        """The controller's answer. Raises: its errors; CommandFailed when it does not answer, NoCluster when Ray does
        not either."""
        import ray

        try:
            return self.client.ask(method, *args, timeout_s=within_s, **kwargs)
        except ray.exceptions.GetTimeoutError:
            reachable(ray.get_runtime_context().gcs_address)
            reason = f"The controller has not answered for {within_s:g} s."
            raise CommandFailed(reason, "Its log is `ray logs ray_durable_controller.log`.") from None
        except ray.exceptions.RayActorError as error:
            raise CommandFailed("The controller has died and does not come back.", str(error)) from None


@contextlib.contextmanager
def joined(address: str | None) -> Iterator[Asker]:
    """Join the cluster for the length of the block, quietly.

    Raises: CommandFailed when there is no cluster, NotConnectedError when it has no controller.
    """
    where = address or os.environ.get("RAY_ADDRESS") or "auto"
    reachable(where)
    prepare_ray(os.environ)
    import ray

    from ray_durable.actors.client import Client

    namespace = Settings.load().namespace
    with silenced_stderr():
        try:
            ray.init(where, namespace=namespace, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise no_cluster(where, str(error).splitlines()[0]) from None
        try:
            yield Asker(Client.find(namespace, "This command"))
        except NotConnectedError:
            raise CommandFailed(
                "This Ray cluster has no ray_durable controller.",
                f"Start one with ray_durable.init() in a driver (namespace {namespace!r}).",
            ) from None
        finally:
            ray.shutdown()


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """Ray's C++ part writes to file descriptor 2 when a process joins or leaves a cluster, or loses it. What matters of
    it comes as an exception as well."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def prepare_ray(environ: MutableMapping[str, str]) -> None:
    """What Ray reads when it is imported: a short wait for an address, and the token of this user's clusters, which a
    driver that joins one must be told to use."""
    environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "5")
    token = Path.home() / ".ray" / "auth_token"
    if environ.get("RAY_AUTH_TOKEN") or environ.get("RAY_AUTH_TOKEN_PATH") or token.exists():
        environ.setdefault("RAY_AUTH_MODE", "token")


def reachable(where: str) -> None:
    """Ray itself waits a minute for an address where nobody listens."""
    host, _, port = where.rpartition(":")
    if where == "auto" or "://" in where or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
    except OSError as error:
        raise no_cluster(where, error.strerror or str(error)) from None


def no_cluster(where: str, reason: str) -> NoCluster:
    if where == "auto":
        return NoCluster(
            "No Ray cluster is running on this machine.",
            "Start one (`ray start --head`), or name one with --address or RAY_ADDRESS. "
            "`ray-durable store`, `compile` and `doctor` work without.",
        )
    return NoCluster(
        f"There is no Ray cluster to be reached at {where} ({reason}).",
        "Check --address or RAY_ADDRESS, and its token if it asks for one (RAY_AUTH_MODE=token, RAY_AUTH_TOKEN).",
    )

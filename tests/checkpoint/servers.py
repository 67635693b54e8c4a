"""Real object stores for tests: moto's S3, also as Google's, and Azurite: each a process on a free port of this
machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
AZURITE_VERSION = "3.35.0"
# The account that every Azurite has; documented, and no secret.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command: list[str], port: int, **given):
    """A server process that listens on `port`; ended on leaving."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=REPOSITORY, **given)
    try:
        deadline = time.monotonic() + 30
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended: {process.stderr.read().decode()[-2000:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not listen")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)
        process.stderr.close()


@contextlib.contextmanager
def s3():
    """The URL of a bucket in moto, with its credentials as options."""
    port = free_port()
    with running([sys.executable, "-m", "tests.checkpoint.moto_s3", str(port)], port):
        options = {
            "endpoint": f"http://127.0.0.1:{port}",
            "region": "us-east-1",
            "access_key_id": "test",
            "secret_access_key": "test",
        }
        import urllib.request

        urllib.request.urlopen(
            urllib.request.Request(f"{options['endpoint']}/bucket", method="PUT"), timeout=30
        ).close()
        yield "s3://bucket/prefix", options


@contextlib.contextmanager
def google():
    """The URL of a bucket in a server that speaks as much of Google's XML API as we need, with options for it."""
    with s3() as (_, options):
        yield (
            "gs://bucket/prefix",
            {
                "endpoint": options["endpoint"],
                "bearer_token": "test",
            },
        )


def azurite_command() -> str:
    """The azurite program, installed by npm into a cache of ours on first use; skips where npm is not there."""
    if found := shutil.which("azurite-blob"):
        return found
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ray_durable-tests" / AZURITE_VERSION
    program = cache / "node_modules" / ".bin" / "azurite-blob"
    if not program.exists():
        if shutil.which("npm") is None:
            pytest.skip("azurite needs npm, which is not installed: Azure is not tested on this machine")
        cache.mkdir(parents=True, exist_ok=True)
        installed = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(cache), f"azurite@{AZURITE_VERSION}"],
            capture_output=True,
            timeout=110,
            check=False,
        )
        if installed.returncode or not program.exists():
            pytest.skip(f"npm cannot install azurite here: {installed.stderr.decode()[-300:]}")
    return str(program)


@contextlib.contextmanager
def azure(directory: Path):
    """The URL of a container in Azurite, with its credentials as options."""
    program, port = azurite_command(), free_port()
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent", "--skipApiVersionCheck"]
    command += ["--location", str(directory)]
    with running(command, port):
        options = {
            "account_name": AZURE_ACCOUNT,
            "account_key": AZURE_KEY,
            "endpoint": f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}",
        }
        make_container(options)
        yield "az://container/prefix", options


def make_container(options: dict[str, str]) -> None:
    """Create the container, by Azure's REST call with a shared-key signature (obstore has no call for it)."""
    import base64
    import hashlib
    import hmac
    import urllib.request
    from email.utils import formatdate

    date, version = formatdate(usegmt=True), "2021-08-06"
    headers = f"x-ms-date:{date}\nx-ms-version:{version}\n"
    resource = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/container\nrestype:container"
    signed = "PUT" + "\n" * 12 + headers + resource
    signature = base64.b64encode(hmac.digest(base64.b64decode(AZURE_KEY), signed.encode(), hashlib.sha256)).decode()
    request = urllib.request.Request(f"{options['endpoint']}/container?restype=container", method="PUT", data=b"")
    request.add_header("x-ms-date", date)
    request.add_header("x-ms-version", version)
    request.add_header("Content-Length", "0")
    request.add_header("Content-Type", "")
    request.add_header("Authorization", f"SharedKey {AZURE_ACCOUNT}:{signature}")
    urllib.request.urlopen(request, timeout=30).close()

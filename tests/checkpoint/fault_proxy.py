"""An HTTP proxy that misbehaves: cuts replies, delays, answers errors itself, sends a request twice."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

Fault = str | int | None
"""None: pass. An int: answer that status without asking the server. "cut": ask the server and drop its reply. "lose":
drop the connection and ask nobody. "twice": ask the server twice, give its second answer. "slow": wait, then pass."""


class FaultProxy:
    """Listens at `endpoint`, forwards to `upstream`, and asks `fault(method, path)` what to do with each request."""

    def __init__(self, upstream: str, fault: Callable[[str, str], Fault]) -> None:
        target = urlsplit(upstream)
        self.upstream = (target.hostname, target.port)
        self.fault = fault
        self.met: list[Fault] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.endpoint = f"http://127.0.0.1:{self.listener.getsockname()[1]}{target.path}"
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), client.makefile("rb") as reader:
            while (request := read_message(reader)) is not None:
                method, path = request.split(b" ", 2)[:2]
                fault = self.fault(method.decode(), path.decode())
                if fault is not None:
                    self.met.append(fault)
                if fault == "lose":
                    return
                if isinstance(fault, int):
                    client.sendall(b"HTTP/1.1 %d Fault\r\nContent-Length: 5\r\nConnection: close\r\n\r\nfault" % fault)
                    return
                if fault == "slow":
                    time.sleep(0.2)
                reply = self.ask(request, method == b"HEAD")
                if fault == "twice":
                    reply = self.ask(request, method == b"HEAD")
                if fault == "cut":
                    return
                client.sendall(reply)

    def ask(self, request: bytes, head: bool) -> bytes:
        with socket.create_connection(self.upstream, 10) as server, server.makefile("rb") as reader:
            server.sendall(request)
            reply = read_message(reader, no_body=head)
            assert reply is not None
            return reply


def read_message(reader, no_body: bool = False) -> bytes | None:
    """One HTTP message with its body, by length or in chunks; None at the end of the connection."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = reader.readline()
        if not line:
            return None
        head += line
    lower = head.lower()
    if no_body or b" 304 " in head[:20] or b" 204 " in head[:20]:
        return head
    if b"\r\ntransfer-encoding: chunked" in lower:
        body = b""
        while True:
            line = reader.readline()
            chunk = reader.read(int(line, 16) + 2)
            body += line + chunk
            if int(line, 16) == 0:
                return head + body
    for line in lower.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return head + reader.read(int(line.split(b":")[1]))
    return head

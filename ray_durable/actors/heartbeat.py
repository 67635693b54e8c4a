"""Heartbeats over sockets of our own: a thread in each host, a thread beside the controller.

A heartbeat is one datagram: the host's name, the number of turns that its loop has made, whether its raylet lives, and
when it was sent. The listener echoes it, which renews the host's lease from then on, unless the host was given up.
Ray's own calls are no substitute: a loaded node may take 20 s to answer one, and its health checks need 13 s to call a
killed node dead.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from ray_durable.clock import SYSTEM_CLOCK, Clock

__all__ = ["Beat", "Beater", "Listener"]

SIZE_MAX = 2048
SENT_AT = 4  # the place in a beat of the time when it was sent, by the sender's monotonic clock


@dataclass(slots=True)
class Beat:
    """The newest heartbeat of one host. `at` is on this process's monotonic clock."""

    at: float
    turns: int = 0
    raylet_gone: bool = False


class Listener:
    """Hears all hosts. `address` and `token` are what a `Beater` needs; only beats that bear the token count."""

    def __init__(self, host: str, clock: Clock = SYSTEM_CLOCK, on_news: Callable[[], None] | None = None) -> None:
        self.clock = clock
        self.on_news = on_news
        self.token = secrets.token_hex(16)
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.address: tuple[str, int] = self.socket.getsockname()[:2]
        self.beats: dict[str, Beat] = {}
        self.given_up: set[str] = set()  # hosts that are sealed, or are about to be: their leases are not renewed
        self.fenced = 0  # hosts that said, as their last word, that their log had been sealed
        self.tick = clock.monotonic()
        self.closed = False
        self.thread = threading.Thread(target=self.listen, name="heartbeats", daemon=True)
        self.thread.start()

    def listen(self) -> None:
        self.socket.settimeout(0.2)
        while not self.closed:
            try:
                data, sender = self.socket.recvfrom(SIZE_MAX)
            except TimeoutError:
                data = b""
            except OSError:
                return
            self.forgive(self.clock.monotonic())
            if data:
                self.hear(data, sender)

    def forgive(self, now: float) -> None:
        """If this process itself stood still, nobody is to blame for the silence."""
        gap = now - self.tick
        self.tick = now
        if gap > 1.0:
            for beat in self.beats.values():
                beat.at = min(now, beat.at + gap)

    def hear(self, data: bytes, sender: tuple[str, int]) -> None:
        try:
            token, host, turns, raylet_gone, _, *fenced = json.loads(data)
        except (ValueError, TypeError):
            return  # not a beat
        if not hmac.compare_digest(str(token), self.token):
            return
        if fenced:
            self.fenced += 1
            return
        known = self.beats.get(host)
        self.beats[host] = Beat(self.tick, turns, raylet_gone)
        if host not in self.given_up:
            self.socket.sendto(data, sender)
        if raylet_gone and (known is None or not known.raylet_gone) and self.on_news is not None:
            self.on_news()

    def close(self) -> None:
        self.closed = True
        self.socket.close()


class Beater:
    """Tells the listener every `period_s` that this host lives, as long as its event loop does.

    `renewed` is when the last beat that was answered had been sent: the answer may have waited long for a process that
    stood still."""

    def __init__(
        self,
        host: str,
        address: tuple[str, int],
        token: str,
        *,
        period_s: float,
        turns: Callable[[], int],
        raylet_is_alive: Callable[[], bool],
        loop_is_alive: Callable[[], bool] = lambda: True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.loop_is_alive = loop_is_alive
        self.host, self.address, self.period_s = host, address, period_s
        self.token, self.proof = token, token.encode()
        self.turns, self.raylet_is_alive, self.clock = turns, raylet_is_alive, clock
        self.renewed = clock.monotonic()
        self.closed = threading.Event()
        self.socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.thread = threading.Thread(target=self.beat, name="heartbeat", daemon=True)
        self.thread.start()

    def beat(self) -> None:
        while not self.closed.is_set():
            if self.loop_is_alive():  # else its silence has it taken over
                self.say()
            self.closed.wait(self.period_s)
            self.take_answers()
        self.socket.close()

    def say(self, *more: str) -> None:
        facts = [self.token, self.host, self.turns(), not self.raylet_is_alive(), self.clock.monotonic(), *more]
        message = json.dumps(facts).encode()
        try:
            self.socket.sendto(message, tuple(self.address))
        except OSError:
            pass  # the next one may get through; silence has its own consequence

    def say_fenced(self) -> None:
        """The last word of a host whose log was sealed: the controller counts it, as nobody scrapes this host now."""
        self.say("fenced")

    def take_answers(self) -> None:
        try:
            while data := self.socket.recv(SIZE_MAX):
                if self.proof in data:  # the listener's echo: nobody else renews a lease
                    self.renewed = max(self.renewed, float(json.loads(data)[SENT_AT]))
        except (OSError, ValueError, TypeError, LookupError):  # nothing (more) there, or not our beat's echo
            return

    def close(self) -> None:
        self.closed.set()

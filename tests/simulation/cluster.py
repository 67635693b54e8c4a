"""A cluster in its world: hosts, controllers, clients, readers, and what befalls them. `simulate(seed)` runs one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ray_durable.actors.facts import transfer_from
from ray_durable.checkpoint.names import writers
from ray_durable.checkpoint.recovery import fold_reading
from ray_durable.errors import StoreError
from tests.simulation.checkers import Checker
from tests.simulation.controller import Controller, read_one_by_one
from tests.simulation.faults import Bucket, Lossless, Lossy, WorldStore
from tests.simulation.host import Host, decode_state
from tests.simulation.world import World, decoding_once, seldom_collecting

CALLS = 4
MESSAGES = 3
STORMY_S = 7.0
CALM_S = 90.0
FATES = ("kill", "stop", "rumour", "controller", "slow controller", "usurper", "host")


@dataclass(frozen=True)
class Weather:
    """What a world is made of. `lost`: the chance of one message between controller and hosts to be lost; `moved`: that
    of one coroutine to be moved, each time that the controller looks; `large`: of a step to make a large buffer;
    `cut_off`: of a controller that has a successor to hear nothing of the hosts any more, and they little of it;
    `astray`: of a client's request or its answer to be lost; `step_s`: how long a step takes, about."""

    fates: tuple[str, ...] = FATES
    lost: float = 0.05
    cut_off: float = 0.3
    moved: float = 0.05
    astray: float = 2 / 7
    step_s: float = 0.3
    look_every_s: float = 0.4
    steps: int = 6
    large: float = 0.25
    tail_segments_max: int = 6


MIXED = Weather()
RESTLESS = Weather((*FATES, *["usurper"] * 3, "rumour"), lost=0.3, moved=0.5, steps=12, large=0.0, tail_segments_max=1)
"""Leaders follow each other while the earlier ones live, all moves about, and logs forget what they can."""


class Cluster:
    def __init__(self, seed, rules=frozenset(), weather=MIXED):
        self.rules, self.weather = rules, weather
        self.world = World(seed)
        self.world.network = self.world.process("network")
        self.bucket = Bucket()
        self.checker = Checker(self.world)
        self.faults = Lossy if self.world.chance(0.8) else Lossless
        self.hosts = {}
        self.hosts_made = self.controllers_made = 0
        self.rumours = {}
        for _ in range(2):
            self.new_host()
        self.controller = None
        self.new_controller()
        self.calm = False
        self.open_calls = CALLS
        self.client = self.world.process("client")
        for number in range(CALLS):
            self.client.spawn(self.call, number, after=self.world.random.uniform(0, 3))
        self.client.spawn(self.read)
        self.fate = self.world.process("fate")
        self.fate.spawn(self.befall)

    def new_host(self):
        self.hosts_made += 1
        incarnation = f"host-{self.hosts_made}"
        self.hosts[incarnation] = Host(self, incarnation)

    def new_controller(self):
        self.controllers_made += 1
        self.controller = Controller(self, self.controllers_made)

    # -- fate

    def befall(self):
        world = self.world
        while world.now < STORMY_S:
            world.sleep(world.random.expovariate(1 / 0.7))
            victim = world.random.choice(list(self.hosts.values())) if self.hosts else None
            match world.random.choice(self.weather.fates):
                case "kill" if victim is not None:
                    victim.process.kill()
                    world.note("host killed")
                case "stop" if victim is not None:
                    victim.process.stop(world.random.uniform(0.5, 8))
                    world.note("host stopped")
                case "rumour" if victim is not None:
                    self.rumours[victim.incarnation] = True
                case "controller":
                    self.controller.process.kill()
                    world.note("controller killed")
                case "slow controller":
                    self.controller.process.stop(world.random.uniform(0.3, 3))
                case "usurper":  # a new term while the old one lives
                    self.controller.cut_off = world.chance(self.weather.cut_off)
                    self.new_controller()
                    world.note("controller usurped")
                case "host":
                    self.new_host()
            self.replace_the_dead()
        self.faults = Lossless  # and whatever goes on from here comes to its end soon
        self.weather = replace(self.weather, lost=0.0, moved=0.0, astray=0.0, step_s=0.1)
        self.calm = True
        while True:
            self.replace_the_dead()
            world.sleep(0.5)

    def replace_the_dead(self):
        if not self.controller.process.alive or self.controller.stopped:
            self.new_controller()
        if not any(
            host.process.alive and not host.stopped and incarnation not in self.controller.dead
            for incarnation, host in self.hosts.items()
        ):
            self.new_host()

    def suspected(self, incarnation, controller):
        """Whether a host looks dead. A living one may look so; a dead one does, in the end."""
        host = self.hosts[incarnation]
        if controller.cut_off:
            return self.world.chance(0.03)
        if self.rumours.pop(incarnation, False):
            return True
        silent = not host.process.alive or host.stopped or host.process.stopped_until > self.world.now
        return silent and self.world.chance(0.4)

    def tell(self, what):
        """A host tells the controller something; it may not arrive."""
        controller = self.controller
        if not self.world.chance(self.weather.lost):
            delay = self.world.random.expovariate(1 / 0.02)
            self.world.push(
                delay,
                controller.process,
                lambda: what(controller) if controller.ready and not controller.stopped else None,
            )

    # -- clients

    def ask(self, act, timeout_s=0.8):
        """One request of a client's: what was replied, or None."""
        box = []
        lost = self.world.random.choice(["request", "answer"]) if self.world.chance(self.weather.astray) else "nothing"
        if lost != "request":
            reply = (lambda _: None) if lost == "answer" else box.append
            delay, controller = self.world.random.expovariate(1 / 0.02), self.controller
            self.world.push(delay, controller.process, lambda: act(reply, controller))
        until = self.world.now + timeout_s
        while not box and self.world.now < until:
            self.world.sleep(0.05)
        return box[0] if box else None

    def call(self, number):
        """One `.remote()`: admitted once however often it is asked for, sent messages, its result awaited."""
        world, call = self.world, f"call-{number}"
        name = "shared" if number % 2 else None
        id = f"{call}-{world.random.getrandbits(32):08x}"
        while True:
            if "new id per try" in self.rules:
                id = f"{call}-{world.random.getrandbits(32):08x}"
            answer = self.ask(
                lambda reply, controller, id=id: controller.admit(id, call, name, lambda *said: reply(said))
            )
            if answer is not None and answer[0] is not None:
                break
            if answer is not None:
                world.note("name taken")
            world.sleep(0.3)
        self.checker.admit(call, id)
        if name is not None:
            self.checker.name(name, id)
        for message in range(1, MESSAGES + 1):
            self.send(id, {"sender": "client", "number": message})
        while id not in self.checker.results:
            world.sleep(0.2)
            if world.now > STORMY_S + CALM_S:
                return
        self.open_calls -= 1

    def send(self, id, message):
        while id not in self.checker.results:
            host = self.world.random.choice(list(self.hosts.values())) if self.hosts else None
            box = []
            if host is not None:
                delay = self.world.random.expovariate(1 / 0.02)
                self.world.push(delay, host.process, lambda: host.deliver(id, message, box.append))
            self.world.sleep(self.world.random.uniform(0.02, 0.5))
            if box and box[0]:
                self.checker.message(id, message["number"])
                if self.world.chance(0.7):  # else its acknowledgement was lost, and it is sent again
                    return

    # -- readers

    def read(self):
        """Look at logs from outside, as results, streams and archives do."""
        store = WorldStore(self.world, self.client, self.bucket, lambda: self.faults)
        while True:
            self.world.sleep(self.world.random.expovariate(1 / 1.5))
            try:
                for writer in writers(store):
                    if writer.startswith("host-"):
                        reading = read_one_by_one(store, writer)
                        recovery = fold_reading(reading)
                        if recovery.damage:
                            self.checker.broken("a reader has met damage", writer, recovery.damage)
                        self.checker.look(writer, self.steps(recovery))
            except StoreError:
                continue

    def steps(self, recovery):
        """The last step that a log holds of each coroutine."""
        steps = {}
        for id, found in recovery.coroutines.items():
            state = None
            if found.terminal is not None:
                state = decode_state(found.terminal.state)
            elif (transfer := transfer_from(found)) is not None and transfer.state:
                state = decode_state(transfer.state)
            if state is not None:
                steps[id] = state["step"]
        return steps

    def decode(self, result):
        """A result as the checker takes it: without the buffer's reference, which compaction may change."""
        return {name: value for name, value in decode_state(result).items() if name != "blob"}


def simulate(seed, rules=frozenset(), weather=MIXED):
    """Run one world to its end. Raises: AssertionError for any broken promise."""
    cluster = Cluster(seed, rules, weather)
    with decoding_once(), seldom_collecting():
        cluster.world.run(STORMY_S + CALM_S, lambda: cluster.calm and cluster.open_calls == 0)
    cluster.checker.end()
    if cluster.open_calls:
        cluster.checker.broken("a call was never admitted", cluster.checker.admitted, cluster.checker.named)
    return cluster


def succession(seed, rules=frozenset()):
    """A world of many leaders."""
    return simulate(seed, rules, RESTLESS)

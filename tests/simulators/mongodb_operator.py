"""The operator's part over simulated members: real topology, real sidecars, and a crash wherever a test wants one."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from agent.mongodb import member as agent_member
from agent.mongodb.member import Conflict, NotYet
from agent.mongodb.server import CommandFailed, Document, Login, Silent
from agent.mongodb.sidecar import AGENT_USER, COMMANDS, Places, Sidecar
from database_operator.api.database import Resolved
from database_operator.engines.base import Action, Command, Label, Member, Observation, Restart, Switchover, Wait
from database_operator.engines.mongodb import config
from database_operator.engines.mongodb.topology import pod_of, topology
from database_operator.reconcile.connections.mongodb import Status, answer
from tests.simulators.mongodb import World

DOMAIN = "orders-members.shop.svc.cluster.local"
AGENT = Login(AGENT_USER, "agent's own")
CHANGES = frozenset(
    {
        "replSetInitiate",
        "replSetReconfig",
        "replSetStepDown",
        "replSetFreeze",
        "createUser",
        "updateUser",
        "setDefaultRWConcern",
        "setParameter",
    }
)
_PARAMETERS = [live.parameter for live in config.LIVE.values()]


class Crash(BaseException):
    """The process that sent the command is gone; ``host`` is where it was sent to."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host


def host_of(pod: str) -> str:
    return f"{pod}.{DOMAIN}:27017"


class CrashPlan:
    """Counts the commands that change something; ``at`` is the one to crash at, before or after it is carried out."""

    def __init__(self, at: int = -1, *, after: bool = False) -> None:
        self.at, self.after, self.count = at, after, 0
        self.names: list[str] = []

    def run(self, world: World, host: str, command: Mapping[str, Any], login: Login | None) -> Document:
        name = next(iter(command))
        here = name in CHANGES and self.count == self.at
        if name in CHANGES:
            self.count += 1
            self.names.append(name)
        if here and not self.after:
            raise Crash(host)
        reply = world.run(host, command, login)
        if here:
            raise Crash(host)
        return reply


class Handle:
    """``server.Server`` for one simulated member."""

    def __init__(self, world: World, host: str, plan: CrashPlan) -> None:
        self.world, self.host, self.plan = world, host, plan

    def run(self, command: Mapping[str, Any], login: Login | None = None, database: str = "admin") -> Document:
        return self.plan.run(self.world, self.host, command, login)


class SimulatedSidecar(Sidecar):
    """The real one, with peers by the simulator and credentials by the test."""

    def __init__(self, world: World, pod: str, plan: CrashPlan, login: Login) -> None:
        host = host_of(pod)
        this = agent_member.Member(Handle(world, host, plan), host, world.set_name, AGENT)
        super().__init__(this, DOMAIN, Places(Path(), Path(), Path()))
        self.world, self.login = world, login
        self.started = True

    def credentials(self) -> Login:
        return self.login

    def formed_peers(self) -> list[str]:
        formed = []
        for host in self.world.members:
            try:
                if self.world.run(host, {"hello": 1}).get("setName"):
                    formed.append(host)
            except Silent:
                continue
        return formed


class Operator:
    """One pass after another, with nothing kept but what the cluster keeps: labels, the mark on the claims, the pods' inputs."""

    def __init__(self, world: World, database: Resolved, plan: CrashPlan, login: Login) -> None:
        self.world, self.database, self.plan, self.login = world, database, plan, login
        self.formed: str | None = None
        self.labels: dict[str, str] = {}
        self.outdated: set[str] = set()
        self.sidecars: dict[str, SimulatedSidecar] = {}
        self.done: list[Action] = []

    def pods(self) -> list[str]:
        return sorted(pod_of(host) for host in self.world.members)

    def sidecar(self, pod: str) -> SimulatedSidecar:
        if pod not in self.sidecars:
            self.sidecars[pod] = SimulatedSidecar(self.world, pod, self.plan, self.login)
        return self.sidecars[pod]

    def observe(self) -> Observation:
        members = []
        for pod in self.pods():
            probe, ready = None, False
            try:
                facts = self.sidecar(pod).status(_PARAMETERS)
                probe = answer(msgspec.json.decode(json.dumps(facts, default=str), type=Status))
                ready = self.sidecar(pod).ready()
            except (Silent, CommandFailed):
                pass
            seen = Member(
                pod=pod,
                uid=pod,
                ip="192.0.2.1",
                running=True,
                ready=ready,
                was_ready=ready,
                role_label=self.labels.get(pod),
                outdated=pod in self.outdated,
                reached=probe is not None,
            )
            if probe is not None:
                seen = msgspec.structs.replace(seen, role=probe.role, lag_bytes=probe.lag_bytes, facts=probe.facts)
                self.formed = self.formed or probe.cluster_id
            members.append(seen)
        return Observation(members=tuple(members), wanted=self.database.spec.replicas, formed=self.formed)

    def act(self, action: Action | None, seen: Observation) -> None:
        match action:
            case None | Wait():
                return
            case Label(pod=pod, role=role):
                self.labels[pod] = role or ""
            case Restart(pod=pod):
                self.outdated.discard(pod)
                self.sidecars.pop(pod, None)
                self.world.restart(host_of(pod))
            case Switchover(to=to):
                for member in seen.members:
                    if member.pod != to and member.facts.get("state") == "SECONDARY":
                        self.command(member.pod, "/freeze", {"seconds": 30})
                primary = seen.primary
                assert primary is not None
                self.command(primary.pod, "/step-down", {})
            case Command(name=name, pod=pod, arguments=arguments):
                self.command(pod, f"/{name}", dict(arguments))

    def command(self, pod: str, path: str, body: dict[str, Any]) -> None:
        COMMANDS[path](self.sidecar(pod), body)

    def turns(self, count: int) -> Action | None:
        """So many turns; gives what the last of them did."""
        return [self.turn() for _ in range(count)][-1]

    def turn(self) -> Action | None:
        """Every sidecar's own turn, then a pass of the operator, then a second goes by."""
        for pod in self.pods():
            try:
                self.sidecar(pod).turn()
            except (Silent, CommandFailed, Conflict, NotYet):
                continue
        seen = self.observe()
        action = topology(self.database, seen)
        with contextlib.suppress(Silent, CommandFailed, Conflict, NotYet):  # the next pass decides anew
            self.act(action, seen)
        if action is not None:
            self.done.append(action)
        self.world.step()
        return action

    def settled(self) -> bool:
        """Every wanted pod is in the set and lets both logins in, and nothing is left to do."""
        seen = self.observe()
        primary = seen.primary
        if primary is None or topology(self.database, seen) is not None:
            return False
        inside = {pod_of(entry["host"]) for entry in primary.facts["config"]}
        known = all({AGENT.username, self.login.username} <= set(m.users) for m in self.world.members.values())
        written = all(m.users.get(self.login.username) == self.login.password for m in self.world.members.values())
        return inside == set(self.pods()) and all(m.ready for m in seen.members) and known and written

    def settle(self, limit: int = 120) -> None:
        for _ in range(limit):
            self.turn()
            if self.settled():
                return
        raise AssertionError(f"not settled: {self.observe()} last {self.done[-5:]}")

"""Keeps the last answer of every member of every Database, so that no pass ever waits for a database.

One task a Database, each with its own time-out: fifty that hang cost the others nothing. A changed answer enqueues
the key; an event of one of its pods has it asked at once, and often for a while.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping

from msgspec import Struct, field

from database_operator.api.status import Role
from database_operator.engines.base import Member, Probe
from database_operator.kube.objects import Key
from database_operator.reconcile.connections.base import Connection, Target, Unreachable

log = logging.getLogger(__name__)

ASK_TIMEOUT = 5.0  # seconds a member may take
PROMPT = 1.0  # seconds after which what the others said is told without it
UNSETTLED = 30.0  # seconds between rounds while a Database moves
EVENTFUL = (0.5, 30.0)  # seconds: after an event of a pod every 0.5 s, for 30 s
MOST_ROUNDS = 100  # a second, over all Databases in such a time: a node's loss must not leave no time for passes
AT_ONCE = 256  # members asked at the same time, over all Databases


class Asked(Struct, frozen=True):
    """Whom to ask, as a pass or the prober's owner puts it together; None: nothing to ask yet."""

    target: Target
    connection: Connection
    seconds: float  # between rounds when settled


class _Watched(Struct):
    answers: dict[str, Probe | None] = field(default_factory=dict)
    settled: bool = False
    eventful_until: float = 0.0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    late: dict[str, asyncio.Task[Probe | None]] = field(default_factory=dict)  # by pod UID: members that have not answered yet
    task: asyncio.Task[None] | None = None


class Prober:
    """``ask`` gives the members of a key from the local copies; ``changed`` is called with a key whose answers differ."""

    def __init__(self, ask: Callable[[Key], Asked | None], changed: Callable[[Key], None]) -> None:
        self._ask = ask
        self._changed = changed
        self._watched: dict[Key, _Watched] = {}
        self._eventful: set[Key] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)

    def answers(self, key: Key) -> Mapping[str, Probe | None]:
        """The last answer by pod UID; None: the member was asked and did not answer."""
        watched = self._watched.get(key)
        return watched.answers if watched else {}

    def want(self, key: Key, *, settled: bool) -> None:
        """Keep this Database's answers from now on."""
        watched = self._watched.get(key)
        if watched is None:
            watched = self._watched[key] = _Watched(settled=settled)
        if watched.task is None or watched.task.done():
            if watched.task is not None and not watched.task.cancelled():
                log.error("probe failed; begun anew", exc_info=watched.task.exception(), extra={"database": str(key)})
            watched.task = asyncio.get_running_loop().create_task(self._run(key, watched), name=f"prober {key}")
        elif watched.settled and not settled:
            watched.wake.set()
        watched.settled = settled

    def event(self, key: Key) -> None:
        """Something happened to one of its pods: what the engine says may have changed."""
        watched = self._watched.get(key)
        if watched is not None:
            watched.eventful_until = self._now() + EVENTFUL[1]
            self._eventful.add(key)
            watched.wake.set()

    def forget(self, key: Key) -> None:
        self._eventful.discard(key)
        watched = self._watched.pop(key, None)
        if watched is not None:
            for task in (watched.task, *watched.late.values()):
                if task is not None:
                    task.cancel()

    async def close(self) -> None:
        """Stop asking."""
        tasks = [task for watched in self._watched.values() for task in (watched.task, *watched.late.values()) if task]
        for key in list(self._watched):
            self.forget(key)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: Key, watched: _Watched) -> None:
        while True:
            watched.wake.clear()  # before the round: what happens in it is looked at again
            asked = self._ask(key)
            answerable = asked is not None and await self._round(key, watched, asked)
            try:
                async with asyncio.timeout(self._pause(key, watched, asked, answerable)):
                    await watched.wake.wait()
            except TimeoutError:
                continue

    def _pause(self, key: Key, watched: _Watched, asked: Asked | None, answerable: bool) -> float:
        if answerable and self._now() < watched.eventful_until:
            return max(EVENTFUL[0], len(self._eventful) / MOST_ROUNDS)
        self._eventful.discard(key)
        if not watched.settled or asked is None:
            return UNSETTLED
        return asked.seconds * random.uniform(0.9, 1.1)  # noqa: S311 spreads the load, guards nothing

    async def _round(self, key: Key, watched: _Watched, asked: Asked) -> bool:
        """Ask all members; False where none could be asked: an event of a pod comes before one can.

        One that takes long, as a hung primary does, does not keep back what the others say: that is told after ``PROMPT``,
        and a late answer ends the pause after the round.
        """
        members = [member for member in asked.target.members if member.ip and member.running and not member.terminating]
        for gone in watched.late.keys() - {member.uid for member in members}:
            watched.late.pop(gone).cancel()
        loop = asyncio.get_running_loop()
        tasks = {member.uid: watched.late.get(member.uid) or loop.create_task(self._one(asked, member)) for member in members}
        watched.late = tasks  # where the round is cancelled, all of them are
        if tasks:
            await asyncio.wait(tasks.values(), timeout=PROMPT)
        said = {uid: task.result() for uid, task in tasks.items() if task.done()}
        watched.late = {uid: task for uid, task in tasks.items() if not task.done()}
        for task in watched.late.values():
            task.add_done_callback(lambda _: watched.wake.set())
        before, watched.answers = watched.answers, said | self._still_held(watched, said)
        if self._differ(before, watched.answers):
            self._changed(key)
        return bool(members)

    @staticmethod
    def _still_held(watched: _Watched, said: Mapping[str, Probe | None]) -> dict[str, Probe | None]:
        """What late members said last, but not that they are the primary where another says so now."""
        primaries = {answer.shard for answer in said.values() if answer is not None and answer.role is Role.PRIMARY}
        held = {uid: watched.answers[uid] for uid in watched.late if uid in watched.answers}
        return {
            uid: None if answer and answer.role is Role.PRIMARY and answer.shard in primaries else answer for uid, answer in held.items()
        }

    async def _one(self, asked: Asked, member: Member) -> Probe | None:
        async with self._slots:
            try:
                async with asyncio.timeout(ASK_TIMEOUT):
                    return await asked.connection.probe(asked.target, member)
            except (Unreachable, TimeoutError, OSError) as error:
                log.debug("member does not answer", extra={"pod": member.pod, "error": str(error)})
                return None

    @staticmethod
    def _differ(before: Mapping[str, Probe | None], after: Mapping[str, Probe | None]) -> bool:
        """A lag that moves within a line is no change: the pass would write nothing for it."""

        def shown(answers: Mapping[str, Probe | None]) -> object:
            return {
                uid: answer
                and (answer.role, answer.version, answer.pending_restart, answer.shard, answer.cluster_id, _coarse(answer), answer.facts)
                for uid, answer in answers.items()
            }

        return shown(before) != shown(after)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _coarse(probe: Probe) -> int | None:
    return None if probe.lag_bytes is None else probe.lag_bytes // (8 * 1024 * 1024)

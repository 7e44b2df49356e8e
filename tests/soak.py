"""The whole service under load while it is killed, frozen and cut off at random: `make soak SECONDS=180 SEED=1`.

Real API and worker processes on a Postgres of their own; people start cases, decide, cancel and follow them over HTTP.
When the time is over everything is healed, all work must drain, and the invariants must hold: else the exit code is 1.
The seed decides what is done to what, and in which order; how the processes meet it is up to the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from casework.actor import SYSTEM, Actor, Role
from casework.database import DATABASE_AWAY
from casework.settings import Settings
from casework.telemetry import configure_logging
from tests.callers import Caller
from tests.forks import Forked
from tests.own_postgres import OwnPostgres, fill, own_postgres
from tests.rig import ADA, BEN, OLGA
from tests.stage import ASKING, KEYED, LEASE, TRANSACTIONAL, Stage, open_stage

APIS, WORKERS = 2, 3
STARTERS = 3
CANCELLED = 0.1
"""Which part of the cases is cancelled soon after its start."""
COPILOT = 0.2
REJECTED = 0.1
FOLLOWED = 0.15
PAUSE_S = 0.4
"""Between two starts of one starter, on average."""
TROUBLE_EVERY_S = 2.0
"""On average."""
OPEN_AT_MOST = 24
"""Cases under way; a slow machine works through fewer."""
DRAINED_WITHIN_S = 120.0
"""How soon all work must be over once nothing is broken any more."""
STATUSES = "SELECT status, count(*) FROM casework.executions GROUP BY status ORDER BY status"
EFFECTS = "SELECT tool || ' ' || state, count(*) FROM casework.effects GROUP BY 1 ORDER BY 1"
OPEN = "SELECT execution_id, status FROM casework.executions WHERE status IN ('queued', 'running', 'waiting')"

T = TypeVar("T")


@dataclass
class Seat:
    """A place in the fleet; the process in it changes."""

    kind: str
    number: int
    stage: Stage
    process: Forked | None = None
    url: str = ""
    generation: int = 0
    _running: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.number}-{self.generation}"

    async def fill(self) -> None:
        """A new process, which must get ready although the database may be restarting at this moment."""
        while self.process is None:
            self.generation += 1
            with suppress(AssertionError):  # it found no database and ended, as it should; a supervisor starts it anew
                if self.kind == "api":
                    self.process, self.url = await self._running.enter_async_context(self.stage.api(self.name))
                else:
                    worker = self._running.enter_context(self.stage.worker(self.name))
                    await worker.ready()
                    self.process = worker

    async def kill(self) -> None:
        self.process = None
        await self._running.aclose()

    async def freeze(self, seconds: float) -> None:
        process = self.process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        with suppress(ValueError):  # it was killed meanwhile
            process.thaw()

    def ended_by_itself(self) -> list[str]:
        """What no process may do, whatever its database does."""
        code = self.process.process.exitcode if self.process is not None else None
        return [] if code is None else [f"{self.name} ended by itself, with {code}"]

    async def stop(self) -> list[str]:
        """Ask it to end. What went wrong."""
        found = self.ended_by_itself()
        if self.process is not None and not found:
            try:
                await self.process.stop()
            except AssertionError:
                found = [f"{self.name} did not end as it should when it was asked to"]
        await self.kill()
        return found


@dataclass
class Soak:
    """One run."""

    stage: Stage
    postgres: OwnPostgres
    seed: int
    seats: Sequence[Seat]
    keys: dict[str, str]
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when no more trouble is made and no more cases are started."""
    drained: asyncio.Event = field(default_factory=asyncio.Event)
    restarting: asyncio.Lock = field(default_factory=asyncio.Lock)
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    took_s: float = math.inf
    """How long it took to drain."""

    async def through(self, seconds: float) -> None:
        """Load and trouble; then everything is healed, what is left drains, and all is checked and told."""
        for seat in self.seats:
            await seat.fill()
        async with asyncio.TaskGroup() as deciding:
            for who in (ADA, BEN):
                deciding.create_task(self.decide(who))
            async with asyncio.TaskGroup() as busy:
                for number in range(STARTERS):
                    busy.create_task(self.start_cases(f"starter {number}"))
                busy.create_task(self.make_trouble())
                await asyncio.sleep(seconds)
                self.over.set()
            await self.drain()
            self.drained.set()
        for seat in self.seats:
            self.wrong += await seat.stop()
        self.wrong += await self.stage.broken()
        await self.tell()

    async def drain(self) -> None:
        """Until no case is under way."""
        began = time.monotonic()
        while left := await persistently(lambda: self.stage.rows(OPEN)):
            if time.monotonic() - began > DRAINED_WITHIN_S:
                self.wrong += [f"stuck: {execution_id} is {status}" for execution_id, status in left]
                return
            await asyncio.sleep(0.5)
        self.took_s = time.monotonic() - began

    async def tell(self) -> None:
        """Print what there was."""
        for title, found in (
            ("what was done", sorted(self.done.items())),
            ("executions", await self.stage.rows(STATUSES)),
            ("effects", await self.stage.rows(EFFECTS)),
        ):
            say("", f"{title}:", *(f"  {times:6}  {what}" for what, times in found))
        say("", f"Drained {self.took_s:.0f} s after the last trouble.")

    def dice(self, who: str) -> random.Random:
        return random.Random(f"{self.seed} {who}")

    def caller(self, who: Actor, dice: random.Random) -> Caller:
        """At one of the APIs, or rather where one was."""
        apis = [seat for seat in self.seats if seat.kind == "api"]
        return Caller(dice.choice(apis).url, self.keys[who.actor_id])

    async def ask(self, who: Actor, dice: random.Random, method: str, path: str, **how: Any) -> Any:
        """Ask until there is an answer, each time anywhere. Returns status and body."""
        while True:
            caller = self.caller(who, dice)
            answer = await caller.once(method, path, **how)
            self.done["told to come again"] += caller.turned_away
            self.done["requests cut off"] += caller.cut_off
            self.wrong += caller.unexpected
            if answer is not None:
                return answer.status_code, answer.json()
            await asyncio.sleep(0.2)

    async def start_cases(self, name: str) -> None:
        dice = self.dice(name)
        while not self.over.is_set():
            if len(await persistently(lambda: self.stage.rows(OPEN))) >= OPEN_AT_MOST:
                await asyncio.sleep(PAUSE_S)
                continue
            like, mode = dice.choice([KEYED, TRANSACTIONAL, ASKING]), "copilot" if dice.random() < COPILOT else None
            ids = await persistently(lambda like=like: self.stage.copy(like))
            body = {"input": {"ticket_id": ids["ticket"], "user_id": ids["customer"]}, "mode": mode}
            headers = {"Idempotency-Key": ids["ticket"]}
            path = "/workflows/support/executions"
            status, execution = await self.ask(OLGA, dice, "POST", path, json=body, headers=headers)
            if status not in (200, 201, 202):
                self.wrong.append(f"starting {ids['ticket']}: {status} {execution}")
                continue
            self.done["started"] += 1
            if dice.random() < FOLLOWED:
                await self.follow(execution["execution_id"], dice)
            await asyncio.sleep(dice.uniform(0, 2 * PAUSE_S))
            if dice.random() < CANCELLED:
                status, answer = await self.ask(OLGA, dice, "POST", f"/executions/{execution['execution_id']}/cancel")
                self.done["cancelled"] += status in (200, 202)
                if status not in (200, 202, 409):
                    self.wrong.append(f"cancelling: {status} {answer}")

    async def follow(self, execution_id: str, dice: random.Random) -> None:
        """Follow it for a moment; what is told must be without a gap."""
        caller = self.caller(OLGA, dice)
        seen = [told.seq for told in await caller.follow_for(execution_id, dice.uniform(0.5, 3)) if told.seq]
        self.done["followed"] += 1
        if seen != list(range(1, len(seen) + 1)):
            self.wrong.append(f"the story of {execution_id} was told with a gap: {seen}")

    async def decide(self, who: Actor) -> None:
        """Decide what is asked, until nothing is left."""
        dice = self.dice(who.actor_id)
        while not self.drained.is_set():
            _, page = await self.ask(who, dice, "GET", "/approvals", params={"limit": 20})
            if not page["approvals"]:
                await asyncio.sleep(0.3)
                continue
            asked = dice.choice(page["approvals"])
            answer = self.answer(asked, dice)
            path = f"/approvals/{asked['approval_id']}/decision"
            status, told = await self.ask(who, dice, "POST", path, json=answer)
            self.done["decisions that lost a race" if status == 409 else f"{answer['type']}: decided"] += 1
            if status not in (200, 409):
                self.wrong.append(f"deciding {asked['approval_id']}: {status} {told}")

    def answer(self, asked: dict[str, Any], dice: random.Random) -> dict[str, Any]:
        digest = {"digest": asked["digest"]}
        if asked["kind"] == "outcome":  # the truth, from the provider's own book
            reference = self.stage.booked(asked["doubt"]["key"])
            found = {"type": "happened", "reference": reference} if reference else {"type": "did_not_happen"}
            return {**digest, **found}
        if dice.random() < REJECTED:
            return {**digest, "type": "reject", "reason": "not this one"}
        return {**digest, "type": "approve"}

    async def make_trouble(self) -> None:
        """One thing after the other, and now and then the next before the last is over."""
        dice = self.dice("trouble")
        kinds = [self.kill, self.kill, self.freeze, self.freeze, self.cut, self.cut, self.restart]
        async with asyncio.TaskGroup() as under_way:
            while not self.over.is_set():
                under_way.create_task(dice.choice(kinds)(random.Random(dice.random())))
                await asyncio.sleep(dice.uniform(0, 2 * TROUBLE_EVERY_S))

    async def kill(self, dice: random.Random) -> None:
        seat = dice.choice(self.seats)
        empty_s = dice.uniform(0, 2)
        if seat.process is not None:
            self.done[f"kill -9 of {'an API' if seat.kind == 'api' else 'a worker'}"] += 1
            self.wrong += seat.ended_by_itself()
            await seat.kill()
            await asyncio.sleep(empty_s)
            await seat.fill()

    async def freeze(self, dice: random.Random) -> None:
        seat = dice.choice([seat for seat in self.seats if seat.kind == "worker"])
        seconds = dice.uniform(0.5, 3) * LEASE.total_seconds()
        if seat.process is not None:
            self.done["freezes of a worker"] += 1
            await seat.freeze(seconds)

    async def cut(self, dice: random.Random) -> None:
        self.done["cuts of all connections"] += 1
        for _ in range(dice.randint(1, 3)):
            await persistently(lambda: asyncio.to_thread(self.postgres.cut_all))
            await asyncio.sleep(dice.uniform(0, 0.5))

    async def restart(self, dice: random.Random) -> None:
        mode, away_s = dice.choice(["fast", "immediate"]), dice.choice([0.0, 0.0, dice.uniform(1, 4)])
        async with self.restarting:
            self.done[f"restarts of Postgres, {mode}"] += 1
            await asyncio.to_thread(self.postgres.stop, mode)
            await asyncio.sleep(away_s)
            await asyncio.to_thread(self.postgres.start)


async def soak(seconds: float, seed: int, folder: Path) -> list[str]:
    """Everything that went wrong, in words; tells how it goes meanwhile."""
    book = folder / "filled.jsonl"
    with own_postgres(folder / "own") as postgres:
        await fill(postgres.url, book)
        async with open_stage(postgres.url, book, folder) as opened:
            stage = replace(opened, env={**opened.env, "CASEWORK_DATABASE_TIMEOUT": "PT2S"})
            seats = [
                *(Seat("api", n, stage) for n in range(1, APIS + 1)),
                *(Seat("worker", n, stage) for n in range(1, WORKERS + 1)),
            ]
            run = Soak(stage, postgres, seed, seats, await people(stage))
            try:
                async with asyncio.timeout(seconds + 3 * DRAINED_WITHIN_S):  # or the soak itself hangs
                    await run.through(seconds)
            finally:
                for seat in seats:
                    await seat.kill()
            return run.wrong


async def people(stage: Stage) -> dict[str, str]:
    """A key for everybody."""
    roles = {OLGA: Role.OPERATOR, ADA: Role.APPROVER, BEN: Role.APPROVER}
    add_key = stage.service.identity.add_key
    return {
        who.actor_id: await add_key("default", who.actor_id, frozenset({role}), by=SYSTEM)
        for who, role in roles.items()
    }


async def persistently(act: Callable[[], Awaitable[T]]) -> T:
    """Our own hand on the database, which is away now and then."""
    while True:
        try:
            return await act()
        except DATABASE_AWAY:
            await asyncio.sleep(0.2)


def main() -> int:
    parser = argparse.ArgumentParser(description="Soak the service in trouble; exit code 1 if an invariant breaks.")
    parser.add_argument("--seconds", type=float, default=180, help="how long trouble is made")
    parser.add_argument("--seed", type=int, default=None, help="what a run printed, to make the same trouble again")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    say(f"soak: {given.seconds:g} s, seed {seed}")
    configure_logging(Settings(log_level="error"))
    folder = Path(tempfile.mkdtemp(prefix="casework-soak-"))
    wrong = asyncio.run(soak(given.seconds, seed, folder))
    if wrong:
        say("", "BROKEN:", *wrong, "", f"seed {seed}; what every process said is in {folder}")
        return 1
    shutil.rmtree(folder)
    say("", f"Nothing lost, nothing twice, nothing stuck (seed {seed}).")
    return 0


def say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())

"""The parts of a run. Each starts what it measures afresh, in a folder of its own, and stops it again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench import peer
from bench.accounts import Meter
from bench.burst import burst
from bench.caller import calling
from bench.floors import floors
from bench.load import load
from bench.probes import approvals, pick_up_ms, streams
from bench.service import Layout, Running, running_service
from bench.turns import growth
from casework.embedded import embedded_postgres

MANY = 32
"""Callers at once."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything is measured in one repeat."""

    floor_runs: int = 300
    executions: int = 400
    """At many callers."""
    single: int = 80
    """Executions at one caller; so many streams and half as many approvals."""
    peer_runs: int = 200
    peer_single: int = 8
    """They take a second each."""
    turns: tuple[int, ...] = (50, 500)
    waiting: int = 1000
    memory: tuple[int, int] = (500, 5000)


QUICK = Sizes(
    floor_runs=100, executions=200, single=40, peer_runs=60, peer_single=3, turns=(50,), waiting=200, memory=(100, 500)
)


@dataclass(frozen=True)
class Plan:
    """What a section is to measure."""

    folder: Path
    """Does not exist yet."""
    sizes: Sizes
    layout: Layout
    peer_jobs: int | None
    """Runs at once in the peer; None: its own default."""


Section = Callable[[Plan], dict[str, float]]


def floor(plan: Plan) -> dict[str, float]:
    with embedded_postgres(_made(plan.folder)) as url:
        return asyncio.run(floors(url, plan.sizes.floor_runs))


def service(plan: Plan) -> dict[str, float]:
    with running_service(plan.folder, plan.layout) as running:
        return asyncio.run(_serve(running, plan.sizes))


async def _serve(running: Running, sizes: Sizes) -> dict[str, float]:
    execution_ids: list[str] = []

    def meter() -> Meter:
        return Meter(running.processes, running.database)

    async with (
        calling(running.url, running.starter_key) as starter,
        calling(running.url, running.approver_key) as approver,
    ):

        async def noted() -> None:
            execution_ids.append((await starter.run())["execution_id"])

        await load(starter.run, MANY, 2 * MANY, meter)  # warm
        many = await load(starter.run, MANY, sizes.executions, meter)
        one = await load(noted, 1, sizes.single, meter)
        return {
            "executions/s at 32 callers": many.rate,
            "p50 at 32 callers, ms": many.percentile_ms(50),
            "p95 at 32 callers, ms": many.percentile_ms(95),
            "p50 at one caller, ms": one.percentile_ms(50),
            "p95 at one caller, ms": one.percentile_ms(95),
            "pick-up, p50 ms: accepted → run.started": pick_up_ms(running.database_url, execution_ids),
            **await streams(starter, sizes.single),
            **await approvals(starter, approver, sizes.single // 2),
            "server CPU per execution, ms": many.each_ms(many.spent.server_s),
            "server CPU per execution at one caller, ms": one.each_ms(one.spent.server_s),
            "Postgres CPU per execution, ms": many.each_ms(many.spent.postgres_s),
            "client CPU per execution, ms": many.each_ms(many.spent.client_s),
            "database errors": running.database_errors(),
            "cores others used meanwhile": many.spent.others_cores,
        }


def langgraph_dev(plan: Plan) -> dict[str, float]:
    with peer.running_peer(plan.folder, plan.peer_jobs) as (url, processes):

        async def measure() -> dict[str, float]:
            async with calling(url) as caller:

                def meter() -> Meter:
                    return Meter(processes, None)

                await load(lambda: peer.run(caller), MANY, 2 * MANY, meter)  # warm
                many = await load(lambda: peer.run(caller), MANY, plan.sizes.peer_runs, meter)
                one = await load(lambda: peer.run(caller), 1, plan.sizes.peer_single, meter)
                return {
                    "langgraph dev: runs/s, 32 callers": many.rate,
                    "langgraph dev: p50 ms, one caller": one.percentile_ms(50),
                    "langgraph dev: CPU per run, ms": many.each_ms(many.spent.server_s),
                }

        return asyncio.run(measure())


def turns(plan: Plan) -> dict[str, float]:
    with embedded_postgres(_made(plan.folder)) as url:
        return asyncio.run(growth(plan.folder, url, plan.sizes.turns))


def approved_at_once(plan: Plan) -> dict[str, float]:
    with running_service(plan.folder, replace(plan.layout, workers=2)) as running:
        done = asyncio.run(burst(running, plan.sizes.waiting))
        return done | {f"{plan.sizes.waiting} waiting approved at once, database errors": running.database_errors()}


def memory(plan: Plan) -> dict[str, float]:
    few, many = plan.sizes.memory
    with running_service(plan.folder, plan.layout) as running:
        at_first = asyncio.run(_resident(running, few))
        in_the_end = asyncio.run(_resident(running, many - few))
    return {
        f"memory after {few} executions, MiB": at_first,
        f"memory after {many} executions ÷ after {few}": in_the_end / at_first,
    }


async def _resident(running: Running, executions: int) -> float:
    """MiB that the service's processes hold after so many more executions."""
    async with calling(running.url, running.starter_key) as starter:
        await load(starter.run, MANY, executions, lambda: Meter(running.processes, running.database))
    return running.processes.rss_mb()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


SECTIONS: Mapping[str, Section] = {
    "floors": floor,
    "service": service,
    "peer": langgraph_dev,
    "turns": turns,
    "burst": approved_at_once,
    "memory": memory,
}

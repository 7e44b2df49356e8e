"""`casework demo`: the whole service on a fresh database, worked over HTTP as its users would, and checked."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from textwrap import shorten
from typing import Any
from uuid import uuid4

import httpx
import psycopg
from psycopg import sql
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import make_url

from casework import audit
from casework.errors import CaseworkError, SettingsInvalid
from casework.execution import OVER, Mode, Status
from casework.migrate import migrate
from casework.settings import Settings
from casework.telemetry import configure_logging
from evals.shop.checks import Worked, problems
from evals.shop.rehearsal import Part, rehearsal
from server.demo_people import demo_people
from server.service import Service, open_service, prepare
from server.up import listen, serving
from tools.shop.seed_data import load_tickets

POLL_S = 0.15
PATIENCE_S = 120.0
"""How long the whole rehearsal may take before it counts as stuck."""
PAGE = 200
LINE = 90
"""Characters of a question that are shown as it is asked."""

SHORT = {
    "issue_refund": "refund",
    "reply_to_customer": "reply",
    "update_ticket": "update",
    "change_shipping_address": "readdress",
    "cancel_order": "cancel",
    "escalate_to_human": "hand over",
}


@dataclass
class Case:
    """One ticket on its way."""

    ticket: str
    customer: str
    part: Part
    execution_id: str = ""
    status: str = "queued"
    execution: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Approvals seen, by id."""
    acted: dict[str, int] = field(default_factory=dict)
    """How many answers each approval got from the script."""
    events: list[dict[str, Any]] = field(default_factory=list)


async def demo(settings: Settings, server_url: str, count: int) -> int:
    """Work `count` demo tickets; returns the exit code: 0 only if every outcome is right."""
    console = Console()
    folder = settings.data_dir / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    rehearsed = settings.model_copy(
        update={
            "data_dir": folder,
            "port": 0,
            "host": "127.0.0.1",
            "modes": {"support": Mode.AUTONOMOUS},
            "log_level": "warning",  # the stage tells the story; logs would drown it
        }
    )
    configure_logging(rehearsed)
    async with _fresh_database(server_url) as url:
        await migrate(url)
        async with open_service(rehearsed, url) as service:
            await prepare(service)
            keys = (await demo_people(service, Path(folder))).keys
            with listen(rehearsed.host, rehearsed.port) as listener:
                async with (
                    serving(service, listener, worker=True) as base,
                    httpx.AsyncClient(base_url=base, trust_env=False, timeout=30) as client,
                ):
                    return await _perform(service, _Stage(client, keys, console), console, count)


async def _perform(service: Service, stage: _Stage, console: Console, count: int) -> int:
    console.print(f"[bold]Casework[/] works {count} tickets of the demo shop at {stage.client.base_url}\n")
    started = time.monotonic()
    cases = await stage.play(_cases(count))
    console.print(_table(cases))
    return await _judge(console, service, cases, time.monotonic() - started)


def _cases(count: int) -> list[Case]:
    parts = rehearsal()
    tickets = load_tickets()[:count]
    return [Case(t.ticket_id, t.customer_id, parts[t.ticket_id]) for t in tickets]


@asynccontextmanager
async def _fresh_database(server_url: str) -> AsyncIterator[str]:
    """A database of the demo's own on the same server, dropped afterwards."""
    name = f"casework_demo_{uuid4().hex[:8]}"
    try:
        await asyncio.to_thread(_run_sql, server_url, "CREATE DATABASE {}", name)
    except psycopg.errors.InsufficientPrivilege as error:
        raise SettingsInvalid("the demo needs a database role that may create databases") from error
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        await asyncio.to_thread(_run_sql, server_url, "DROP DATABASE {} WITH (FORCE)", name)


def _run_sql(url: str, statement: str, name: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


class _Stage:
    """Plays every part over HTTP and says what happens, as it happens."""

    def __init__(self, client: httpx.AsyncClient, keys: dict[str, str], console: Console) -> None:
        self.client = client
        self.keys = keys
        self.console = console

    async def play(self, cases: list[Case]) -> list[Case]:
        """Until every case is over. Raises CaseworkError when they are stuck."""
        await asyncio.gather(*(self._submit(case) for case in cases))
        deadline = time.monotonic() + PATIENCE_S
        while any(Status(case.status) not in OVER for case in cases):
            if time.monotonic() > deadline:
                stuck = ", ".join(c.ticket for c in cases if Status(c.status) not in OVER)
                raise CaseworkError(f"the demo did not finish in {PATIENCE_S:.0f} s; still open: {stuck}")
            await self._look(cases)
            await asyncio.sleep(POLL_S)
        for case in cases:
            path = f"/executions/{case.execution_id}/events?limit=1000"
            case.events = (await self._call("GET", path, "olivia"))["events"]
        return cases

    async def _submit(self, case: Case) -> None:
        body: dict[str, Any] = {"input": {"ticket_id": case.ticket, "user_id": case.customer}}
        if case.part.copilot:
            body["mode"] = Mode.COPILOT
        accepted = await self._call(
            "POST", "/workflows/support/executions", "helpdesk", body, {"Idempotency-Key": case.ticket}
        )
        case.execution_id = accepted["execution_id"]

    async def _look(self, cases: list[Case]) -> None:
        by_id = {case.execution_id: case for case in cases}
        page = await self._call("GET", f"/executions?limit={PAGE}", "olivia")
        for execution in page["executions"]:
            case = by_id.get(execution["execution_id"])
            if case is not None and execution["status"] != case.status:
                case.status, case.execution = execution["status"], execution
                if Status(case.status) in OVER:
                    self._tell(case, f"[bold]{case.status}[/]")
        waiting = await self._call("GET", f"/approvals?state=pending&limit={PAGE}", "ana")
        for approval in waiting["approvals"]:
            if approval["execution_id"] in by_id:
                await self._answer(by_id[approval["execution_id"]], approval)

    async def _answer(self, case: Case, approval: dict[str, Any]) -> None:
        """The next scripted answer to this question."""
        approval_id = approval["approval_id"]
        if approval_id not in case.asked:
            case.asked[approval_id] = approval
            people = f"{approval['votes_needed']} {'person' if approval['votes_needed'] == 1 else 'people'}"
            self._tell(case, f"[yellow]asks {people}[/]: {escape(_line(approval['description']))}")
        turn = case.acted.get(approval_id, 0)
        ours = case.part.tool in (None, approval["tool"])
        acts = case.part.acts if ours else Part(case.part.expected).acts
        if turn >= len(acts):
            return
        act = acts[turn]
        answer = {**act.answer, "digest": approval["digest"]}
        if "change" in answer:
            answer["args"] = {**approval["args"], **answer.pop("change")}
        decided = await self._call("POST", f"/approvals/{approval_id}/decision", act.by, answer)
        case.acted[approval_id] = turn + 1
        self._tell(case, f"[green]{act.by}[/] {escape(_past(answer))} ({decided['state']})")

    async def _call(
        self, method: str, path: str, who: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Any:
        authorized = {"Authorization": f"Bearer {self.keys[who]}", **(headers or {})}
        response = await self.client.request(method, path, json=body, headers=authorized)
        if response.is_error:
            raise CaseworkError(f"{method} {path} by {who}: {response.status_code} {response.text}")
        return response.json()

    def _tell(self, case: Case, what: str) -> None:
        self.console.print(f"  {case.ticket}  {what}", highlight=False)


def _line(text: str) -> str:
    """On one line, cut with a mark."""
    return shorten(text, LINE, placeholder=" …")


def _past(answer: dict[str, Any]) -> str:
    if answer["type"] == "edit":
        return f"changes the arguments to {answer['args']}"
    return "approves" if answer["type"] == "approve" else f"rejects: {answer['reason']}"


def _worked(case: Case) -> Worked:
    routes = [e["data"]["specialist"] for e in case.events if e["type"] == "case.routed"]
    effects = [(e["data"]["tool"], e["data"]["args"]) for e in case.events if e["type"] == "effect.done"]
    asked = [(a["tool"], a["votes_needed"]) for a in case.asked.values()]
    return Worked(case.status, routes[0] if routes else None, effects, asked)


def _wrong(case: Case) -> list[str]:
    return problems(case.part.expected, _worked(case), policy_approvals=not case.part.copilot)


def _table(cases: list[Case]) -> Table:
    table = Table(title="What became of each ticket", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("ticket", "route", "actions", "approvals", "outcome", "time", "cost"):
        number = column in ("time", "cost")
        table.add_column(column, justify="right" if number else "left", no_wrap=number or column == "ticket")
    notes = [f"* {case.ticket}: {case.part.note}" for case in cases if case.part.note]
    table.caption, table.caption_justify = "\n".join(notes), "left"
    for case in cases:
        worked, wrong = _worked(case), _wrong(case)
        verdict = f"[red]{case.status}: {'; '.join(wrong)}[/]" if wrong else f"[green]✓[/] {case.status}"
        table.add_row(
            case.ticket,
            worked.route or "–",
            _list(_words(tool) for tool, _ in worked.effects),
            _list(_question(a) for a in case.asked.values()),
            f"{verdict} *" if case.part.note else verdict,
            f"{_seconds(case.execution):.1f} s",
            f"${case.execution['cost_microusd'] / 1_000_000:.4f}",
        )
    return table


def _list(items: Iterable[str]) -> str:
    counted = Counter(items)
    return ", ".join(item if times == 1 else f"{item} ×{times}" for item, times in counted.items()) or "–"


def _words(tool: str) -> str:
    """`issue_refund` → `refund`: the table has little room, and these are the demo's own tools."""
    return SHORT.get(tool, tool)


def _question(approval: dict[str, Any]) -> str:
    needed = approval["votes_needed"]
    return f"{_words(approval['tool'])} ({needed} people)" if needed > 1 else _words(approval["tool"])


def _seconds(execution: dict[str, Any]) -> float:
    started, ended = (datetime.fromisoformat(execution[name]) for name in ("created_at", "finished_at"))
    return (ended - started).total_seconds()


async def _judge(console: Console, service: Service, cases: list[Case], seconds: float) -> int:
    async with service.resources.engine.connect() as db:
        chain = await audit.verify(db)
    wrong = [case.ticket for case in cases if _wrong(case)]
    console.print(f"\n{len(cases) - len(wrong)} of {len(cases)} outcomes right, in {seconds:.1f} s.", highlight=False)
    console.print(f"Audit: {chain.lines} lines, {'unbroken' if chain.bad_line is None else 'BROKEN'}.", highlight=False)
    return 1 if wrong or chain.bad_line is not None else 0

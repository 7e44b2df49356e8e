"""The `casework` command."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
import uvloop
from dotenv import load_dotenv
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from casework import audit, faults
from casework.actor import SYSTEM, Role
from casework.database import DATABASE_AWAY
from casework.errors import CaseworkError, SettingsInvalid
from casework.identity import Identity
from casework.migrate import migrate
from casework.resources import Resources, open_resources
from casework.settings import Settings
from casework.telemetry import configure_logging
from graphs.replay import replay
from server import up
from server.demo import demo
from server.jobs import open_queue
from server.service import open_service, pepper, prepare
from server.upkeep import Upkeep

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Business processes run by AI agents.")
key_app = typer.Typer(no_args_is_help=True, help="API keys.")
audit_app = typer.Typer(no_args_is_help=True, help="The audit log.")
app.add_typer(key_app, name="key")
app.add_typer(audit_app, name="audit")

console = Console()

Config = Annotated[Path | None, typer.Option(help="The langgraph.json that lists the workflows.")]
Tenant = Annotated[str, typer.Option(help="Whose.")]
Job = Callable[[Settings, str], Coroutine[Any, Any, Any]]


def run() -> None:
    """Run the command; an error of ours is one clear line and exit code 1, not a traceback."""
    try:
        for point in faults.arm(os.environ):  # before .env is read, which cannot arm any
            sys.stderr.write(f"casework: a fault is armed at {point}\n")
        load_dotenv(Path(".env"))  # for LangSmith and model clients, which read the environment themselves
        app()
    except CaseworkError as error:
        sys.stderr.write(f"casework: {error.message}\n")
        raise SystemExit(1) from None


def _settings(config: Path | None = None) -> Settings:
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            sys.stderr.write(f"casework: setting {'.'.join(map(str, problem['loc']))}: {problem['msg']}\n")
        raise SystemExit(1) from None
    configure_logging(settings)
    return settings.model_copy(update={"config": config}) if config else settings


def _run(job: Job, settings: Settings) -> Any:
    """Run a job on the database, embedded or not."""
    with up.running_database(settings) as url:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(job(settings, url))
        except DATABASE_AWAY as error:
            raise SettingsInvalid(f"the database does not answer: {error}") from error


@app.command("up")
def up_command(config: Config = None) -> None:
    """Start everything: database (embedded unless DATABASE_URL is set), API, pages, worker."""
    _run(up.up, _settings(config))


@app.command("api")
def api_command(config: Config = None) -> None:
    """Serve API and pages only; run workers with `casework worker`."""
    _run(up.api, _settings(config))


@app.command("worker")
def worker_command(config: Config = None) -> None:
    """Run a worker; any number of them share the work."""
    _run(up.work, _settings(config))


@app.command("migrate")
def migrate_command(config: Config = None) -> None:
    """Bring the database to this version's schema, and fill the demo companies. Repeatable."""

    async def job(settings: Settings, url: str) -> None:
        await migrate(url)
        async with open_service(settings, url) as service:
            await prepare(service)

    _run(job, _settings(config))
    console.print("The database is up to date.")


@app.command("demo")
def demo_command(
    tickets: Annotated[int, typer.Option(min=1, help="How many of the demo tickets to work.")] = 40,
) -> None:
    """Work the demo tickets without a person, deciding the approvals; exit code 0 only if every outcome is right."""
    raise SystemExit(_run(lambda settings, url: demo(settings, url, tickets), _settings()))


@app.command("replay")
def replay_command(
    execution: Annotated[UUID, typer.Argument(help="The execution's id.")],
    config: Config = None,
    tenant: Tenant = "default",
) -> None:
    """Print a case step by step, from its events and checkpoints."""

    async def job(settings: Settings, url: str) -> None:
        async with open_service(settings, url) as service:
            story = await replay(service.store, service.catalog, service.resources, tenant, execution)
        sys.stdout.write(story)

    _run(job, _settings(config))


@app.command("prune")
def prune_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Delete the checkpoints of executions that ended long ago, and tidy the queue. Workers do it by themselves."""

    async def job(settings: Settings, url: str) -> Mapping[str, int] | None:
        async with open_resources(settings, url) as resources, open_queue(resources) as queue:
            return await Upkeep(resources, queue).once(dry_run=dry_run)

    done = _run(job, _settings())
    if done is None:
        console.print("A worker is at it right now.")
        return
    if dry_run:
        console.print("A dry run: nothing was changed. It would have been:")
    for what, times in done.items():
        console.print(f"{times:>7}  {what}")


@key_app.command("add")
def key_add(
    actor: Annotated[str, typer.Argument(help="The person or service the key is for.")],
    role: Annotated[list[Role] | None, typer.Option(help="Creates the actor, or replaces its roles.")] = None,
    tenant: Tenant = "default",
) -> None:
    """Make a key and print it, once."""

    async def job(identity: Identity) -> str:
        return await identity.add_key(tenant, actor, role or None, by=SYSTEM)

    sys.stdout.write(f"{_with_identity(job)}\n")


@key_app.command("revoke")
def key_revoke(
    key_id: Annotated[str, typer.Argument(help="The part between the underscores of cw_<key id>_<secret>.")],
    tenant: Tenant = "default",
) -> None:
    """Make a key useless, now."""
    _with_identity(lambda identity: identity.revoke_key(tenant, key_id, by=SYSTEM))
    console.print(f"Key {key_id} is revoked.")


@key_app.command("list")
def key_list(tenant: Tenant = "default") -> None:
    """Every key, without its secret."""
    table = Table("key", "actor", "roles", "created", "expires", "revoked", "last used")
    for row in _with_identity(lambda identity: identity.keys(tenant)):
        cells = [", ".join(v) if isinstance(v, list) else str(v or "") for v in row.values()]
        table.add_row(*cells)
    console.print(table)


@audit_app.command("verify")
def audit_verify() -> None:
    """Check the hash chains; exit code 1 names the first line that was changed."""

    async def job(resources: Resources) -> audit.Verification:
        async with resources.engine.connect() as db:
            return await audit.verify(db)

    found = _with_resources(job)
    if found.bad_line is not None:
        console.print(f"BROKEN at {found.bad_line} (of {found.lines} lines read)")
        raise SystemExit(1)
    console.print(f"{found.lines} lines, unbroken.")


def _with_resources(job: Callable[[Resources], Coroutine[Any, Any, Any]]) -> Any:
    async def opened(settings: Settings, url: str) -> Any:
        async with open_resources(settings, url) as resources:
            return await job(resources)

    return _run(opened, _settings())


def _with_identity(job: Callable[[Identity], Coroutine[Any, Any, Any]]) -> Any:
    return _with_resources(lambda r: job(Identity(r.engine, r.pool, pepper(r.settings))))

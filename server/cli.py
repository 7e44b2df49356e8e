"""The `casework` command."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
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
from casework.actor import SYSTEM, Actor, KeyScope, Role
from casework.database import DATABASE_AWAY
from casework.errors import CaseworkError, InputInvalid, SettingsInvalid
from casework.identity import OVERLAP, Identity
from casework.migrate import migrate
from casework.money import amounts, minor_of
from casework.passwords import Hasher
from casework.people import People
from casework.resources import Resources, open_resources
from casework.rights import listed
from casework.settings import Settings
from casework.telemetry import configure_logging
from graphs.replay import replay
from server import up
from server.demo import demo
from server.jobs import open_queue
from server.keys import HOUR, LONGEST_DAYS
from server.service import open_service, pepper, prepare
from server.upkeep import Upkeep

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Business processes run by AI agents.")
person_app = typer.Typer(no_args_is_help=True, help="People and services: roles, limits, passwords.")
key_app = typer.Typer(no_args_is_help=True, help="API keys.")
audit_app = typer.Typer(no_args_is_help=True, help="The audit log.")
app.add_typer(person_app, name="person")
app.add_typer(key_app, name="key")
app.add_typer(audit_app, name="audit")

console = Console()

Config = Annotated[Path | None, typer.Option(help="The langgraph.json that lists the workflows.")]
Tenant = Annotated[str, typer.Option(help="Whose.")]
Limit = Annotated[list[str] | None, typer.Option(help="How much money they may approve: '500.00 EUR'; repeatable.")]
KeyId = Annotated[str, typer.Argument(help="The part between the underscores of cw_<key id>_<secret>.")]
LIMIT = re.compile(r"([0-9.,]+) ?([A-Z]{3})")
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


@person_app.command("add")
def person_add(
    name: Annotated[str, typer.Argument(help="What they sign in with, such as ana.")],
    role: Annotated[list[Role], typer.Option(help="Repeat it for several.")],
    limit: Limit = None,
    tenant: Tenant = "default",
) -> None:
    """Add a person, and print a one-time link to choose their password; or a service, which needs a key then."""
    by, limits = _system(tenant), _limits(limit)

    async def job(people: People) -> None:
        await people.add(by, name, set(role), limits)
        if Role.SERVICE not in role:
            await _print_link(people, by, name)

    _with_people(job)


@person_app.command("password")
def person_password(
    name: Annotated[str, typer.Argument(help="Whose.")],
    link: Annotated[bool, typer.Option("--link", help="Print a one-time link instead of asking for one.")] = False,
    tenant: Tenant = "default",
) -> None:
    """Set a password, asked for on the terminal. Ends every session of theirs."""
    by = _system(tenant)
    if link:
        _with_people(lambda people: _print_link(people, by, name))
        return
    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    _with_people(lambda people: people.set_password(by, name, password))
    console.print(f"{name} signs in with the new password.")


@person_app.command("roles")
def person_roles(
    name: Annotated[str, typer.Argument(help="Whose.")],
    role: Annotated[list[Role], typer.Option(help="All they shall have; repeat it for several.")],
    tenant: Tenant = "default",
) -> None:
    """Replace somebody's roles, now."""
    _with_people(lambda people: people.change(_system(tenant), name, roles=set(role)))
    console.print(f"{name}: {listed(role)}")


@person_app.command("limits")
def person_limits(
    name: Annotated[str, typer.Argument(help="Whose.")],
    limit: Limit = None,
    tenant: Tenant = "default",
) -> None:
    """Replace how much money somebody may approve; without --limit: none."""
    limits = _limits(limit)
    _with_people(lambda people: people.change(_system(tenant), name, limits=limits))
    console.print(f"{name} may approve {f'up to {amounts(limits)}' if limits else 'no money'}.")


@person_app.command("disable")
def person_disable(name: Annotated[str, typer.Argument(help="Who.")], tenant: Tenant = "default") -> None:
    """Shut somebody out, now: ends their sessions and revokes their keys."""
    _with_people(lambda people: people.change(_system(tenant), name, disabled=True))
    console.print(f"{name} is disabled.")


@person_app.command("enable")
def person_enable(name: Annotated[str, typer.Argument(help="Who.")], tenant: Tenant = "default") -> None:
    """Let somebody in again. Their keys stay revoked."""
    _with_people(lambda people: people.change(_system(tenant), name, disabled=False))
    console.print(f"{name} is enabled.")


@person_app.command("list")
def person_list(tenant: Tenant = "default") -> None:
    """Everybody, with roles and limits."""
    table = Table("name", "roles", "may approve up to", "password", "disabled")
    for person in _with_people(lambda people: people.all(tenant)):
        password = "set" if person.has_password else "link is out" if person.invited_until else ""
        row = (person.actor_id, listed(person.roles), amounts(person.limits), password, str(person.disabled_at or ""))
        table.add_row(*row)
    console.print(table)


@key_app.command("add")
def key_add(
    actor: Annotated[str, typer.Argument(help="The person or service the key is for.")],
    role: Annotated[list[Role] | None, typer.Option(help="Creates the actor, or replaces its roles.")] = None,
    scope: Annotated[list[KeyScope] | None, typer.Option(help="What it is for; without: all the roles allow.")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=LONGEST_DAYS, help="Expires after so many days.")] = None,
    tenant: Tenant = "default",
) -> None:
    """Make a key and print it, once."""
    expires_at = datetime.now(UTC) + timedelta(days=days) if days is not None else None

    async def job(identity: Identity) -> str:
        return await identity.add_key(
            tenant, actor, role or None, by=SYSTEM, scopes=scope or None, expires_at=expires_at
        )

    sys.stdout.write(f"{_with_identity(job)}\n")


@key_app.command("rotate")
def key_rotate(
    key_id: KeyId,
    hours: Annotated[int, typer.Option(min=0, help="How long the old key lives on.")] = OVERLAP // HOUR,
    tenant: Tenant = "default",
) -> None:
    """Make a key's successor and print it, once."""
    overlap = timedelta(hours=hours)
    key = _with_identity(lambda identity: identity.rotate_key(tenant, key_id, by=SYSTEM, overlap=overlap))
    sys.stdout.write(f"{key}\n")


@key_app.command("revoke")
def key_revoke(key_id: KeyId, tenant: Tenant = "default") -> None:
    """Make a key useless, now."""
    _with_identity(lambda identity: identity.revoke_key(tenant, key_id, by=SYSTEM))
    console.print(f"Key {key_id} is revoked.")


@key_app.command("list")
def key_list(tenant: Tenant = "default") -> None:
    """Every key, without its secret."""
    table = Table("key", "actor", "for", "created", "expires", "revoked", "last used")
    for key in _with_identity(lambda identity: identity.keys(tenant)):
        scopes = ", ".join(key.scopes) if key.scopes is not None else "all its roles allow"
        times = (key.created_at, key.expires_at, key.revoked_at, key.last_used_at)
        table.add_row(key.key_id, key.actor_id, scopes, *(str(at or "") for at in times))
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


def _with_people(job: Callable[[People], Coroutine[Any, Any, Any]]) -> Any:
    return _with_identity(lambda identity: job(People(identity.engine, identity.seal, Hasher())))


def _system(tenant: str) -> Actor:
    return SYSTEM.model_copy(update={"tenant": tenant})


def _limits(written: list[str] | None) -> dict[str, int]:
    """Each like `500.00 EUR` → minor units by currency. Raises InputInvalid."""
    limits = {}
    for limit in written or []:
        found = LIMIT.fullmatch(limit.strip())
        if found is None:
            raise InputInvalid(f"{limit!r} is no limit; write it like '500.00 EUR'", field="limit")
        limits[found[2]] = minor_of(found[1], found[2])
    return limits


async def _print_link(people: People, by: Actor, name: str) -> None:
    invitation = await people.invite(by, name)
    console.print(f"{name} opens this on the desk's address to choose a password, until {invitation.expires_at}:")
    sys.stdout.write(f"{invitation.path}\n")

"""One process's service: everything the API, the pages and the worker stand on, opened once and handed down."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from casework.attempts import Attempts
from casework.decisions import Decisions
from casework.deliveries import Deliveries
from casework.dispatch import Queue
from casework.egress import Egress
from casework.errors import SettingsInvalid
from casework.handing import Handing
from casework.identity import Identity
from casework.inbox import Inbox
from casework.legs import Legs
from casework.listening import Listener
from casework.messages import Messages
from casework.numbers import Numbers
from casework.passwords import Hasher
from casework.people import People
from casework.resources import Resources, open_resources
from casework.sessions import Sessions
from casework.settings import Settings
from casework.store import Store
from casework.webhooks import Webhooks
from graphs.catalog import Catalog, open_services
from graphs.deciding import Deciding
from graphs.previewing import Previewing
from graphs.runner import Runner
from nodes.workflow import Services
from server.jobs import Worker, open_queue, worker_name
from server.sending import Sender

PEPPER_BYTES = 32


@dataclass(frozen=True)
class Service:
    """Live parts of one process."""

    resources: Resources
    catalog: Catalog
    services: Mapping[str, Services]
    queue: Queue
    store: Store
    decisions: Decisions
    messages: Messages
    handing: Handing
    inbox: Inbox
    numbers: Numbers
    deciding: Deciding
    previewing: Previewing
    identity: Identity
    people: People
    sessions: Sessions
    listener: Listener
    webhooks: Webhooks
    deliveries: Deliveries

    def worker(self) -> Worker:
        """A worker on these parts. At most one per process."""
        legs = Legs(self.resources.engine, self.resources.pool, self.queue)
        runner = Runner(legs, self.catalog, self.resources, self.services, worker_name())
        attempts = Attempts(self.resources.engine, self.resources.settings.webhook_timeout)
        sender = Sender(attempts, self.webhooks.egress, self.identity.seal, self.resources)
        return Worker(self.queue, runner, legs, self.decisions, self.deliveries, sender, self.resources)


@asynccontextmanager
async def open_service(settings: Settings, database_url: str) -> AsyncIterator[Service]:
    """Open everything on a migrated database; closes it on leaving. Raises SettingsInvalid, GraphInvalid."""
    catalog = Catalog.load(settings.config)
    _check_run_timeout(settings, catalog)
    async with (
        open_resources(settings, database_url) as resources,
        open_services(catalog, settings) as services,
        open_queue(resources) as queue,
    ):
        store = Store(resources.engine, resources.pool, queue)
        decisions = Decisions(resources.engine, queue)
        identity = Identity(resources.engine, resources.pool, pepper(settings))
        people = People(resources.engine, identity.seal, Hasher())
        egress = Egress(private=settings.webhook_private_receivers)
        yield Service(
            resources=resources,
            catalog=catalog,
            services=services,
            queue=queue,
            store=store,
            decisions=decisions,
            messages=Messages(resources.engine, queue),
            handing=Handing(resources.engine, queue),
            inbox=Inbox(resources.engine),
            numbers=Numbers(resources.engine),
            deciding=Deciding(decisions, store, catalog, resources, services),
            previewing=Previewing(catalog, resources, services),
            identity=identity,
            people=people,
            sessions=open_sessions(resources, people),
            listener=Listener(database_url, resources.pool),
            webhooks=Webhooks(resources.engine, egress, identity.seal),
            deliveries=Deliveries(resources.engine),
        )


def open_sessions(resources: Resources, people: People) -> Sessions:
    settings = resources.settings
    lifetimes = {"idle": settings.session_idle, "lifetime": settings.session_lifetime}
    return Sessions(resources.engine, resources.pool, people.seal, people.hasher, **lifetimes)


def _check_run_timeout(settings: Settings, catalog: Catalog) -> None:
    """A run must not be stopped for its time before its workflow's budget can hand the case to a person."""
    for entry in catalog:
        if entry.workflow is not None and entry.workflow.limits.working_s >= settings.run_timeout.total_seconds():
            raise SettingsInvalid(
                f"CASEWORK_RUN_TIMEOUT must be longer than the {entry.workflow.limits.working_s} s "
                f"that the limits of workflow {entry.name} give a case"
            )


async def prepare(service: Service) -> None:
    """Fill the demo companies of workflows that bring one. Repeatable."""
    for entry in service.catalog:
        if entry.workflow is not None and entry.workflow.prepare is not None:
            await entry.workflow.prepare(service.resources.engine, service.services[entry.name])


def pepper(settings: Settings) -> str:
    """The secret that API keys are hashed with. With the embedded database one is generated and kept.

    Raises SettingsInvalid when another database is used without one.
    """
    if settings.key_pepper is not None:
        return settings.key_pepper.get_secret_value()
    if not settings.embedded:
        raise SettingsInvalid("set CASEWORK_KEY_PEPPER to a long random secret: API keys are hashed with it")
    kept = settings.data_dir / "pepper"
    if not kept.exists():
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        kept.touch(mode=0o600)
        kept.write_text(secrets.token_urlsafe(PEPPER_BYTES))
    return kept.read_text()

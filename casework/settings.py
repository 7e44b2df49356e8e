"""All settings, read once at the process edge and handed down. Nobody else reads the environment."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from casework.execution import Mode

OFFLINE = "offline"
"""The model spec of the rule-based stand-in that needs no key."""


class Settings(BaseSettings):
    """Environment variables (prefix CASEWORK_, or the usual name where one exists) and an optional .env file."""

    model_config = SettingsConfigDict(
        env_prefix="CASEWORK_", env_nested_delimiter="__", env_file=".env", extra="ignore", populate_by_name=True
    )

    database_url: Annotated[SecretStr | None, Field(validation_alias="DATABASE_URL")] = None
    """Any Postgres from 14 on, as postgresql://user:password@host/name. None: an embedded one in `data_dir`."""
    data_dir: Path = Path(".casework")
    """Where the embedded database, the sandbox provider's book and generated secrets live."""
    config: Path = Path("langgraph.json")
    """The langgraph.json that lists the workflows."""

    database_timeout: Annotated[timedelta, Field(gt=timedelta(0))] = timedelta(seconds=10)
    """How long one statement may take, waiting for locks included, and how long to wait for a free connection.
    A server that is silent for 2 s more counts as gone."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Where the API and pages listen; 0 picks a free port."""
    key_pepper: SecretStr | None = None
    """Secret that API keys are hashed with. None: generated into `data_dir`, with the embedded database only."""

    openai_api_key: Annotated[SecretStr | None, Field(validation_alias="OPENAI_API_KEY")] = None
    openai_base_url: Annotated[str | None, Field(validation_alias="OPENAI_BASE_URL")] = None
    """Any OpenAI-compatible endpoint; None is OpenAI's own."""
    anthropic_api_key: Annotated[SecretStr | None, Field(validation_alias="ANTHROPIC_API_KEY")] = None
    model: str | None = None
    """Model for every role without one of its own: `provider:model`, `module:factory` or `offline`.
    None: `openai:gpt-5-mini` when OPENAI_API_KEY is set, else `offline`."""
    models: dict[str, str] = {}
    """Model per role, e.g. CASEWORK_MODELS__ROUTER=openai:gpt-5-nano."""
    model_timeout: timedelta = timedelta(seconds=60)
    """How long one model call may take, its retries apart."""

    payments_url: str | None = None
    """A provider with Stripe's API for charges and refunds. None: the sandbox on a loopback port."""
    payments_key: SecretStr = SecretStr("sk_test_sandbox")

    sandbox_only: bool = False
    """Whether outside services must be sandboxes; set under `langgraph dev`. A services factory refuses otherwise."""

    modes: dict[str, Mode] = {}
    """Mode per workflow, e.g. CASEWORK_MODES__SUPPORT=autonomous; copilot when not named."""
    lease: timedelta = timedelta(seconds=30)
    """How long a worker owns an execution without renewing; renewed every quarter of it."""
    queue: str | None = None
    """Another queue than Procrastinate in our database, as `module:factory`; docs/scaling.md says how to write one."""
    worker_concurrency: Annotated[int, Field(ge=1, le=200)] = 8
    """Executions one worker process runs at once."""
    max_attempts: Annotated[int, Field(ge=1)] = 5
    """How often a run is tried before its execution fails with the last error."""
    run_timeout: Annotated[timedelta, Field(gt=timedelta(0))] = timedelta(minutes=30)
    """How long one try of a run may take. Past it the run is stopped at its next step, or cut off soon after; the try
    counts. Longer than the `working_s` of every workflow's limits, which hands the case to a person instead."""
    retry_delay: timedelta = timedelta(seconds=1)
    """Pause before the second attempt; doubled for each one after."""
    approval_deadline: timedelta = timedelta(hours=72)
    """How long an approval may wait; past it the case goes to a person. Never a silent yes."""
    reconcile_every: timedelta = timedelta(seconds=10)
    """How often executions that should run but have no live lease are woken again."""

    upkeep_every: Annotated[timedelta, Field(gt=timedelta(0))] = timedelta(minutes=5)
    """How often one of the workers prunes and tidies."""
    keep_checkpoints: Annotated[timedelta | None, Field(ge=timedelta(0))] = timedelta(days=30)
    """How long the working memory of an execution is kept after it ended. None: for ever. What people and auditors
    read (the execution, its events, approvals, effects, audit lines) always stays."""
    keep_jobs: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(days=1)
    """How long the queue keeps a finished job that its worker did not delete at once."""

    stream_heartbeat: timedelta = timedelta(seconds=15)
    """How long a stream of events may be silent before a comment is sent, so that nobody takes it for dead."""

    webhook_private_receivers: bool = False
    """Whether webhooks may go to this machine (there over http too) and to private networks; else https and public."""
    webhook_timeout: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(minutes=5))] = timedelta(seconds=20)
    """How long a receiver may take to answer one message."""
    keep_deliveries: Annotated[timedelta, Field(ge=timedelta(days=7))] = timedelta(days=30)
    """How long a message and what came of it are kept; longer than it is tried."""

    log_format: Annotated[str, Field(pattern="^(auto|json|console)$")] = "auto"
    """auto: readable when a person watches (stderr is a terminal), else JSON."""
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"

    @field_validator("database_url", "key_pepper", "openai_api_key", "anthropic_api_key", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return value or None

    @field_validator("database_url")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        """Refused here, because the driver's own words would quote it, password and all."""
        if value is not None:
            url = value.get_secret_value()
            try:
                conninfo_to_dict(url)
                plain = make_url(url).drivername.startswith("postgres") and "@" not in (make_url(url).host or "")
            except (ProgrammingError, ArgumentError, ValueError):
                plain = False
            if not plain:
                raise ValueError("write it as postgresql://user:password@host/name, with %-codes for signs")
        return value

    def secrets(self, database_url: str | None = None) -> list[str]:
        """What must never be written down. `database_url`: the one in use, when it is another."""
        values = [value.get_secret_value() for value in vars(self).values() if isinstance(value, SecretStr)]
        urls = [url for url in (database_url, self.database_url and self.database_url.get_secret_value()) if url]
        return values + [password for url in urls if (password := make_url(url).password)]

    @property
    def embedded(self) -> bool:
        """Whether the database is the embedded one."""
        return self.database_url is None

    def mode(self, workflow: str) -> Mode:
        """What a new execution of this workflow runs in."""
        return self.modes.get(workflow, Mode.COPILOT)

    def model_for(self, role: str) -> str:
        """The model spec for a role such as `router` or `specialist`."""
        default = self.model or ("openai:gpt-5-mini" if self.openai_api_key else OFFLINE)
        return self.models.get(role, default)

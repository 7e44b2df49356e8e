"""Secrets planted everywhere, services that quote them in every error, and a search of all that was written down."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from tests.conftest import ROOT
from tests.processes import CASEWORK, Process, casework, clean_environment, until

READY = "Ctrl-C stops everything."
SECRETS = {
    "the pepper": "grey-pepper-7c1e55a90b",
    "the database's password": "dbpass-40d1f6a2e9",
    "the provider's key": "provider-live-key-0b9ad75f",
    "the model's key": "model-api-key-5e13c8d2",
    "a bearer token": "stray-token-19f7ab6c40d2",
}
TABLES = """SELECT table_schema, table_name FROM information_schema.tables
    WHERE table_schema IN ('casework', 'shop', 'public') AND table_type = 'BASE TABLE'"""


class Quoting(BaseHTTPRequestHandler):
    """Every service there is, having a bad day: refuses, and quotes the key it was sent."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status = self.server.statuses.pop(0) if self.server.statuses else 401
        said = f"Incorrect key provided: {self.headers.get('Authorization')}"
        body = json.dumps({"error": {"type": "invalid_request_error", "code": "bad", "message": said}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.server.quoted.append(said)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@dataclass
class Quoter:
    url: str
    statuses: list[int] = field(default_factory=list)
    """The next answers'; then 401."""
    quoted: list[str] = field(default_factory=list)


@pytest.fixture
def quoter() -> Iterator[Quoter]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Quoting)
    made = Quoter(f"http://127.0.0.1:{server.server_port}")
    server.statuses, server.quoted = made.statuses, made.quoted
    Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def env(database_url: str, quoter: Quoter, tmp_path: Path) -> dict[str, str]:
    """The environment of a service with every secret there is; its Postgres trusts, so any password is right."""
    address = make_url(database_url).set(password=SECRETS["the database's password"])
    return {
        "DATABASE_URL": address.render_as_string(hide_password=False),
        "CASEWORK_DATA_DIR": str(tmp_path),
        "CASEWORK_PORT": "0",
        "CASEWORK_KEY_PEPPER": SECRETS["the pepper"],
        "CASEWORK_PAYMENTS_URL": quoter.url,
        "CASEWORK_PAYMENTS_KEY": SECRETS["the provider's key"],
        "OPENAI_API_KEY": SECRETS["the model's key"],
        "OPENAI_BASE_URL": f"{quoter.url}/v1",
        "CASEWORK_MODES__SUPPORT": "autonomous",
        "CASEWORK_RETRY_DELAY": "PT0.1S",
        "CASEWORK_MAX_ATTEMPTS": "2",
        "CASEWORK_LOG_LEVEL": "debug",
    }


@dataclass
class Hunt:
    """What was written down, and where, and what must not stand there."""

    secrets: dict[str, str]
    found: dict[str, str] = field(default_factory=dict)

    def leaks(self, database_url: str) -> list[str]:
        """Which secret stands where."""
        places = {**self.found, **dict(tables(database_url))}
        return [f"{what} in {where}" for where, said in places.items() for what, s in self.secrets.items() if s in said]


def tables(database_url: str) -> Iterator[tuple[str, str]]:
    """Every table with all it holds, checkpoints' bytes too."""
    with psycopg.connect(database_url) as db:
        for schema, name in db.execute(TABLES).fetchall():
            rows = db.execute(sql.SQL("SELECT * FROM {}.{}").format(sql.Identifier(schema), sql.Identifier(name)))
            yield (
                f"table {schema}.{name}",
                "\n".join(v.decode("latin-1") if isinstance(v, bytes) else str(v) for row in rows for v in row),
            )


def run(arguments: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    environment = {**clean_environment(), **env}
    return subprocess.run(
        [str(CASEWORK), *arguments.split()], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


@contextmanager
def serving(env: Mapping[str, str], log: Path) -> Iterator[tuple[Process, str]]:
    with casework("up", log, env, READY) as up:
        found = re.search(r"Casework runs at (\S+)", up.said())
        assert found is not None
        yield up, found[1]
        up.stop()


def resolve(url: str, key: str, hunt: Hunt, up: Process) -> str:
    """Start the refund of a demo ticket and wait until its case is over. Returns the execution's id."""
    with httpx.Client(base_url=url, trust_env=False, timeout=60, headers={"Authorization": f"Bearer {key}"}) as client:
        body = {"ticket_id": "T-1042", "user_id": "C-1042"}
        execution_id = client.post("/workflows/support/resolve", json=body).json()["execution_id"]
        path = f"/executions/{execution_id}"
        until(lambda: client.get(path).json()["status"] not in ("queued", "running"), 60, up.said)
        hunt.found[f"the execution {execution_id}"] = client.get(path).text
        hunt.found[f"the events of {execution_id}"] = client.get(f"{path}/events?limit=1000").text
    return str(execution_id)


def ask_wrongly(url: str, hunt: Hunt) -> None:
    """Errors of every kind, with secrets in the request."""
    stray, key = SECRETS["a bearer token"], hunt.secrets["an API key"]
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        for headers in ({"Authorization": f"Bearer {stray}"}, {"Authorization": f"Bearer {key}x"}):
            hunt.found[f"401 of {len(hunt.found)}"] = client.get("/executions", headers=headers).text
        signed = {"Authorization": f"Bearer {key}"}
        for body in ({"input": {"ticket_id": 1, "user_id": stray}}, {"input": stray}, {stray: stray}, [stray]):
            answer = client.post("/workflows/support/executions", headers=signed, json=body)
            assert answer.status_code == 422
        answer = client.get("/executions", headers={**signed, "X-Request-Id": "x y"}, params={"cursor": stray})
        hunt.found["a wrong cursor"] = answer.text


def test_no_credential_is_written_down_anywhere(
    env: dict[str, str], database_url: str, quoter: Quoter, tmp_path: Path
) -> None:
    made = run("key add olga --role operator", env)
    key = made.stdout.strip()
    hunt = Hunt({**SECRETS, "an API key": key})
    hunt.found["what making a key logged"] = made.stderr
    with serving({**env, "CASEWORK_MODEL": "offline"}, tmp_path / "refused.log") as (up, url):
        ask_wrongly(url, hunt)
        quoter.statuses += [500] * 4  # every try of the first write: nobody knows; then refusals
        doubted = resolve(url, key, hunt, up)
        refused = resolve(url, key, hunt, up)
    hunt.found["logs of refused payments"] = up.said()
    with serving({**env, "CASEWORK_MODEL": "openai:gpt-5-mini"}, tmp_path / "unheard.log") as (up, url):
        unheard = resolve(url, key, hunt, up)
    hunt.found["logs of refused models"] = up.said()
    for execution_id in (doubted, refused, unheard):
        replayed = run(f"replay {execution_id}", env)
        assert "Checkpoints" in replayed.stdout
        hunt.found[f"replay {execution_id}"] = replayed.stdout + replayed.stderr
    said = " ".join(quoter.quoted)
    assert SECRETS["the provider's key"] in said  # they were quoted
    assert SECRETS["the model's key"] in said
    assert hunt.leaks(database_url) == []
    assert "[secret]" in " ".join(hunt.found.values())  # and it was struck out, not lost on the way


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://casework:{}@127.0.0.1:1/x",
        "postgresql://casework:{}%zz@127.0.0.1:1/x",
        "postgres casework {}",
        "postgresql://casework:{}@127.0.0.1:port/x",
        "postgresql://casework:a@{}@127.0.0.1:1/x",
    ],
)
def test_a_wrong_database_address_is_refused_without_quoting_it(env: dict[str, str], url: str) -> None:
    password = SECRETS["the database's password"]
    failed = run("up", {**env, "CASEWORK_LOG_LEVEL": "info", "DATABASE_URL": url.format(password)})
    assert failed.returncode == 1
    assert failed.stderr.startswith("casework: ")
    assert password not in failed.stdout + failed.stderr
    assert "Traceback" not in failed.stderr


def test_the_search_finds_what_is_planted(database_url: str) -> None:
    hunt = Hunt(SECRETS)
    assert hunt.leaks(database_url) == []
    hunt.found["a log"] = json.dumps({"event": "model.failed", "detail": SECRETS["the model's key"]})
    with psycopg.connect(database_url, autocommit=True) as db:
        blob = b"message: " + SECRETS["the provider's key"].encode()
        planting = (
            "INSERT INTO checkpoint_blobs (thread_id, channel, version, type, blob) VALUES ('t', 'c', '1', 'x', %s)"
        )
        db.execute(planting, (blob,))
    assert hunt.leaks(database_url) == [
        "the model's key in a log",
        "the provider's key in table public.checkpoint_blobs",
    ]

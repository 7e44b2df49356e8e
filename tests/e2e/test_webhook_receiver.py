"""The receiver that docs/webhooks.md prints, run as printed: it takes what Casework sends, once, and nothing else."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from casework.deliveries import DeliveryState
from casework.outbox import FactType
from server.service import Service
from tests.conftest import ROOT
from tests.processes import START_TIMEOUT_S, Process, clean_environment, eventually, until
from tests.receivers import office_of

DOCUMENT = ROOT / "docs" / "webhooks.md"
BLOCK = re.compile(r"```python\n# receiver\.py\n(?P<code>.*?)```", re.DOTALL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def printed_receiver(folder: Path, secret: str, port: int) -> Iterator[Process]:
    found = BLOCK.search(DOCUMENT.read_text(encoding="utf-8"))
    assert found is not None
    (folder / "receiver.py").write_text(found["code"], encoding="utf-8")
    command = [sys.executable, "-m", "uvicorn", "receiver:app", "--port", str(port)]
    log = folder / "receiver.log"
    with log.open("wb") as out:
        environment = {**clean_environment(), "PATH": os.environ["PATH"], "WEBHOOK_SECRET": secret}
        popen = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT)
    process = Process(popen, log)
    try:
        until(lambda: "running on" in process.said() or popen.poll() is not None, START_TIMEOUT_S, process.said)
        assert popen.poll() is None, process.said()
        yield process
    finally:
        process.kill()


async def test_the_printed_receiver_takes_each_message_once_and_refuses_what_is_forged(
    service: Service, tmp_path: Path
) -> None:
    office = office_of(service)
    port = free_port()
    url = f"http://127.0.0.1:{port}/casework"
    webhook, secret = await office.add(url)
    with printed_receiver(tmp_path, secret, port) as receiver:
        async with office.sender().running():
            execution = await office.fact()
            (delivery,) = await office.settled(webhook, DeliveryState.DELIVERED)
            told = f"execution.created /executions/{execution.execution_id}"
            await eventually(lambda: told in receiver.said(), receiver.said)
            await office.deliveries.retry("default", webhook.webhook_id, delivery.delivery_id)
            assert (await office.attempted(webhook, 2)).last_status == 204
            await office.deliveries.test("default", webhook.webhook_id)
            await office.settled(webhook, DeliveryState.DELIVERED, DeliveryState.DELIVERED)
            await eventually(lambda: f"webhook.test /webhooks/{webhook.webhook_id}" in receiver.said(), receiver.said)
        assert receiver.said().count(told) == 1
        async with httpx.AsyncClient(trust_env=False) as client:
            forged = {"webhook-id": "x", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
            for headers in ({}, forged, {**forged, "webhook-signature": "nonsense"}):
                assert (await client.post(url, content=b"{}", headers=headers)).status_code == 400


def test_the_document_names_every_type_there_is() -> None:
    named = re.findall(r"^\| `([\w.]+)` \| ", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert named == list(FactType)

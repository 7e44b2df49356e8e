"""`python -m tests.traced_run TICKET`: run a demo ticket once, in a process whose environment decides about tracing."""

from __future__ import annotations

import asyncio
import sys

from casework.settings import Settings
from casework.telemetry import configure_logging
from tests.rig import rig


async def main(ticket: str) -> None:
    settings = Settings()
    configure_logging(settings)
    assert settings.database_url is not None
    async with rig(settings, settings.database_url.get_secret_value(), None) as case:
        execution_id = await case.start(ticket)
        status = await case.advance(execution_id)
    sys.stdout.write(f"{execution_id} {status}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

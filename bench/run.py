"""`make bench`: the service against its floors, in one run on one machine. Prints a table; --json writes the figures.

Ratios are what counts: they hold when the machine's speed does not. Each figure is a median of `--repeats` with its
least and greatest. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from bench.floors import floors
from bench.service import drive, running_service
from casework.embedded import embedded_postgres

MANY = 32
"""Callers at once."""


async def measure(repeats: int, executions: int) -> dict[str, list[float]]:
    """Every figure, once per repeat."""
    figures: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="casework-bench-") as name:
        folder = Path(name)
        with running_service(folder) as service, embedded_postgres(folder) as url:
            await drive(service, MANY, MANY)  # warm
            for _ in range(repeats):
                floor = await floors(url, executions)
                many, one = await drive(service, MANY, executions), await drive(service, 1, max(executions // 8, 20))
                for kind, value in floor.items():
                    figures[f"floor: {kind}"].append(value)
                figures["executions/s at 32 callers"].append(many.rate)
                figures["p95 ms at 32 callers"].append(many.p95_ms)
                figures["p50 ms at one caller"].append(one.p50_ms)
                figures["server CPU ms per execution"].append(many.cpu_ms)
                figures["executions/s ÷ stock saver in process"].append(many.rate / floor["shared"])
                figures["p50 at one caller ÷ in process"].append(one.p50_ms / floor["shared_p50_ms"])
    return figures


def table(figures: dict[str, list[float]]) -> str:
    lines = [f"{'figure':<44}{'median':>10}{'least':>10}{'greatest':>10}"]
    lines += [
        f"{name:<44}{statistics.median(values):>10.2f}{min(values):>10.2f}{max(values):>10.2f}"
        for name, values in figures.items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--executions", type=int, default=300, help="per measurement")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    asked = parser.parse_args()
    found = asyncio.run(measure(asked.repeats, asked.executions))
    sys.stdout.write(table(found))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2))

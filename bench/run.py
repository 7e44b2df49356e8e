"""`make bench`: the service against its floors and a peer, in one run on one machine.

Prints a table; --json writes every value. Ratios are what counts: they hold when the machine's speed does not. Each
figure is a median of the repeats with its least and greatest. Nothing else should run meanwhile: the row "cores others
used" says whether something did. docs/benchmarks.md says what each row means.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import psutil

import casework  # noqa: F401  # first: it sets what LangGraph reads while it is imported
from bench.figures import GOALS, Figures, ratios, table
from bench.sections import QUICK, SECTIONS, Plan, Sizes
from bench.service import Layout

QUICK_SECTIONS = ["floors", "service", "peer", "turns", "burst"]
"""All but the memory of thousands of executions."""


def measure(wanted: list[str], repeats: int, sizes: Sizes, layout: Layout, peer_jobs: int | None) -> Figures:
    """Every figure of these sections, once per repeat; a line on stderr as each is done."""
    figures: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="casework-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as another user when we are root
        for repeat in range(repeats):
            found: dict[str, float] = {}
            for section in wanted:
                began = time.monotonic()
                plan = Plan(folder / f"{repeat}-{section}", sizes, layout, peer_jobs)
                found |= SECTIONS[section](plan)
                sys.stderr.write(f"{repeat + 1}/{repeats} {section}: {time.monotonic() - began:.0f} s\n")
            for figure, value in (found | ratios(found)).items():
                figures[figure].append(value)
    return figures


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "memory_mb": psutil.virtual_memory().total // 2**20,
        "python": platform.python_version(),
        **{name: version(name) for name in ("langgraph", "langgraph-checkpoint-postgres", "langgraph-api", "psycopg")},
    }


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="once, with less of everything: about a minute")
    parser.add_argument("--repeats", type=int, help="3 unless quick")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="these sections")
    parser.add_argument("--workers", type=int, default=0, help="`casework api` and so many workers; 0: `casework up`")
    parser.add_argument("--concurrency", type=int, default=32, help="executions at once, all workers together")
    parser.add_argument(
        "--set", nargs="+", type=_setting, default=[], metavar="NAME=VALUE", help="environment of the service"
    )
    parser.add_argument("--peer-jobs", type=int, help="runs at once in langgraph dev; its own default unless given")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


def _setting(pair: str) -> tuple[str, str]:
    name, sign, value = pair.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{pair!r}: write NAME=VALUE")
    return name, value


def main() -> None:
    asked = _asked()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything started is stopped
    layout = Layout(asked.workers, asked.concurrency, dict(asked.set))
    sizes = QUICK if asked.quick else Sizes()
    wanted = asked.only or (QUICK_SECTIONS if asked.quick else list(SECTIONS))
    figures = measure(wanted, asked.repeats or (1 if asked.quick else 3), sizes, layout, asked.peer_jobs)
    sys.stdout.write(table(figures))
    if asked.json:
        goals = {name: vars(goal) for name, goal in GOALS.items()}
        whole = {"asked": sys.argv[1:], "machine": machine(), "figures": figures, "goals": goals}
        asked.json.write_text(json.dumps(whole, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()

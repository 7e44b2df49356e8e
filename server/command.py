"""The `casework` script. It imports nothing heavy itself, so that a Ctrl-C in the first second is a clean end too."""

from __future__ import annotations

import importlib


def main() -> None:
    """Hand over to server/cli.py."""
    try:
        importlib.import_module("server.cli").run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None

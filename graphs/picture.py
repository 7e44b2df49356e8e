"""A workflow's graph as a picture: `python -m graphs.picture [workflow]` prints the README's Mermaid block."""

from __future__ import annotations

import sys
from pathlib import Path

from graphs.catalog import Catalog

CONFIG = Path(__file__).parent.parent / "langgraph.json"


def begin_mark(workflow: str) -> str:
    """What stands before the picture in a document."""
    return f"<!-- graph:{workflow} -->"


END_MARK = "<!-- /graph -->"


def picture(catalog: Catalog, workflow: str) -> str:
    """The workflow's graph as a fenced Mermaid block, as GitHub renders it. Raises NotFound."""
    drawn = catalog.get(workflow).mermaid().replace("\t", "    ").strip()
    return f"```mermaid\n{drawn}\n```"


def pictured(document: str, workflow: str) -> str | None:
    """What a document shows between its marks for this workflow; None when it has no such marks."""
    _, begin, rest = document.partition(begin_mark(workflow))
    shown, end, _ = rest.partition(END_MARK)
    return shown.strip() if begin and end else None


if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) > 1 else "support"
    sys.stdout.write(f"{begin_mark(wanted)}\n{picture(Catalog.load(CONFIG), wanted)}\n{END_MARK}\n")

"""What the README shows is what the code is."""

from __future__ import annotations

from graphs.catalog import Catalog
from graphs.picture import picture, pictured
from tests.conftest import ROOT


def test_the_pictures_between_the_marks_are_read_back_whole() -> None:
    document = "# Title\n<!-- graph:a -->\n```mermaid\nA\n```\n<!-- /graph -->\n<!-- graph:b -->\nB\n<!-- /graph -->\n"
    assert [pictured(document, name) for name in ("a", "b", "c")] == ["```mermaid\nA\n```", "B", None]


def test_the_readme_shows_the_support_workflow_as_it_is() -> None:
    """To mend it: `python -m graphs.picture`, and put what it prints into README.md."""
    shown = pictured((ROOT / "README.md").read_text(), "support")
    assert shown == picture(Catalog.load(ROOT / "langgraph.json"), "support")

"""Loading the workflows that somebody's langgraph.json names, from their own folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from casework.errors import GraphInvalid, NotFound
from graphs.catalog import Catalog
from graphs.support import support
from tests.conftest import ROOT

MODULE = """
from typing_extensions import TypedDict
from langgraph.graph import END, START, StateGraph

class Count(TypedDict):
    n: int

async def up(state: Count) -> dict:
    return {{"n": state["n"] + {step}}}

builder = StateGraph(Count).add_node("up", up).add_edge(START, "up").add_edge("up", END)
compiled = builder.compile()
unfinished = StateGraph(Count).add_node("up", up).add_edge(START, "nowhere")

def make():
    return builder
"""


@pytest.fixture(autouse=True)
def imports() -> Iterator[None]:
    """Loading imports for good, as a process wants it; a test leaves no trace."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def config(folder: Path, graphs: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "langgraph.json"
    written.write_text(json.dumps({"dependencies": ["."], "graphs": graphs, "env": ".env"}))
    return written


def package(folder: Path, name: str, step: int = 1) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("")
    (folder / name / "counting.py").write_text(MODULE.format(step=step))


async def counted(catalog: Catalog, name: str) -> int:
    """What the graph makes of 1."""
    result = await catalog.get(name).compiled.ainvoke({"n": 1})
    return int(result["n"])


async def test_a_package_in_the_configs_own_folder_is_found_wherever_the_process_was_started(tmp_path: Path) -> None:
    package(tmp_path, "acme_counting", step=10)
    catalog = Catalog.load(config(tmp_path, {"count": "acme_counting.counting:builder"}))
    assert [entry.name for entry in catalog] == ["count"]
    assert await counted(catalog, "count") == 11


async def test_a_file_is_found_from_the_configs_folder_and_may_import_its_neighbours(tmp_path: Path) -> None:
    package(tmp_path, "acme_parts", step=20)
    (tmp_path / "flow.py").write_text("from acme_parts.counting import builder\n")
    graphs = {"count": {"path": "./flow.py:builder", "description": "Counts by twenty."}}
    catalog = Catalog.load(config(tmp_path, graphs))
    assert catalog.get("count").description == "Counts by twenty."
    assert await counted(catalog, "count") == 21


async def test_two_names_for_one_file_run_it_once(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(MODULE.format(step=1))
    catalog = Catalog.load(config(tmp_path, {"a": "./flow.py:builder", "b": "flow.py:builder"}))
    assert catalog.get("a").compiled.builder is catalog.get("b").compiled.builder


def test_our_own_langgraph_json_names_the_support_workflow() -> None:
    catalog = Catalog.load(ROOT / "langgraph.json")
    assert {entry.name: entry.workflow for entry in catalog} == {"support": support}


def test_an_unknown_workflow_is_answered_with_the_known_ones() -> None:
    with pytest.raises(NotFound, match="there is no workflow 'sales'; there are support"):
        Catalog.load(ROOT / "langgraph.json").get("sales")


def test_a_name_that_python_finds_in_another_place_is_refused(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    package(ours, "acme_twice")
    package(theirs, "acme_twice")
    Catalog.load(config(ours, {"count": "acme_twice.counting:builder"}))
    with pytest.raises(GraphInvalid, match=r"Python finds .*ours.*: rename your package 'acme_twice'"):
        Catalog.load(config(theirs, {"count": "acme_twice.counting:builder"}))


@pytest.mark.parametrize("module", ["support", "counting"])
def test_a_package_named_like_one_of_ours_is_refused_and_not_mistaken_for_it(tmp_path: Path, module: str) -> None:
    package(tmp_path, "graphs")
    with pytest.raises(GraphInvalid, match="rename your package 'graphs'"):
        Catalog.load(config(tmp_path, {"count": f"graphs.{module}:builder"}))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("flow.py:compiled", "is a CompiledStateGraph; export the uncompiled StateGraph builder"),
        ("flow.py:make", "is a function; export the uncompiled StateGraph builder"),
        ("flow.py:absent", "'flow.py:absent': the module has no 'absent'"),
        ("flow.py:unfinished", "graph 'count': .*nowhere"),
        ("elsewhere.py:builder", "there is no file .*elsewhere.py"),
        ("broken.py:builder", r"cannot be imported: invalid syntax \(broken.py, line 1\)"),
        ("needy.py:builder", "cannot be imported: No module named 'acme_absent'"),
        ("acme_absent.flow:builder", "cannot be imported: No module named 'acme_absent'"),
        ("flow.py", "write package.module:name or ./file.py:name"),
        (":builder", "write package.module:name or ./file.py:name"),
        ("", "write package.module:name or ./file.py:name"),
        ("..flow:builder", "write package.module:name or ./file.py:name"),
    ],
)
def test_what_cannot_be_a_workflow_is_refused_with_what_to_correct(tmp_path: Path, target: str, message: str) -> None:
    (tmp_path / "flow.py").write_text(MODULE.format(step=1))
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "needy.py").write_text("import acme_absent\n")
    written = config(tmp_path, {"count": target})
    for _ in range(2):  # a module that failed halfway is not taken for whole the next time
        with pytest.raises(GraphInvalid, match=message):
            Catalog.load(written)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"graphs": {}}', '{"graphs": {"a": 1}}', "{}", "\xff"])
def test_a_file_that_is_no_langgraph_json_is_refused(tmp_path: Path, text: str) -> None:
    written = tmp_path / "langgraph.json"
    written.write_bytes(text.encode("latin-1"))
    with pytest.raises(GraphInvalid, match=r"cannot be read as a langgraph\.json"):
        Catalog.load(written)


def test_a_missing_langgraph_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphInvalid, match=r"cannot be read as a langgraph\.json"):
        Catalog.load(tmp_path / "langgraph.json")


async def test_the_version_changes_with_the_topology_and_not_with_a_nodes_code(tmp_path: Path) -> None:
    versions = []
    for name, text in {
        "first": MODULE.format(step=1),
        "other_code": MODULE.format(step=2),
        "other_node": MODULE.format(step=1).replace('"up"', '"upwards"'),
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
        versions.append(Catalog.load(config(tmp_path, {"count": f"{name}.py:builder"})).get("count").version)
    first, other_code, other_node = versions
    assert first == other_code != other_node

"""What the README says to write works as written: the tool, the specialist and the workflow of its last section."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from casework.execution import Status
from casework.settings import Settings
from nodes.workflow import Workflow
from tests.conftest import ROOT
from tests.rig import call, rig, scripted

BLOCK = re.compile(r"```python\n# (?P<path>\S+\.py)\n(?P<code>.*?)```", re.DOTALL)


@pytest.fixture
def written(tmp_path: Path) -> Iterator[dict[str, ModuleType]]:
    """The README's files, imported under the names it gives them."""
    modules: dict[str, ModuleType] = {}
    for block in BLOCK.finditer((ROOT / "README.md").read_text(encoding="utf-8")):
        name = block["path"].removesuffix(".py").replace("/", ".")
        file = tmp_path / f"{name}.py"
        file.write_text(block["code"], encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        modules[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules[name])
    yield modules
    for name in modules:
        del sys.modules[name]


async def test_the_readmes_tool_specialist_and_workflow_resolve_a_ticket(
    written: dict[str, ModuleType], settings: Settings, database_url: str
) -> None:
    assert set(written) == {"tools.shop.warranty", "nodes.shop.warranty", "graphs.warranty"}
    workflow: Workflow = written["graphs.warranty"].builder.workflow
    turns = (
        [call("check_warranty", order_id="O-5042")],
        [call("reply_to_customer", body="Your vase is under warranty for two years.")],
        "The customer knows.",
    )
    async with rig(settings, database_url, scripted(*turns, route="warranty"), workflow) as case:
        execution_id = await case.start("T-1042")
        assert await case.advance(execution_id) is Status.SUCCEEDED
        (checked, _) = await case.events(execution_id, "call.succeeded")
        assert checked.data["tool"] == "check_warranty"
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", checked.data["result"]["until"])

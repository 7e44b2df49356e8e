"""Our packages have common names: nothing else on the path may answer to them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("package", ["graphs", "nodes", "tools", "server", "casework", "policies", "evals"])
def test_the_package_resolves_to_this_repository(package: str) -> None:
    file = importlib.import_module(package).__file__
    assert file is not None
    assert Path(file) == ROOT / package / "__init__.py"


@pytest.mark.parametrize("module", ["graphs.catalog", "nodes.calls"])
def test_whichever_module_comes_first_langgraph_reads_checkpoints_strictly(module: str) -> None:
    """LangGraph decides when it is imported; tests/unit/test_internals.py has the control."""
    program = f"import {module}; from langgraph.checkpoint.serde import _msgpack as m; print(m.STRICT_MSGPACK_ENABLED)"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("True\n", "")

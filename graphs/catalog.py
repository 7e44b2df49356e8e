"""The workflows this process can run: every graph that a langgraph.json names, ours or a user's."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from casework.errors import GraphInvalid, NotFound
from casework.settings import Settings
from graphs.assembly import CaseGraph
from graphs.internals import strict_serializer
from nodes.workflow import Services, Workflow


class _Target(BaseModel):
    path: str
    description: str = ""


class _Config(BaseModel):
    """The part of a langgraph.json that matters here; `langgraph dev` reads the rest."""

    model_config = ConfigDict(extra="ignore")

    graphs: Annotated[dict[str, str | _Target], Field(min_length=1)]


@dataclass(frozen=True)
class Entry:
    """One workflow, ready to run."""

    name: str
    description: str
    compiled: CompiledStateGraph[Any, Any, Any, Any]
    """Without a saver; the runner copies it with one per run."""
    version: str
    """Hash of the topology: changes when a node or an edge does."""
    serializer: JsonPlusSerializer
    workflow: Workflow | None
    """None: a graph that was not built by graphs.assembly. It runs all the same, durably."""

    @property
    def nodes(self) -> frozenset[str]:
        return frozenset(self.compiled.nodes)

    def mermaid(self) -> str:
        """The graph as a Mermaid flowchart."""
        return self.compiled.get_graph().draw_mermaid()


class Catalog:
    """Workflows by name."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = dict(entries)

    def __iter__(self) -> Any:
        return iter(self._entries.values())

    def get(self, name: str) -> Entry:
        """Raises NotFound."""
        if name not in self._entries:
            raise NotFound(f"there is no workflow {name!r}; there are {', '.join(sorted(self._entries))}")
        return self._entries[name]

    @classmethod
    def of(cls, builders: Mapping[str, StateGraph[Any, Any, Any, Any]]) -> Catalog:
        """Of builders at hand, without a langgraph.json."""
        return cls({name: _entry(name, _Target(path=name), builder) for name, builder in builders.items()})

    @classmethod
    def load(cls, config: Path) -> Catalog:
        """Import every graph of a langgraph.json. Raises GraphInvalid with what to correct."""
        try:
            parsed = _Config.model_validate(json.loads(config.read_text()))
        except (OSError, ValueError, ValidationError) as error:
            raise GraphInvalid(f"{config} cannot be read as a langgraph.json: {error}") from error
        folder = config.resolve().parent
        if str(folder) not in sys.path:  # as `langgraph dev` does with `"dependencies": ["."]`
            sys.path.insert(0, str(folder))
        entries = {}
        for name, target in parsed.graphs.items():
            spec = target if isinstance(target, _Target) else _Target(path=target)
            entries[name] = _entry(name, spec, _resolve(spec.path, folder))
        return cls(entries)


@asynccontextmanager
async def open_services(catalog: Catalog, settings: Settings) -> AsyncIterator[dict[str, Services]]:
    """Open what each workflow's tools need; yields it by workflow name, closes it on leaving."""
    async with AsyncExitStack() as stack:
        opened = {}
        for entry in catalog:
            if entry.workflow is not None:
                opened[entry.name] = await stack.enter_async_context(entry.workflow.services(settings))
        yield opened


def _entry(name: str, target: _Target, builder: Any) -> Entry:
    if not isinstance(builder, StateGraph):
        kind = type(builder).__name__
        raise GraphInvalid(f"graph {name!r}: {target.path} is a {kind}; export the uncompiled StateGraph builder")
    try:
        compiled: CompiledStateGraph[Any, Any, Any, Any] = builder.compile()
    except ValueError as error:
        raise GraphInvalid(f"graph {name!r}: {error}") from error
    drawn = json.dumps(compiled.get_graph().to_json(), sort_keys=True, default=str)
    workflow = builder.workflow if isinstance(builder, CaseGraph) else None
    return Entry(
        name=name,
        description=target.description or (workflow.description if workflow else f"The graph {target.path}."),
        compiled=compiled,
        version=hashlib.sha256(drawn.encode()).hexdigest()[:12],
        serializer=strict_serializer(compiled),
        workflow=workflow,
    )


def _resolve(path: str, folder: Path) -> Any:
    """`package.module:name`, or `./file.py:name` relative to the config's folder."""
    module_name, _, attribute = path.rpartition(":")
    is_file = module_name.endswith(".py")
    if not attribute or not (is_file or all(module_name.split("."))):
        raise GraphInvalid(f"{path!r}: write package.module:name or ./file.py:name")
    try:
        module = _file(folder / module_name) if is_file else _dotted(module_name, folder)
    except (ImportError, SyntaxError) as error:
        raise GraphInvalid(f"{path!r} cannot be imported: {error}") from error
    if not hasattr(module, attribute):
        raise GraphInvalid(f"{path!r}: the module has no {attribute!r}")
    return getattr(module, attribute)


def _dotted(name: str, folder: Path) -> ModuleType:
    """Import by name. When the folder has a package of that name, it must be the one that Python finds."""
    top = name.partition(".")[0]
    meant = next((p for p in (folder / top, folder / f"{top}.py") if p.exists()), None)
    for part in (top, name):  # the top first: a module that only the package meant has would just not be found
        module = importlib.import_module(part)
        found = [Path(p).resolve() for p in getattr(module, "__path__", [module.__file__ or sys.prefix])]
        if meant and not any(p.is_relative_to(folder) for p in found):
            raise GraphInvalid(f"{name!r} means {meant}, but Python finds {found[0]}: rename your package {top!r}")
    return module


def _file(path: Path) -> ModuleType:
    """Run a file as a module of its own, once."""
    name = f"_graph_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.exists():
        raise GraphInvalid(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module

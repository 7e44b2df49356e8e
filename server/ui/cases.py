"""The page of one case: where it stands, its questions, its story and its picture."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Query
from fastapi.responses import RedirectResponse, Response

from casework.actor import Actor, Role
from casework.approval import Approval, ApprovalState
from casework.errors import ExecutionOver
from casework.execution import OVER, Event, Execution, Status
from graphs.catalog import Entry
from policies.content import MAX_REQUEST_CHARS
from server.auth import Live, Person, Starter
from server.executions import LARGEST_SEQ
from server.messages import takes_messages
from server.problems import Problem
from server.service import Service
from server.ui.cards import Refusal, card_of, entry_of
from server.ui.picture import Picture, draw
from server.ui.rendering import render
from server.ui.shell import page
from server.ui.story import told, visited

router = APIRouter(prefix="/desk/executions/{execution_id}", include_in_schema=False)

SHOWN_EVENTS = 500
"""The newest; earlier ones are a page away."""
SHOWN_APPROVALS = 200
NONE_REFUSED: Mapping[UUID, Refusal] = {}
CLOSED_FOR_GOOD = frozenset({Status.FAILED, Status.CANCELLED})
Seq = Annotated[int, Query(ge=1, le=LARGEST_SEQ)]


@dataclass(frozen=True)
class Draft:
    """A text that is being written on the page."""

    text: str = ""
    problem: Problem | None = None
    """Why it was not taken; None before it is sent."""
    key: str = field(default_factory=lambda: uuid4().hex)
    """Sent along with it, so that a double click passes it on once."""
    form: str = "messages"
    """Which of the page's forms it was typed into."""


@router.get("")
async def case(service: Live, actor: Person, execution_id: UUID, before: Seq | None = None) -> Response:
    """`before`: show the events before this one instead of the newest."""
    return await case_page(service, actor, execution_id, before=before)


@router.get("/news")
async def news(
    service: Live,
    actor: Person,
    execution_id: UUID,
    after: Annotated[int, Query(ge=0, le=LARGEST_SEQ)],
    asked: Annotated[str, Query(max_length=64)],
) -> Response:
    """What the page asks for when something happened: 204, or the parts that changed since event `after`."""
    events = await service.store.events(actor.tenant, execution_id, after=after, limit=SHOWN_EVENTS)
    view = await _view(service, actor, execution_id)
    if not events and view["asked"] == asked:
        return Response(status_code=204)
    lines = [told(event) for event in events]
    view["last_seq"] = events[-1].seq if events else after
    return render("case_news.html", **view, lines=lines, asked_changed=view["asked"] != asked)


@router.post("/cancel")
async def cancel(service: Live, actor: Starter, execution_id: UUID) -> Response:
    with suppress(ExecutionOver):  # it ended while the page was open; the page says how
        await service.store.cancel(actor, execution_id)
    return RedirectResponse(f"/desk/executions/{execution_id}", 303)


async def case_page(
    service: Service,
    actor: Actor,
    execution_id: UUID,
    refused: Mapping[UUID, Refusal] = NONE_REFUSED,
    status: int = 200,
    draft: Draft | None = None,
    before: int | None = None,
) -> Response:
    """The whole page. `refused`: answers just given that were not taken, by approval. Raises NotFound."""
    view = await _view(service, actor, execution_id, refused, before)
    view |= {"draft": draft or Draft(), "longest_message": MAX_REQUEST_CHARS, "lines": list(map(told, view["events"]))}
    here = "handed" if view["execution"].status is Status.ESCALATED else "cases"
    del view["actor"], view["now"]
    return await page(service, actor, "case.html", here=here, status=status, **view)


async def _view(
    service: Service,
    actor: Actor,
    execution_id: UUID,
    refused: Mapping[UUID, Refusal] = NONE_REFUSED,
    before: int | None = None,
) -> dict[str, Any]:
    execution = await service.store.get(actor.tenant, execution_id)
    end = min(before - 1 if before is not None else execution.event_seq, execution.event_seq)
    start = max(0, end - SHOWN_EVENTS)
    events = await service.store.events(actor.tenant, execution_id, after=start, limit=max(1, end - start))
    approvals = await service.decisions.page(actor.tenant, limit=SHOWN_APPROVALS, execution_id=execution_id)
    approvals.sort(key=lambda a: (a.state is not ApprovalState.PENDING, a.created_at))
    entry = entry_of(service.catalog, execution.workflow)
    passed = visited(events)
    starts = bool(actor.roles & {Role.OPERATOR, Role.ADMIN})
    with_people = execution.status is Status.ESCALATED
    return {
        "actor": actor,
        "now": service.resources.clock(),
        "execution": execution,
        "over": execution.status in OVER,
        "may_cancel": starts and execution.status not in OVER,
        "may_write": starts and _open_to_messages(service, execution),
        "may_take_over": execution.status not in OVER and not execution.cancel_requested,
        "with_people": with_people,
        "may_hand_back": with_people and takes_messages(service, execution),
        "cards": [await card_of(service, actor, a, execution, refused.get(a.approval_id)) for a in approvals],
        "asked": _mark(approvals),
        "events": events,
        "first_seq": start + 1,
        "before": before,
        "last_seq": events[-1].seq if events else 0,
        "picture": picture_of(entry) if entry is not None else None,
        "passed": set(passed),
        "taken": set(pairwise(["__start__", *passed])),
        "present": _present(execution, events, passed),
        "history": await service.inbox.history(execution),
    }


def picture_of(entry: Entry) -> Picture:
    """The workflow's graph, laid out."""
    graph = entry.compiled.get_graph()
    start = graph.first_node()
    nodes = list(graph.nodes)
    return draw(nodes, [(edge.source, edge.target) for edge in graph.edges], start.id if start else nodes[0])


def _open_to_messages(service: Service, execution: Execution) -> bool:
    closed = execution.status in CLOSED_FOR_GOOD or execution.cancel_requested
    return not closed and takes_messages(service, execution)


def _mark(approvals: Sequence[Approval]) -> str:
    """Changes when a question comes, is edited, voted on or decided."""
    seen = [(str(a.approval_id), a.digest, a.state, sorted(a.votes)) for a in approvals]
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]


def _present(execution: Execution, events: Sequence[Event], passed: Sequence[str]) -> str:
    """The node where the case stands now; empty when it is over or nothing is known."""
    if execution.status in OVER or not passed:
        return ""
    return _asking(events) if execution.status is Status.WAITING else passed[-1]


def _asking(events: Sequence[Event]) -> str:
    """The node that asked last."""
    asked = [told(event).words.node for event in events if event.type == "approval.requested"]
    return asked[-1] if asked else "handle_call"

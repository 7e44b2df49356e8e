"""A run's unanswered interrupts as rows of `approvals`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from langgraph.types import Interrupt, StateSnapshot
from pydantic import ValidationError

from casework.actor import Role
from casework.approval import ApprovalRequest, Kind, approval_id_of, digest_of
from casework.plain import plain
from graphs.catalog import Entry

QUESTION_CHARS = 500


def questions(entry: Entry, execution_id: UUID, snapshot: StateSnapshot, deadline: datetime) -> list[dict[str, Any]]:
    """One row per pending interrupt. `deadline` holds for a foreign graph's; ours bring their own."""
    rows = []
    for node, asked in _pending(snapshot):
        row = _ours(asked) if entry.workflow is not None else None
        row = row or _foreign(execution_id, asked, deadline)
        rows.append({"interrupt_id": asked.id, "graph_version": entry.version, "node": node, **row})
    return rows


def _pending(snapshot: StateSnapshot) -> Iterator[tuple[str, Interrupt[Any]]]:
    for task in snapshot.tasks:
        for asked in task.interrupts:
            yield task.name, asked


def _ours(asked: Interrupt[Any]) -> dict[str, Any] | None:
    try:
        request = ApprovalRequest.model_validate(asked.value)
    except ValidationError:
        return None
    return {
        "kind": Kind.OUTCOME if request.doubt else Kind.CALL,
        "doubt": request.doubt.model_dump(mode="json") if request.doubt else None,
        "approval_id": request.approval_id,
        "tool": request.name,
        "tool_call_id": request.tool_call_id,
        "args": request.args,
        "digest": request.digest,
        "description": request.description,
        "reasons": request.reasons,
        "roles": request.roles,
        "votes_needed": request.votes,
        "money": request.money,
        "allowed": request.allowed,
        "response_schema": None,
        "specialist": request.specialist,
        "thought": request.thought,
        "expires_at": request.expires_at,
    }


def _foreign(execution_id: UUID, asked: Interrupt[Any], deadline: datetime) -> dict[str, Any]:
    """Another graph's question is answered by what its own schema says."""
    value = plain(asked.value)
    digest = digest_of("question", {"value": value})
    text = value if isinstance(value, str) else str(value)
    schema = asked.response_schema if isinstance(asked.response_schema, dict) else None
    return {
        "kind": Kind.CALL,
        "doubt": None,
        "approval_id": approval_id_of(execution_id, asked.id, digest),
        "tool": None,
        "tool_call_id": None,
        "args": {"question": value},
        "digest": digest,
        "description": text[:QUESTION_CHARS],
        "reasons": ["the graph asks"],
        "roles": [Role.APPROVER],
        "votes_needed": 1,
        "money": {},
        "allowed": ["respond"],
        "response_schema": schema,
        "specialist": None,
        "thought": "",
        "expires_at": deadline,
    }

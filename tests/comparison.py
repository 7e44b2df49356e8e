"""A plain model and the database, brought into the same form to be held against each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from casework.execution import Status
from tests.plain_model import Case, Model

Picture = dict[str, Any]

EXECUTIONS = """SELECT execution_id, requester, status, fence, lease_owner AS owner, cancel_requested,
    lease_until IS NOT NULL AS leased, coalesce(lease_until < now(), false) AS lapsed,
    status = 'queued' AND wake_at > now() AS delayed, status = 'waiting' AND error IS NOT NULL AS refused,
    finished_at IS NOT NULL AS finished FROM casework.executions"""
LEGS = "SELECT execution_id, kind, attempt, status FROM casework.runs ORDER BY started_at, run_id"
QUESTIONS = """SELECT execution_id, approval_id, digest, state, votes_needed, edited_by, decided_by,
    decision IS NOT NULL AS answered, applied_at IS NOT NULL AS applied, ARRAY(
        SELECT actor_id FROM casework.votes v WHERE v.approval_id = a.approval_id AND v.digest = a.digest
        ORDER BY actor_id) AS voters FROM casework.approvals a"""
EFFECTS = "SELECT execution_id, split_part(key, ':', 2) AS call_id, state, attempt FROM casework.effects"
STORY = "SELECT execution_id, array_agg(type ORDER BY seq) AS types FROM casework.events GROUP BY 1"
AUDIT = "SELECT body::jsonb ->> 'act' FROM casework.audit ORDER BY seq"


async def as_it_is(engine: AsyncEngine, wakes: Mapping[UUID, int]) -> Picture:
    """What stands in the database; `wakes`: how often the queue was asked to wake each."""
    async with engine.connect() as db:
        cases: dict[UUID, Picture] = {
            row.execution_id: {**row._mapping, "legs": [], "questions": {}, "effects": {}, "story": []}
            for row in await db.execute(text(EXECUTIONS))
        }
        for row in await db.execute(text(LEGS)):
            cases[row.execution_id]["legs"].append((row.kind, row.attempt, row.status))
        for row in await db.execute(text(QUESTIONS)):
            asked = {name: value for name, value in row._mapping.items() if name not in ("execution_id", "approval_id")}
            cases[row.execution_id]["questions"][row.approval_id] = asked
        for row in await db.execute(text(EFFECTS)):
            cases[row.execution_id]["effects"][row.call_id] = (row.state, row.attempt)
        for row in await db.execute(text(STORY)):
            cases[row.execution_id]["story"] = row.types
        acts = list(await db.scalars(text(AUDIT)))
    for execution_id, case in cases.items():
        case["wakes"] = wakes.get(execution_id, 0)
    return {"cases": cases, "audit": acts}


def as_modelled(model: Model) -> Picture:
    """The same of the model."""
    return {"cases": {case.execution_id: _modelled(case) for case in model.cases}, "audit": model.audit}


def _modelled(case: Case) -> Picture:
    return {
        "execution_id": case.execution_id,
        "requester": case.requester,
        "status": case.status,
        "fence": case.fence,
        "owner": case.owner,
        "cancel_requested": case.cancel_requested,
        "leased": case.status is Status.RUNNING,
        "lapsed": case.lapsed,
        "delayed": case.delayed,
        "refused": case.status is Status.WAITING and case.refused,
        "finished": case.over,
        "legs": case.legs,
        "questions": {
            question.approval_id: {
                "digest": question.digest,
                "state": question.state,
                "votes_needed": question.votes_needed,
                "edited_by": question.edited_by,
                "decided_by": question.decided_by,
                "answered": question.answer is not None,
                "applied": question.applied,
                "voters": question.voters,
            }
            for question in case.questions
        },
        "effects": {call_id: (effect.state, effect.attempt) for call_id, effect in case.effects.items()},
        "story": case.story,
        "wakes": case.wakes,
    }


def differences(expected: Any, found: Any, where: str = "") -> Iterator[str]:
    """Each leaf that differs, in words."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        named = defaultdict(lambda: "nothing", expected), defaultdict(lambda: "nothing", found)
        for name in [*expected, *(set(found) - set(expected))]:
            yield from differences(named[0][name], named[1][name], f"{where}.{name}".lstrip("."))
    elif expected != found:
        yield f"{where}: the model says {expected}, the database {found}"

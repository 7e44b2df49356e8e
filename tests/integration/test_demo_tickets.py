"""All forty demo tickets, worked by the offline model alone, with approvers who agree: every outcome is right."""

from __future__ import annotations

from casework.execution import Status
from casework.settings import Settings
from evals.shop.checks import Worked, problems
from evals.shop.outcomes import load_outcomes
from tests.rig import ADA, BEN, Rig, rig

ROUNDS = 6
"""More waits than any ticket needs."""


async def work(case: Rig, ticket: str) -> Worked:
    execution_id = await case.start(ticket)
    status = await case.advance(execution_id)
    asked = []
    for _ in range(ROUNDS):
        if status is not Status.WAITING:
            break
        for approval in await case.pending(execution_id):
            asked.append((str(approval.tool), approval.votes_needed))
            for person in (ADA, BEN)[: approval.votes_needed]:
                await case.decide(person, approval)
        status = await case.advance(execution_id)
    routed = await case.events(execution_id, "case.routed")
    done = await case.events(execution_id, "effect.done")
    effects = [(e.data["tool"], e.data["args"]) for e in done]
    return Worked(str(status), routed[0].data["specialist"] if routed else None, effects, asked)


async def test_every_demo_ticket_comes_to_its_right_end(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, None) as case:
        wrong = {
            ticket: found
            for ticket, outcome in load_outcomes().items()
            if (found := problems(outcome, await work(case, ticket)))
        }
        assert wrong == {}
        over = """SELECT order_id FROM shop.charges LEFT JOIN
                  (SELECT order_id, sum(amount_minor) AS back FROM shop.refunds WHERE state <> 'failed' GROUP BY 1) r
                  USING (order_id) GROUP BY order_id, back HAVING back > sum(amount_minor)"""
        assert await case.scalar(over) is None

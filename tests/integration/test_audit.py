"""The audit chain: one line per act, and any change to it is found and named."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import DBAPIError

from casework import audit
from casework.execution import Mode
from casework.settings import Settings
from tests.rig import ADA, Rig, call, rig, scripted

TURNS = (
    [call("issue_refund", order_id="O-5042", amount_minor=1500, reason="damaged")],
    [call("reply_to_customer", body="We have paid it back. Sorry.")],
    "Done.",
)
OPEN = "ALTER TABLE casework.audit DISABLE TRIGGER audit_insert_only"


async def worked(case: Rig) -> None:
    """Two decisions and two effects."""
    execution_id = await case.start("T-1042", Mode.COPILOT)
    for _ in range(2):
        await case.advance(execution_id)
        for asked in await case.pending(execution_id):
            await case.decide(ADA, asked)
    await case.advance(execution_id)


async def bad_line(case: Rig) -> str | None:
    async with case.resources.engine.connect() as db:
        return (await audit.verify(db)).bad_line


async def test_every_decision_and_effect_has_exactly_one_line(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted(*TURNS)) as case:
        await worked(case)
        async with case.resources.engine.connect() as db:
            rows = await db.exec_driver_sql(
                "SELECT body::jsonb->>'act', body::jsonb->>'tool' FROM casework.audit ORDER BY seq"
            )
            assert [tuple(row) for row in rows] == [
                ("approval.approved", "issue_refund"),
                ("effect.done", "issue_refund"),
                ("approval.approved", "reply_to_customer"),
                ("effect.done", "reply_to_customer"),
            ]
        assert await bad_line(case) is None


@pytest.mark.parametrize(
    ("tampering", "named"),
    [
        ("UPDATE casework.audit SET body = replace(body, 'ada', 'eve') WHERE seq = 3", "default:3"),
        ("DELETE FROM casework.audit WHERE seq = 2", "default:3"),
        ("DELETE FROM casework.audit WHERE seq = 4", "default:head"),
        (
            "UPDATE casework.audit a SET body = b.body FROM casework.audit b WHERE (a.seq, b.seq) IN ((2, 3), (3, 2))",
            "default:2",
        ),
        (
            "INSERT INTO casework.audit SELECT tenant, 5, at, hash, hash, body FROM casework.audit WHERE seq = 4",
            "default:5",
        ),
    ],
)
async def test_a_change_by_the_databases_owner_is_named(
    tampering: str, named: str, settings: Settings, database_url: str
) -> None:
    async with rig(settings, database_url, scripted(*TURNS)) as case:
        await worked(case)
        await case.execute(OPEN)
        await case.execute(tampering)
        assert await bad_line(case) == named


@pytest.mark.parametrize("table", ["audit", "events"])
@pytest.mark.parametrize("statement", ["UPDATE casework.{} SET at = now()", "DELETE FROM casework.{}"])
async def test_lines_and_events_cannot_be_changed(
    table: str, statement: str, settings: Settings, database_url: str
) -> None:
    async with rig(settings, database_url, scripted(*TURNS)) as case:
        await worked(case)
        with pytest.raises(DBAPIError, match="insert-only"):
            await case.execute(statement.format(table))

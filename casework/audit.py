"""The audit log: insert-only, one hash chain per tenant, written in the transaction of the act it records."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from casework.approval import canonical
from casework.resources import driver_of
from casework.tables import audit, audit_head

HEAD = "SELECT seq, hash FROM casework.audit_head WHERE tenant = %s FOR UPDATE"
BEGIN = "INSERT INTO casework.audit_head (tenant, seq, hash) VALUES (%s, 0, '') ON CONFLICT DO NOTHING"
APPEND = """WITH head AS (
    UPDATE casework.audit_head SET seq = %(seq)s, hash = %(hash)s WHERE tenant = %(tenant)s)
INSERT INTO casework.audit (tenant, seq, prev, hash, body)
VALUES (%(tenant)s, %(seq)s, %(prev)s, %(hash)s, %(body)s)"""


def _chain(prev: str, body: str) -> str:
    return hashlib.sha256((prev + body).encode()).hexdigest()


async def append(db: AsyncConnection, tenant: str, **body: Any) -> None:
    """Add one line. Call it last: the tenant's head row is locked until the transaction ends."""
    driver = await driver_of(db)
    head = await (await driver.execute(HEAD, (tenant,))).fetchone()
    if head is None:  # the tenant's first line
        await driver.execute(BEGIN, (tenant,))
        head = await (await driver.execute(HEAD, (tenant,))).fetchone() or (0, "")
    seq, prev = head
    line = canonical(body)
    written = {"tenant": tenant, "seq": seq + 1, "prev": prev, "hash": _chain(prev, line), "body": line}
    await driver.execute(APPEND, written)


@dataclass(frozen=True)
class Verification:
    """What `verify` found."""

    lines: int
    """Lines read."""
    bad_line: str | None
    """`tenant:seq` of the first line that does not fit, or of the head when lines are missing; None: all good."""


async def verify(db: AsyncConnection) -> Verification:
    """Recompute every tenant's chain and hold it against the head."""
    heads = {row.tenant: row for row in await db.execute(select(audit_head))}
    expected: dict[str, tuple[int, str]] = {}
    lines = 0
    async with db.stream(select(audit).order_by(audit.c.tenant, audit.c.seq)) as rows:
        async for row in rows:
            lines += 1
            seq, prev = expected.get(row.tenant, (0, ""))
            if row.seq != seq + 1 or row.prev != prev or row.hash != _chain(prev, row.body):
                return Verification(lines, f"{row.tenant}:{row.seq}")
            expected[row.tenant] = (row.seq, row.hash)
    for tenant in heads.keys() | expected.keys():
        head = heads.get(tenant)
        if head is None or (head.seq, head.hash) != expected.get(tenant, (0, "")):
            return Verification(lines, f"{tenant}:head")
    return Verification(lines, None)

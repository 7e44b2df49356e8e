"""Keys: shown once, useless from a copy of the database, gone when revoked or expired."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from casework.actor import SYSTEM, Actor, Role
from casework.errors import NotFound, NotSignedIn
from casework.identity import Identity
from casework.resources import Pool
from tests.conftest import PLENTY


@pytest.fixture
def identity(engine: AsyncEngine, pool: Pool) -> Identity:
    return Identity(engine, pool, "pepper")


async def test_a_key_authenticates_its_actor_with_its_roles(identity: Identity) -> None:
    key = await identity.add_key("default", "ada", [Role.APPROVER], by=SYSTEM)
    actor, key_id = await identity.authenticate(key)
    assert actor == Actor(actor_id="ada", tenant="default", roles=frozenset({Role.APPROVER}), limits=PLENTY)
    assert key.startswith(f"cw_{key_id}_")


async def test_a_second_key_keeps_the_roles_and_new_roles_hold_for_every_key(identity: Identity) -> None:
    first = await identity.add_key("default", "ada", [Role.APPROVER], by=SYSTEM)
    second = await identity.add_key("default", "ada", by=SYSTEM)
    await identity.add_key("default", "ada", [Role.OPERATOR], by=SYSTEM)
    assert {(await identity.authenticate(k))[0].roles for k in (first, second)} == {frozenset({Role.OPERATOR})}
    with pytest.raises(NotFound):
        await identity.add_key("default", "nobody", by=SYSTEM)


@pytest.mark.parametrize("wrong", ["", "cw_", "cw_x_y", "Bearer x", "cw_{id}_wrong", "cx_{rest}", "{key}x"])
async def test_any_other_key_is_refused_alike(identity: Identity, wrong: str) -> None:
    key = await identity.add_key("default", "ada", [Role.APPROVER], by=SYSTEM)
    tried = wrong.format(id=key.split("_")[1], rest=key.removeprefix("cw_"), key=key)
    with pytest.raises(NotSignedIn):
        await identity.authenticate(tried)


async def test_a_revoked_or_expired_key_is_useless_at_once(identity: Identity) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    expired = await identity.add_key("default", "ada", [Role.APPROVER], by=SYSTEM, expires_at=yesterday)
    with pytest.raises(NotSignedIn):
        await identity.authenticate(expired)
    key = await identity.add_key("default", "ada", by=SYSTEM)
    _, key_id = await identity.authenticate(key)
    await identity.revoke_key("default", key_id, by=SYSTEM)
    with pytest.raises(NotSignedIn):
        await identity.authenticate(key)
    with pytest.raises(NotFound):
        await identity.revoke_key("default", key_id, by=SYSTEM)


async def test_the_database_holds_nothing_that_authenticates(
    identity: Identity, engine: AsyncEngine, pool: Pool
) -> None:
    key = await identity.add_key("default", "ada", [Role.APPROVER], by=SYSTEM)
    async with engine.connect() as db:
        rows = (await db.execute(text("SELECT api_keys::text FROM casework.api_keys"))).scalars().all()
    assert key.split("_", 2)[2] not in "".join(rows)
    with pytest.raises(NotSignedIn):
        await Identity(engine, pool, "another pepper").authenticate(key)

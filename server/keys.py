"""API keys over HTTP. Admins make the keys of services; people make their own at the desk (server/ui/account.py)."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from casework.actor import Actor, KeyScope, Role
from casework.errors import NotAllowed
from casework.identity import LONGEST_OVERLAP, OVERLAP, Key
from server.auth import Admin, Inspector, Live
from server.paging import Named
from server.problems import documented
from server.service import Service

router = APIRouter(prefix="/keys", tags=["keys"])

LONGEST_DAYS = 3650
HOUR = timedelta(hours=1)

KeyId = Annotated[str, Path(pattern="^[0-9a-f]{1,32}$", description="The part between the underscores of a key.")]
Scopes = Annotated[
    list[KeyScope] | None,
    Field(min_length=1, max_length=len(KeyScope), description="What it is for; null: all that the roles allow."),
]
Days = Annotated[int | None, Field(ge=1, le=LONGEST_DAYS, description="null: it does not expire.")]


class Keys(BaseModel):
    keys: list[Key]
    """Newest first, the revoked ones too."""


class NewKey(BaseModel):
    model_config = ConfigDict(extra="forbid")

    actor_id: Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f]+$", examples=["crm-sync"])]
    scopes: Scopes = None
    expires_in_days: Days = None


class Rotation(BaseModel):
    model_config = ConfigDict(extra="forbid")

    overlap_hours: Annotated[
        int, Field(ge=0, le=LONGEST_OVERLAP // HOUR, description="How long the old key lives on.")
    ] = OVERLAP // HOUR


class MadeKey(Key):
    """A key with its secret, which is shown here and never again."""

    key: Annotated[str, Field(examples=["cw_3f0a5c8e9d21_…"])]


@router.get("", summary="List keys", responses=documented())
async def list_keys(
    service: Live,
    actor: Inspector,
    actor_id: Annotated[Named, Query(description="Only those of this person or service.")] = None,
) -> Keys:
    """What there is, what it is for, and when it was last used; never a secret."""
    return Keys(keys=await service.identity.keys(actor.tenant, actor_id))


@router.post("", status_code=201, summary="Make a key for a service", responses=documented(404, 413))
async def add_key(service: Live, actor: Admin, new: NewKey) -> MadeKey:
    """The answer shows it, once."""
    return await make(service, actor, new.actor_id, new.scopes, new.expires_in_days)


@router.post("/{key_id}/rotate", status_code=201, summary="Rotate a key", responses=documented(404, 413))
async def rotate_key(service: Live, actor: Admin, key_id: KeyId, rotation: Rotation | None = None) -> MadeKey:
    """A new key of the same actor and scopes; the old one lives on for the overlap, so that nothing stands still."""
    hours = (rotation or Rotation()).overlap_hours
    return await rotate(service, actor, key_id, timedelta(hours=hours))


@router.delete("/{key_id}", status_code=204, summary="Revoke a key", responses=documented(404))
async def revoke_key(service: Live, actor: Admin, key_id: KeyId) -> None:
    """It is useless from now on."""
    await service.identity.revoke_key(actor.tenant, key_id, by=actor)


async def make(
    service: Service, by: Actor, actor_id: str, scopes: Collection[KeyScope] | None, expires_in_days: int | None
) -> MadeKey:
    """Make a key for a service, or one's own. Raises NotFound, NotAllowed, InputInvalid."""
    await _refuse_others(service, by, actor_id)
    lifetime = timedelta(days=expires_in_days) if expires_in_days is not None else None
    expires_at = service.resources.clock() + lifetime if lifetime is not None else None
    key = await service.identity.add_key(by.tenant, actor_id, by=by, scopes=scopes, expires_at=expires_at)
    return await _shown(service, by, key)


async def rotate(service: Service, by: Actor, key_id: str, overlap: timedelta) -> MadeKey:
    """Rotate a key of a service, or one's own. Raises NotFound, NotAllowed, InputInvalid."""
    old = await service.identity.key(by.tenant, key_id)
    await _refuse_others(service, by, old.actor_id)
    return await _shown(service, by, await service.identity.rotate_key(by.tenant, key_id, by=by, overlap=overlap))


async def _refuse_others(service: Service, by: Actor, actor_id: str) -> None:
    """Whoever held a key of somebody else could decide in their name."""
    owner = await service.people.get(by.tenant, actor_id)
    if by.actor_id != actor_id and Role.SERVICE not in owner.roles:
        raise NotAllowed("admins make the keys of services; people make their own at the desk")


async def _shown(service: Service, by: Actor, key: str) -> MadeKey:
    made = await service.identity.key(by.tenant, key.split("_")[1])
    return MadeKey(**made.model_dump(), key=key)

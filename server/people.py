"""People over HTTP: who works here, what they may, and the link with which they choose a password."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from casework.actor import Money, Role
from casework.people import Invitation, Person
from server.auth import Admin, Inspector, Live
from server.problems import documented

router = APIRouter(prefix="/people", tags=["people"])

Name = Annotated[str, Path(max_length=200, pattern=r"^[^\x00-\x1f]+$", description="The person's or service's name.")]
Limits = Annotated[
    Money,
    Field(
        max_length=50,
        description="How much they may approve: minor units by currency. A currency not named: nothing in it.",
        examples=[{"EUR": 50_000}],
    ),
]


class Everybody(BaseModel):
    people: list[Person]
    """By name, the disabled ones last."""


class NewPerson(BaseModel):
    model_config = ConfigDict(extra="forbid")

    actor_id: Annotated[str, Field(description="What they sign in with.", examples=["ana"])]
    roles: Annotated[list[Role], Field(min_length=1, max_length=len(Role))]
    limits: Limits = {}


class PersonChange(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    roles: Annotated[list[Role] | None, Field(min_length=1, max_length=len(Role))] = None
    limits: Limits | None = None
    disabled: Annotated[
        bool | None, Field(description="true: ends their sessions, revokes their keys, lets nothing of theirs in.")
    ] = None


@router.get("", summary="List people and services", responses=documented())
async def list_people(service: Live, actor: Inspector) -> Everybody:
    """Everybody of the tenant, with their roles and limits."""
    return Everybody(people=await service.people.all(actor.tenant))


@router.post("", status_code=201, summary="Add a person or a service", responses=documented(409, 413))
async def add_person(service: Live, actor: Admin, new: NewPerson) -> Person:
    """A person then needs an invitation, a service a key."""
    return await service.people.add(actor, new.actor_id, set(new.roles), new.limits)


@router.get("/{actor_id}", summary="Read one of them", responses=documented(404))
async def get_person(service: Live, actor: Inspector, actor_id: Name) -> Person:
    """Their roles, limits, and whether they can sign in."""
    return await service.people.get(actor.tenant, actor_id)


@router.patch("/{actor_id}", summary="Change roles or limits; disable, enable", responses=documented(404, 413))
async def change_person(service: Live, actor: Admin, actor_id: Name, change: PersonChange) -> Person:
    """Holds from now on, also for decisions under way. Nobody changes their own rights."""
    roles = set(change.roles) if change.roles is not None else None
    return await service.people.change(actor, actor_id, roles=roles, limits=change.limits, disabled=change.disabled)


@router.post("/{actor_id}/invitation", status_code=201, summary="Make a one-time link", responses=documented(404))
async def invite(service: Live, actor: Admin, actor_id: Name) -> Invitation:
    """With it they choose their password, also when they forgot the old one. It voids an earlier link."""
    return await service.people.invite(actor, actor_id)

"""Who acts: a person or a service, with roles. Identity comes from authentication only."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Role(StrEnum):
    OPERATOR = "operator"
    """Starts, watches and cancels executions."""
    APPROVER = "approver"
    """Decides approvals."""
    ADMIN = "admin"
    """Manages keys, people and webhooks; may not approve unless also an approver."""
    SERVICE = "service"
    """A machine that starts executions; never decides anything."""


class Actor(BaseModel):
    """An authenticated person or service."""

    model_config = ConfigDict(frozen=True)

    actor_id: Annotated[str, Field(examples=["ada", "crm-sync"])]
    """Stable name, unique within the tenant; what approvals, votes and audit lines record."""
    tenant: str = "default"
    """Whose data this actor sees; every query filters by it."""
    roles: frozenset[Role] = frozenset()

    def has(self, role: Role) -> bool:
        return role in self.roles


SYSTEM = Actor(actor_id="system")
"""Casework itself, when no person asked: expiry, reconciling."""

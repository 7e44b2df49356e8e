"""Who acts: a person or a service, with roles, and how much money they may let go. Identity comes from
authentication only."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

LARGEST_MINOR = 10**15
"""Above any sum of money, and exact in every JSON reader."""

Currency = Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")]
"""ISO 4217, e.g. `EUR`."""
Money = dict[Currency, Annotated[int, Field(ge=0, le=LARGEST_MINOR, strict=True)]]
"""Minor units (cents) by currency: `{"EUR": 64900}` is 649.00 EUR."""


class Role(StrEnum):
    OPERATOR = "operator"
    """Starts, watches and cancels executions."""
    APPROVER = "approver"
    """Decides approvals."""
    ADMIN = "admin"
    """Manages keys, people and webhooks; may not approve unless also an approver."""
    AUDITOR = "auditor"
    """Reads everything, the audit log too; changes nothing."""
    SERVICE = "service"
    """A machine that starts executions; never decides anything. Goes with no other role."""


class KeyScope(StrEnum):
    """What an API key may be used for. A key never allows more than its actor's roles do."""

    EXECUTIONS_READ = "executions:read"
    """Executions with their events, messages and approvals, and which workflows there are."""
    EXECUTIONS_WRITE = "executions:write"
    """Start and cancel executions, and write messages about them."""
    APPROVALS_DECIDE = "approvals:decide"
    AUDIT_READ = "audit:read"
    """The audit log, people, and keys without their secrets."""
    ADMIN = "admin"
    """Manage people and keys."""


_READS = frozenset({KeyScope.EXECUTIONS_READ})
SCOPES: dict[Role, frozenset[KeyScope]] = {
    Role.OPERATOR: _READS | {KeyScope.EXECUTIONS_WRITE, KeyScope.APPROVALS_DECIDE},
    Role.APPROVER: _READS | {KeyScope.APPROVALS_DECIDE},
    Role.ADMIN: _READS | {KeyScope.EXECUTIONS_WRITE, KeyScope.APPROVALS_DECIDE, KeyScope.AUDIT_READ, KeyScope.ADMIN},
    Role.AUDITOR: _READS | {KeyScope.AUDIT_READ},
    Role.SERVICE: _READS | {KeyScope.EXECUTIONS_WRITE},
}
"""What each role allows. Which approvals somebody may decide, each approval says: policies name the roles."""


class Actor(BaseModel):
    """An authenticated person or service."""

    model_config = ConfigDict(frozen=True)

    actor_id: Annotated[str, Field(examples=["ada", "crm-sync"])]
    """Stable name, unique within the tenant; what approvals, votes and audit lines record."""
    tenant: str = "default"
    """Whose data this actor sees; every query filters by it."""
    roles: frozenset[Role] = frozenset()
    limits: Money = {}
    """How much money this person may approve, per currency. One that is not named: none at all."""
    scopes: frozenset[KeyScope] | None = None
    """What the API key that was used is for. None: everything the roles allow."""

    def may(self, scope: KeyScope) -> bool:
        """Whether the roles allow it, and the key that was used too."""
        granted = any(scope in SCOPES[role] for role in self.roles)
        return granted and (self.scopes is None or scope in self.scopes)

    def has(self, role: Role) -> bool:
        return role in self.roles


SYSTEM = Actor(actor_id="system")
"""Casework itself, when no person asked: expiry, reconciling."""

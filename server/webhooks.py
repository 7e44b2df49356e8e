"""Webhooks over HTTP: who is told what happens, with which secret, and what became of each message."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from casework.deliveries import Delivery, DeliveryState
from casework.egress import URL_CHARS
from casework.outbox import FactType
from casework.webhooks import Webhook
from server.auth import Admin, Live
from server.paging import Cursor, Limit, cursor_of, position_of
from server.problems import documented

router = APIRouter(prefix="/webhooks", tags=["webhooks"])

Url = Annotated[
    str,
    Field(min_length=1, max_length=URL_CHARS, examples=["https://crm.example.com/hooks/casework"]),
]
Types = Annotated[list[FactType], Field(min_length=1, max_length=len(FactType))]


class NewWebhook(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: Url
    """Where to post: https, and a public address."""
    types: Types
    """What to tell it."""


class WebhookChange(BaseModel):
    """What is left out, or null, stays as it is."""

    model_config = ConfigDict(extra="forbid")

    url: Url | None = None
    types: Types | None = None
    enabled: bool | None = None
    """False: nothing more is sent, and what waits has failed. True: also after Casework switched it off."""


class WebhookWithSecret(BaseModel):
    webhook: Webhook
    secret: Annotated[str, Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="])]
    """Shown this once. It verifies the signatures of the messages."""


class WebhookList(BaseModel):
    webhooks: list[Webhook]
    """All of them, oldest first."""


class DeliveryPage(BaseModel):
    deliveries: list[Delivery]
    """Newest first."""
    next_cursor: str | None
    """Pass it as `cursor` for the next page; null: this was the last."""


_QUEUED: dict[int | str, dict[str, Any]] = {202: {"description": "Queued; it is sent at once."}}


@router.post("", status_code=201, summary="Add a webhook", responses=documented(409, 413))
async def add_webhook(service: Live, actor: Admin, body: NewWebhook) -> WebhookWithSecret:
    """Have an address told what happens. Its secret is in the answer, and never shown again."""
    webhook, secret = await service.webhooks.add(actor, body.url, body.types)
    return WebhookWithSecret(webhook=webhook, secret=secret)


@router.get("", summary="List webhooks", responses=documented())
async def list_webhooks(service: Live, actor: Admin) -> WebhookList:
    """All of them, without their secrets."""
    return WebhookList(webhooks=await service.webhooks.all_of(actor.tenant))


@router.get("/{webhook_id}", summary="Read one webhook", responses=documented(404))
async def get_webhook(service: Live, actor: Admin, webhook_id: UUID) -> Webhook:
    """Where it posts, what it is told, and whether it is on."""
    return await service.webhooks.get(actor.tenant, webhook_id)


@router.patch("/{webhook_id}", summary="Change a webhook", responses=documented(404, 413))
async def change_webhook(service: Live, actor: Admin, webhook_id: UUID, body: WebhookChange) -> Webhook:
    """Another address, other messages, on or off. The secret stays."""
    return await service.webhooks.change(actor, webhook_id, url=body.url, types=body.types, enabled=body.enabled)


@router.delete("/{webhook_id}", status_code=204, summary="Delete a webhook", responses=documented(404))
async def delete_webhook(service: Live, actor: Admin, webhook_id: UUID) -> None:
    """Its messages go with it."""
    await service.webhooks.delete(actor, webhook_id)


@router.post("/{webhook_id}/rotate", summary="Give a webhook a new secret", responses=documented(404))
async def rotate_secret(service: Live, actor: Admin, webhook_id: UUID) -> WebhookWithSecret:
    """For a day messages carry two signatures, of the new secret and of the one before; after that the new one's only.

    Rotate twice to be rid of a secret at once.
    """
    webhook, secret = await service.webhooks.rotate(actor, webhook_id)
    return WebhookWithSecret(webhook=webhook, secret=secret)


@router.post(
    "/{webhook_id}/test",
    status_code=202,
    summary="Send a test message",
    responses={**_QUEUED, **documented(404, 409)},
)
async def send_test(service: Live, actor: Admin, webhook_id: UUID) -> Delivery:
    """A message of type `webhook.test`. What came of it stands among the webhook's deliveries."""
    return await service.deliveries.test(actor.tenant, webhook_id)


@router.get("/{webhook_id}/deliveries", summary="List a webhook's messages", responses=documented(404))
async def list_deliveries(
    service: Live,
    actor: Admin,
    webhook_id: UUID,
    state: Annotated[DeliveryState | None, Query(description="Only those that stand so.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> DeliveryPage:
    """What it was told, what the receiver answered, and when it is tried again. Newest first, in pages."""
    found = await service.deliveries.page(
        actor.tenant, webhook_id, limit=limit + 1, before=position_of(cursor), state=state
    )
    page = found[:limit]
    last = page[-1] if len(found) > limit else None
    return DeliveryPage(
        deliveries=page, next_cursor=cursor_of(last.created_at, last.delivery_id) if last is not None else None
    )


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/retry",
    status_code=202,
    summary="Send a message once more",
    responses={**_QUEUED, **documented(404, 409)},
)
async def retry_delivery(service: Live, actor: Admin, webhook_id: UUID, delivery_id: UUID) -> Delivery:
    """Now, under the same id, whatever became of it before."""
    return await service.deliveries.retry(actor.tenant, webhook_id, delivery_id)

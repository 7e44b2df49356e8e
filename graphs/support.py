"""Customer support of the demo shop: one ticket, resolved end to end."""

from __future__ import annotations

from graphs.assembly import assemble
from nodes.shop.billing import billing
from nodes.shop.general import general
from nodes.shop.offline_rules import support_rules
from nodes.shop.shipping import shipping
from nodes.workflow import Workflow
from tools.shop.intake import SupportIntake, open_ticket
from tools.shop.opening import open_shop, prepare_shop
from tools.shop.tickets import escalate_to_human

support = Workflow(
    name="support",
    description=(
        "Resolves a customer's support ticket of Larkspur Home: answers questions, tracks and redirects parcels, "
        "cancels orders, refunds what is owed, and hands over to a person what a person must decide."
    ),
    owner="customer-care",
    specialists=(billing, shipping, general),
    intake=SupportIntake,
    open_case=open_ticket,
    escalation=escalate_to_human,
    services=open_shop,
    prepare=prepare_shop,
    offline=support_rules,
)

builder = assemble(support)

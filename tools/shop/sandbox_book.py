"""What the sandbox payment provider remembers, in one append-only file.

A line is one request that was carried out: its key, what it asked, and what it was answered. The answer holds the
charge or refund it made, so a line is either wholly there or not, and reading the file again gives the same provider.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

SMALLEST_CHARGE_MINOR = 50
LARGEST_AMOUNT_MINOR = 99_999_999
DECLINED_SOURCE = "tok_chargeDeclined"
"""Stripe's test card that is always declined."""


class Reply(BaseModel):
    """One HTTP answer."""

    model_config = ConfigDict(frozen=True)

    status: int
    body: dict[str, Any]
    """Stripe's JSON."""


class Entry(BaseModel):
    """One line of the book."""

    model_config = ConfigDict(frozen=True)

    key: str | None
    """The request's Idempotency-Key; None when it had none."""
    path: str
    form: dict[str, str]
    reply: Reply


class Refusal(Exception):
    """A request that is answered with Stripe's error body."""

    def __init__(
        self, status: int, message: str, *, kind: str = "invalid_request_error", code: str | None = None, **more: str
    ) -> None:
        super().__init__(message)
        error = {"type": kind, "code": code, "message": message, **more}
        self.reply = Reply(status=status, body={"error": {name: value for name, value in error.items() if value}})


class Book:
    """The provider's charges and refunds. Not to be opened by two providers at once."""

    def __init__(self, path: Path) -> None:
        self._charges: dict[str, dict[str, Any]] = {}
        self._refunds: list[dict[str, Any]] = []
        self._by_key: dict[str, Entry] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        intact = self._read(path) if path.exists() else 0
        self._file = path.open("ab")
        # A line cut off by a kill was never answered: drop it, or the next line would be glued to it.
        self._file.truncate(intact)

    def close(self) -> None:
        self._file.close()

    def write(self, path: str, form: dict[str, str], key: str | None) -> tuple[Reply, bool]:
        """Carry out a POST, or replay its first answer; and whether it was a replay."""
        known = self._by_key.get(key) if key else None
        if known is not None:
            if (known.path, known.form) != (path, form):
                raise Refusal(
                    400,
                    "Keys for idempotent requests can only be used with the same parameters they were first used "
                    f"with. Try using a key other than '{key}' if you meant to execute a different request.",
                    kind="idempotency_error",
                )
            return known.reply, True
        try:
            reply = Reply(status=200, body=self._charge(form) if path == "/v1/charges" else self._refund(form))
        except Refusal as refusal:
            reply = refusal.reply
        entry = Entry(key=key, path=path, form=form, reply=reply)
        self._file.write(entry.model_dump_json().encode() + b"\n")
        self._file.flush()
        self._remember(entry)
        return reply, False

    def charge(self, charge_id: str) -> dict[str, Any]:
        """A charge as it stands now. Raises Refusal when there is none."""
        if charge_id not in self._charges:
            raise Refusal(404, f"No such charge: '{charge_id}'", code="resource_missing", param="id")
        charge = self._charges[charge_id]
        refunded = sum(refund["amount"] for refund in self._refunds if refund["charge"] == charge_id)
        return {**charge, "amount_refunded": refunded, "refunded": refunded == charge["amount"]}

    def refunds(self, charge_id: str | None) -> list[dict[str, Any]]:
        """Refunds, newest first; of one charge, or all."""
        return [refund for refund in reversed(self._refunds) if charge_id in (None, refund["charge"])]

    def _read(self, path: Path) -> int:
        """Load every whole line; returns where the last one ends, in bytes."""
        end = 0
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self._remember(Entry.model_validate_json(line))
                end += len(line)
        return end

    def _remember(self, entry: Entry) -> None:
        made = entry.reply.body
        if made.get("object") == "charge":
            self._charges[made["id"]] = made
        elif made.get("object") == "refund":
            self._refunds.append(made)
        if entry.key:
            self._by_key[entry.key] = entry

    def _charge(self, form: Mapping[str, str]) -> dict[str, Any]:
        amount = _amount(form)
        if amount < SMALLEST_CHARGE_MINOR:
            raise Refusal(400, "Amount must be at least 50 cents", code="amount_too_small", param="amount")
        if not form.get("currency"):
            raise Refusal(400, "Missing required param: currency.", code="parameter_missing", param="currency")
        if not form.get("source"):
            raise Refusal(400, "Must provide source or customer.", code="parameter_missing")
        if form["source"] == DECLINED_SOURCE:
            raise Refusal(402, "Your card was declined.", kind="card_error", code="card_declined")
        return {
            "id": f"ch_{secrets.token_hex(12)}",
            "object": "charge",
            "amount": amount,
            "amount_refunded": 0,
            "captured": True,
            "created": int(time.time()),
            "currency": form["currency"].lower(),
            "description": form.get("description"),
            "livemode": False,
            "metadata": _metadata(form),
            "paid": True,
            "refunded": False,
            "status": "succeeded",
        }

    def _refund(self, form: Mapping[str, str]) -> dict[str, Any]:
        charge = self.charge(form.get("charge", ""))
        left = charge["amount"] - charge["amount_refunded"]
        if left == 0:
            raise Refusal(400, f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
        amount = _amount(form) if "amount" in form else left
        if amount > left:
            raise Refusal(
                400,
                f"Refund amount (€{amount / 100:.2f}) is greater than unrefunded amount on charge (€{left / 100:.2f})",
                param="amount",
            )
        return {
            "id": f"re_{secrets.token_hex(12)}",
            "object": "refund",
            "amount": amount,
            "charge": charge["id"],
            "created": int(time.time()),
            "currency": charge["currency"],
            "metadata": _metadata(form),
            "reason": form.get("reason"),
            "status": "succeeded",
        }


def _amount(form: Mapping[str, str]) -> int:
    written = form.get("amount", "")
    if not written.isdecimal() or int(written) < 1:
        raise Refusal(400, f"Invalid positive integer: {written}", code="parameter_invalid_integer", param="amount")
    if int(written) > LARGEST_AMOUNT_MINOR:
        raise Refusal(400, "Amount must be no more than €999,999.99", code="amount_too_large", param="amount")
    return int(written)


def _metadata(form: Mapping[str, str]) -> dict[str, str]:
    """`metadata[order_id]=O-5001` → `{"order_id": "O-5001"}`."""
    return {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in form.items()
        if name.startswith("metadata[")
    }

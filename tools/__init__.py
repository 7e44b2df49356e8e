"""Typed tools, the gate every call passes, and the ledger every effect is recorded in."""

"""Keyset pages: an opaque cursor that names the last row of the page before."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import StringConstraints

from casework.errors import InputInvalid

Position = tuple[datetime, UUID]

Limit = Annotated[int, Query(ge=1, le=200, description="How many at most.")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before; none: the first.")]
Named = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")] | None
"""A filter by name."""


def cursor_of(at: datetime, row_id: UUID) -> str:
    return base64.urlsafe_b64encode(f"{at.isoformat()} {row_id}".encode()).decode().rstrip("=")


def position_of(cursor: str | None) -> Position | None:
    """Raises InputInvalid for anything that `cursor_of` did not make."""
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        at, _, row_id = text.partition(" ")
        position = datetime.fromisoformat(at), UUID(row_id)
    except (ValueError, binascii.Error) as error:
        raise InputInvalid("cursor: pass the `next_cursor` of an earlier page unchanged", field="cursor") from error
    if position[0].tzinfo is None:
        raise InputInvalid("cursor: pass the `next_cursor` of an earlier page unchanged", field="cursor")
    return position

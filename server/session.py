"""A person's session: a signed cookie that names their API key, so that revoking the key ends the session."""

from __future__ import annotations

import hmac
import re
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from casework.actor import Actor
from casework.errors import NotAllowed, NotSignedIn
from casework.identity import Identity

COOKIE = "casework_session"
LIFETIME = timedelta(hours=12)
SHAPE = re.compile(r"([0-9a-f]{1,64})\.([0-9]{1,12})\.([0-9a-f]{64})")
"""key id, expiry in seconds since 1970, signature"""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def start(response: Response, request: Request, identity: Identity, key_id: str, now: datetime) -> None:
    """Sign the browser in as the holder of this key."""
    expiry = int((now + LIFETIME).timestamp())
    response.set_cookie(
        COOKIE,
        f"{key_id}.{expiry}.{_signature(identity, key_id, expiry)}",
        max_age=int(LIFETIME.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def end(response: Response) -> None:
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")


async def holder(cookie: str, identity: Identity, now: datetime) -> Actor:
    """Who is signed in with this cookie. Raises NotSignedIn when it is forged, too old, or its key is not live."""
    found = SHAPE.fullmatch(cookie)
    if found is None:
        raise NotSignedIn
    key_id, expiry, signature = found[1], int(found[2]), found[3]
    genuine = hmac.compare_digest(signature, _signature(identity, key_id, expiry))
    if not genuine or expiry <= now.timestamp():
        raise NotSignedIn
    return await identity.holder(key_id)


def refuse_foreign_origin(request: Request) -> None:
    """Refuse an unsafe request that another site's page made the browser send. Raises NotAllowed.

    Browsers that say nothing about a request's origin are not trusted either.
    """
    if request.method in SAFE_METHODS:
        return
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin", "")
    same = site == "same-origin" if site else urlsplit(origin).netloc == request.headers.get("host")
    if not same:
        raise NotAllowed("this request came from another site; send it from this one, or use an API key")


def _signature(identity: Identity, key_id: str, expiry: int) -> str:
    return identity.seal(f"session:{key_id}:{expiry}").hex()

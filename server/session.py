"""The browser's side of a session: a cookie with a random token. casework/sessions.py knows whose it is.

What keeps other sites from using it is the browser's own word about where a request comes from: every request that
changes something must say that it is from our own pages, and one that says nothing is refused. A token in each form
would prove the same once more and protect nothing else: whoever can read our pages to steal one can send the form too.
"""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from casework.errors import NotAllowed

COOKIE = "casework_session"
TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def start(response: Response, request: Request, token: str, lifetime: timedelta) -> None:
    """Give the browser its token. Lax: a link in a mail may open the desk; what changes something is checked apart."""
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(lifetime.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )


def end(response: Response) -> None:
    response.delete_cookie(COOKIE, httponly=True, samesite="lax")


def token_of(request: Request) -> str | None:
    """The token that came with a request; None when none did, or what came cannot be one."""
    cookie = request.cookies.get(COOKIE, "")
    return cookie if TOKEN.fullmatch(cookie) else None


def by_hand(request: Request) -> bool:
    """Whether a person opened a page or sent a form, rather than an open page asking for news on its own."""
    return request.method not in SAFE_METHODS or request.headers.get("sec-fetch-mode", "navigate") == "navigate"


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

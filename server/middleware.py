"""Around every request: its id, one log line, the size limit, security headers, and the last catch of all errors."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable
from uuid import uuid4

import structlog
from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from casework.telemetry import logger

log = logger(__name__)

BODY_LIMIT = 256 * 1024
"""Bytes of a request body."""
REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
"""What a caller's own X-Request-Id may look like; anything else is replaced, so that no log line can be forged."""

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

Answer = Callable[[Request, Exception], Awaitable[Response]]


class RequestEdge:
    """The outermost layer of ours. `answer` turns an exception into a response."""

    def __init__(self, app: ASGIApp, answer: Answer) -> None:
        self.app = app
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get("x-request-id"))
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(MutableHeaders(scope=message), request_id, scope["path"])
            await send(message)

        began = time.perf_counter()
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self.app(scope, _limited(scope, receive), send_with_headers)
        except Exception as error:
            log.exception("request.failed", method=scope["method"], path=scope["path"])
            if not status:
                response = await self.answer(Request(scope), error)
                await response(scope, receive, send_with_headers)
        finally:
            took_ms = round((time.perf_counter() - began) * 1000, 1)
            log.info("request.done", method=scope["method"], path=scope["path"], status=status, took_ms=took_ms)


def _request_id(given: str | None) -> str:
    return given if given and REQUEST_ID.fullmatch(given) else uuid4().hex


def _add_headers(headers: MutableHeaders, request_id: str, path: str) -> None:
    headers["X-Request-Id"] = request_id
    if not path.startswith("/static/"):
        headers.setdefault("Cache-Control", "no-store")
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)


def _limited(scope: Scope, receive: Receive) -> Receive:
    """Refuse a body above the limit: at its first byte when it was announced, else where it crosses."""
    announced = _announced(scope["headers"])
    read = 0

    async def limited() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if max(read, announced) > BODY_LIMIT:
            raise HTTPException(413, f"the body is larger than {BODY_LIMIT} bytes")
        return message

    return limited


def _announced(headers: Iterable[tuple[bytes, bytes]]) -> int:
    length = dict(headers).get(b"content-length", b"0")
    return int(length[:20]) if length.isdigit() else 0

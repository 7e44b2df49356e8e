"""A payment provider for the demo and the tests: Stripe's API for charges and refunds, with pretend money.

    python -m tools.shop.sandbox_provider --port 0 --book .casework/payments.jsonl

prints `READY http://127.0.0.1:PORT` once it listens. What it honours: Bearer keys, form encoding, error bodies,
Idempotency-Key, over-refunds. It fails on demand: with a `Sandbox-Fault` header on a request (`429`, `500`, `402`,
`drop`), or for the next requests by a POST of `{"kind": "drop", "count": 2}` to /sandbox/faults (DELETE clears).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qsl

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tools.shop.sandbox_book import Book, Refusal, Reply
from tools.shop.sandbox_faults import INSTEAD, Fault, FaultKind, Faults

SANDBOX_KEY = "sk_test_larkspur"
"""The only secret key the sandbox takes; worth nothing anywhere else."""

Handler = Callable[[Request], Awaitable[Response]]


class BrokenConnection(Response):
    """Promises a body and ends without it: the server then closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})


def sandbox_app(book: Path, faults: Faults | None = None) -> Starlette:
    """The provider as an ASGI app, keeping its money in `book`."""
    provider = _Provider(Book(book), faults or Faults())

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with contextlib.closing(provider.book):
            yield

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/v1/charges", provider.guarded(provider.write), methods=["POST"]),
            Route("/v1/charges/{charge_id}", provider.guarded(provider.get_charge), methods=["GET"]),
            Route("/v1/refunds", provider.guarded(provider.write), methods=["POST"]),
            Route("/v1/refunds", provider.guarded(provider.list_refunds), methods=["GET"]),
            Route("/sandbox/faults", provider.add_fault, methods=["POST"]),
            Route("/sandbox/faults", provider.clear_faults, methods=["DELETE"]),
        ],
    )


class _Provider:
    def __init__(self, book: Book, faults: Faults) -> None:
        self.book = book
        self.faults = faults

    def guarded(self, handler: Handler) -> Handler:
        """Check the key, meet the fault if one is due, and turn refusals into Stripe's error bodies."""

        async def handle(request: Request) -> Response:
            try:
                _authenticate(request)
                fault = _asked_fault(request) or self.faults.take()
                if fault and fault.kind in INSTEAD:
                    return _json(INSTEAD[fault.kind])
                answer = await handler(request)
            except Refusal as refusal:
                return _json(refusal.reply)
            if fault and fault.kind is FaultKind.DROP:
                return BrokenConnection()
            if fault and fault.kind is FaultKind.DELAY:
                await asyncio.sleep(fault.delay_s)
            return answer

        return handle

    async def write(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
        reply, replayed = self.book.write(request.url.path, form, request.headers.get("Idempotency-Key"))
        return _json(reply, {"Idempotent-Replayed": "true"} if replayed else None)

    async def get_charge(self, request: Request) -> Response:
        return JSONResponse(self.book.charge(request.path_params["charge_id"]))

    async def list_refunds(self, request: Request) -> Response:
        written = request.query_params.get("limit", "10")
        limit = int(written) if written.isdecimal() else 10
        refunds = self.book.refunds(request.query_params.get("charge"))
        page = {"object": "list", "url": "/v1/refunds", "data": refunds[:limit], "has_more": len(refunds) > limit}
        return JSONResponse(page)

    async def add_fault(self, request: Request) -> Response:
        try:
            self.faults.add(Fault.model_validate_json(await request.body()))
        except ValidationError as error:
            return JSONResponse({"error": error.errors(include_url=False, include_input=False)}, status_code=422)
        return JSONResponse({"waiting": self.faults.waiting})

    async def clear_faults(self, request: Request) -> Response:
        self.faults.clear()
        return JSONResponse({"waiting": 0})


def _authenticate(request: Request) -> None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or not key:
        raise Refusal(401, "You did not provide an API key.")
    if not hmac.compare_digest(key.encode(), SANDBOX_KEY.encode()):
        raise Refusal(401, f"Invalid API Key provided: {key[:7]}****")


def _asked_fault(request: Request) -> Fault | None:
    kind = request.headers.get("Sandbox-Fault")
    return Fault(kind=FaultKind(kind)) if kind in set(FaultKind) else None


def _json(reply: Reply, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(reply.body, reply.status, headers)


class _GuestServer(uvicorn.Server):
    """A server inside somebody else's process, whose signal handlers it leaves alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(book: Path) -> uvicorn.Config:
    # Broken connections are wanted here; uvicorn would report each as an error of the app.
    return uvicorn.Config(
        sandbox_app(book), log_level="critical", access_log=False, lifespan="on", timeout_graceful_shutdown=1
    )


def _listen(port: int) -> tuple[socket.socket, str]:
    """A listening socket on loopback and its URL; port 0 picks a free one."""
    listener = socket.create_server(("127.0.0.1", port))
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.asynccontextmanager
async def running_sandbox(book: Path, port: int = 0) -> AsyncIterator[str]:
    """Run the provider in this process; yields its base URL."""
    server = _GuestServer(await asyncio.to_thread(_config, book))  # it opens the book
    listener, url = _listen(port)
    with listener:
        # The socket listens already: requests that come before the server is up wait in its backlog.
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield url
        finally:
            server.should_exit = True
            await serving


async def _main(book: Path, port: int) -> None:
    server = uvicorn.Server(_config(book))
    listener, url = _listen(port)
    with listener:
        sys.stdout.write(f"READY {url}\n")
        sys.stdout.flush()
        await server.serve(sockets=[listener])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Sandbox payment provider with Stripe's API shape.")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free port")
    parser.add_argument("--book", type=Path, required=True, help="JSONL file that keeps the money; made if missing")
    asked = parser.parse_args()
    asyncio.run(_main(asked.book, asked.port))

"""Errors as pages, for the paths that people visit."""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server.problems import Problem
from server.ui.rendering import by_htmx, render

PAGES = ("/desk", "/sign-in", "/sign-out", "/welcome", "/docs")


def is_page(path: str) -> bool:
    """Whether a path is for people; all others answer errors as JSON."""
    return path == "/" or any(path == page or path.startswith(f"{page}/") for page in PAGES)


def error_page(request: Request, problem: Problem) -> Response:
    """Plain words and a way on. Whoever is not signed in is asked to."""
    if problem.status == 401:
        return _to_sign_in(request)
    if by_htmx(request):
        return render("notice.html", problem.status, problem=problem)
    return render("error.html", problem.status, problem=problem, actor=None)


def _to_sign_in(request: Request) -> Response:
    if by_htmx(request):
        return Response(status_code=401, headers={"HX-Redirect": "/sign-in"})
    target = f"/sign-in?next={quote(request.url.path)}" if request.method == "GET" else "/sign-in"
    return RedirectResponse(target, 303)

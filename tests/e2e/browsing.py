"""The desk in a real Chromium: the service with a worker in this process, and a browser window for each person."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from axe_core_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from server.service import Service
from server.up import listen, serving
from tests.web import Web, open_web

CHROMIUM = os.environ.get("CASEWORK_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
"""A browser of the machine's own: Playwright would download one."""
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE, PHONE = {"width": 1360, "height": 860}, {"width": 360, "height": 740}
SHOTS = os.environ.get("CASEWORK_SCREENSHOTS")
"""A folder for screenshots of every page; none are made without it."""
GRAVE = ("serious", "critical")


@dataclass
class Desk:
    """The service as people use it."""

    web: Web
    url: str
    browser: Browser
    complaints: list[str] = field(default_factory=list)
    """What the browser's console said that it should not have: errors, and what the page's policy refused."""

    @asynccontextmanager
    async def window(self, who: str, *, dark: bool = False, phone: bool = False) -> AsyncIterator[Page]:
        """A window of its own for one person, signed in."""
        context = await self.browser.new_context(
            viewport=PHONE if phone else WIDE,  # type: ignore[arg-type]
            color_scheme="dark" if dark else "light",
            has_touch=phone,
            base_url=self.url,
        )
        context.set_default_timeout(20_000)
        page = await context.new_page()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        try:
            await sign_in(page, self.web, who)
            yield page
        finally:
            await context.close()

    def _hear(self, said: ConsoleMessage) -> None:
        """Keep errors, but for answers that refuse: those are told on the page."""
        if said.type == "error" and "Failed to load resource" not in said.text:
            self.complaints.append(f"{said.location.get('url')}: {said.text}")

    async def start(self, case: dict[str, str], mode: str | None = None) -> str:
        """Start a case; the service's own worker takes it up. Returns its id."""
        body = {"input": case, "mode": mode}
        answer = await self.web.call("olga", "POST", "/workflows/support/executions", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["execution_id"])

    async def rest(self, case: dict[str, str], mode: str | None = None) -> str:
        """Start a case and wait until it waits or is over."""
        execution_id = await self.start(case, mode)
        await self.web.rested(execution_id)
        return execution_id

    async def approval(self, execution_id: str) -> dict[str, Any]:
        (found,) = (await self.web.get(f"/approvals?execution_id={execution_id}"))["approvals"]
        approval: dict[str, Any] = found
        return approval


async def sign_in(page: Page, web: Web, who: str) -> None:
    """The one place that knows how people sign in."""
    await page.goto("/sign-in")
    await page.get_by_label("API key").fill(web.keys[who])
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/")


@asynccontextmanager
async def open_desk(service: Service) -> AsyncIterator[Desk]:
    """Skips, visibly, without a browser; in CI it fails."""
    if CHROMIUM is None:
        missing = "there is no chromium: apt-get install chromium, or name one in CASEWORK_CHROMIUM"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    web = await open_web(service)
    with listen("127.0.0.1", 0) as listener:
        at_work = web.worker.running()  # `open_web` has made it, and a process has one at most
        async with at_work, serving(service, listener, worker=False) as url, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            try:
                yield Desk(web, url, browser)
            finally:
                await browser.close()


async def grave(page: Page) -> list[str]:
    """What axe finds that keeps people out: rule, and where."""
    found = await Axe().run(page)
    return [
        f"{rule['id']} ({rule['impact']}): {node['target']} {node.get('failureSummary', '')[:300]}"
        for rule in found["violations"]
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]


async def shoot(page: Page, name: str) -> None:
    """A screenshot of the whole page, when a folder was named."""
    if SHOTS:  # Playwright makes the folder
        await page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True, caret="initial")

"""Real worker processes, quickly: forked off one process that has done the seconds of importing already."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from server.cli import run
from tests.conftest import ROOT
from tests.processes import clean_environment, eventually

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])


@dataclass(frozen=True)
class Forked:
    """One running `casework …` and the file its output goes to."""

    process: ForkServerProcess
    log: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def said(self) -> str:
        return self.log.read_text()

    async def ready(self, sign: str = "is ready") -> None:
        await eventually(lambda: sign in self.said() or self.process.exitcode is not None, self.said)
        assert self.process.exitcode is None, self.said()

    async def killed(self) -> None:
        """Until it has died of -9 at its fault point."""
        await eventually(lambda: self.process.exitcode is not None, self.said)
        assert self.process.exitcode == -signal.SIGKILL, self.said()
        assert "fault.hit" in self.said()

    async def meets(self, point: str) -> None:
        """Until it meets its fault at this point; saying so is the last thing it does before it freezes."""
        await eventually(lambda: any("fault.hit" in line and point in line for line in self._lines()), self.said)

    def _lines(self) -> list[str]:
        return self.said().splitlines()

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It does nothing meanwhile, so that another worker takes what there is."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            self.thaw()

    async def stop(self) -> None:
        """Ask it to stop, and wait until it has."""
        os.kill(self.pid, signal.SIGTERM)
        await eventually(lambda: self.process.exitcode is not None, self.said)
        assert self.process.exitcode == 0, self.said()


@contextmanager
def forked(command: str, log: Path, env: Mapping[str, str]) -> Iterator[Forked]:
    """`casework <command>`; killed on leaving if it still runs."""
    log.touch()
    process = FORKS.Process(target=_casework, args=(command, str(log), {**clean_environment(), **env}), daemon=True)
    process.start()
    try:
        yield Forked(process, log)
    finally:
        process.kill()
        process.join()
        process.close()


def _casework(command: str, log: str, env: Mapping[str, str]) -> None:
    out = os.open(log, os.O_WRONLY | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(out, standard)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["casework", *command.split()]
    run()

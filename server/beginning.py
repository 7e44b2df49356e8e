"""How an execution is begun over HTTP, whichever route it comes in by: idempotent, and waited for on request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response

from casework.execution import Execution, Mode
from graphs.starting import start
from server.auth import Live, Starter
from server.storable import refuse_unstorable
from server.waiting import MOVING, preferred_wait, settled

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x20-\x7e]{1,200}$",
        description="1 to 200 printable ASCII characters. The same key with the same request answers with the first "
        "execution (200) instead of starting another.",
        examples=["order-5042-complaint-1"],
    ),
]


class Beginning:
    """A dependency: everything about the request that matters besides the workflow and its input."""

    def __init__(
        self,
        request: Request,
        response: Response,
        service: Live,
        actor: Starter,
        wait: Annotated[int | None, Depends(preferred_wait)],
        idempotency_key: IdempotencyKey = None,
    ) -> None:
        self.request = request
        self.response = response
        self.service = service
        self.actor = actor
        self.wait = wait
        self.idempotency_key = idempotency_key

    async def __call__(
        self, workflow: str, input_: Mapping[str, Any], field: str, mode: Mode | None = None
    ) -> Execution:
        """Start it, wait as preferred, and set the answer's status and headers. `field`: where the input stood.

        Raises what graphs.starting.start raises.
        """
        refuse_unstorable(dict(input_), field)
        service = self.service
        execution, new = await start(
            service.store,
            service.catalog,
            service.resources,
            self.actor,
            workflow,
            input_,
            idempotency_key=self.idempotency_key,
            mode=mode,
        )
        if self.wait is not None:
            execution = await settled(service.store, execution, self.wait, self.request.is_disconnected)
            self.response.headers["Preference-Applied"] = f"wait={self.wait}"
        self.response.headers["Location"] = f"/executions/{execution.execution_id}"
        self.response.status_code = _status(execution, new)
        return execution


Begin = Annotated[Beginning, Depends()]


def _status(execution: Execution, new: bool) -> int:
    if not new:
        return 200
    return 202 if execution.status in MOVING else 201
